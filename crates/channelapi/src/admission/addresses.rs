//! What each address has open, and how often it has done what is limited.
//!
//! Invariant: an address is remembered only as long as there is something to remember, and never more of them than there are
//! connections and [`ADDRESSES_REMEMBERED_MAX`].

use super::rate::{Pace, Rate};
use super::resting::{LOOK_PAUSE_MILLIS, REST_FRACTION, Rests, end_rest_of_one_in};
use crate::metrics::RestEnded;
use channelapi_core::limits::{
    ADDRESSES_REMEMBERED_MAX, FAILED_TOKENS_REMEMBERED, FURTHER_CONNECTIONS, HTTP_REST_MIN,
    SAME_FAILED_TOKENS,
};
use slab::Slab;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Addresses by number, so that who has a connection from one need not keep the address itself.
#[derive(Default)]
pub(super) struct Addresses {
    numbers: HashMap<IpAddr, usize>,
    entries: Slab<Entry>,
    /// Connections that speak HTTP and may come to rest, of whoever is not counted by address.
    pub(super) others_resting: Slab<Arc<dyn Rests>>,
    /// When nothing more is forgotten until there are so many.
    full_at: usize,
}

/// What is known of one address.
pub(super) struct Entry {
    address: IpAddr,
    /// Open connections that speak HTTP.
    pub(super) sockets: u32,
    /// Those of them that may come to rest.
    pub(super) resting: Slab<Arc<dyn Rests>>,
    /// When it is worth the time to look whether one of them rests.
    look_at: u64,
    /// Sessions of clients.
    pub(super) sessions: u32,
    connecting: Pace,
    /// Connections that were opened at the rate for them, and did not open a session yet.
    first: u32,
    /// Those that may be opened beyond it, by clients that have a session.
    further: u32,
    pub(super) failed_tokens: Pace,
    /// The last ones, by their hashes, the last that was presented first.
    failed: [u64; FAILED_TOKENS_REMEMBERED],
    pub(super) unknown_sessions: Pace,
}

impl Addresses {
    /// An address, remembered from now on.
    pub(super) fn entry(&mut self, address: IpAddr, now: u64) -> (usize, &mut Entry) {
        if self.entries.len() >= self.full_at.max(ADDRESSES_REMEMBERED_MAX)
            && !self.numbers.contains_key(&address)
        {
            self.forget_rested(now);
        }
        let number = *self.numbers.entry(address).or_insert_with(|| {
            self.entries.insert(Entry {
                address,
                sockets: 0,
                resting: Slab::new(),
                look_at: 0,
                sessions: 0,
                connecting: Pace::default(),
                first: 0,
                further: 0,
                failed_tokens: Pace::default(),
                failed: [0; FAILED_TOKENS_REMEMBERED],
                unknown_sessions: Pace::default(),
            })
        });
        (number, &mut self.entries[number])
    }

    /// What is known of an address, if anything is.
    pub(super) fn known(&self, address: IpAddr) -> Option<&Entry> {
        Some(&self.entries[*self.numbers.get(&address)?])
    }

    /// The address with a number, which must be held by something that is open.
    pub(super) fn held(&mut self, number: usize) -> &mut Entry {
        &mut self.entries[number]
    }

    /// The connections that may come to rest, of strangers.
    pub(super) fn strangers_resting(&self) -> impl Iterator<Item = &Arc<dyn Rests>> {
        self.entries.iter().flat_map(|(_, entry)| entry.resting.iter()).map(|(_, one)| one)
    }

    /// Forgets an address of which nothing need be remembered.
    pub(super) fn forget_if_rested(&mut self, number: usize, now: u64) {
        if self.entries[number].is_rested(now) {
            let entry = self.entries.remove(number);
            self.numbers.remove(&entry.address);
        }
    }

    /// Forgets all addresses that have nothing open and have not done anything lately. If that makes no room, those that have nothing
    /// open are forgotten although they did: attackers with so many addresses are not held up by rates for each.
    fn forget_rested(&mut self, now: u64) {
        self.entries.retain(|_, entry| !entry.is_rested(now));
        if self.entries.len() >= ADDRESSES_REMEMBERED_MAX {
            self.entries.retain(|_, entry| entry.is_open());
        }
        self.numbers.retain(|address, number| {
            self.entries.get(*number).is_some_and(|entry| entry.address == *address)
        });
        // Looking at all of them again is worth it only when there are many more.
        self.full_at = self.entries.len() + ADDRESSES_REMEMBERED_MAX / 2;
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        assert_eq!(self.entries.len(), self.numbers.len());
        self.entries.len()
    }
}

impl Entry {
    /// Whether it may have one more connection that speaks HTTP, of so many. If not, some that rest are told to go in its favour. They go on
    /// if a request comes first, so there are never more than one in [`REST_FRACTION`] beyond.
    pub(super) fn has_room(&mut self, most: u32, now: u64) -> bool {
        if self.sockets < most {
            return true;
        }
        if now < self.look_at {
            return false;
        }
        if self.staying() >= most {
            let resting = self.resting.iter().map(|(_, one)| one);
            if end_rest_of_one_in(REST_FRACTION, HTTP_REST_MIN, resting, RestEnded::Address) == 0 {
                self.look_at = now + LOOK_PAUSE_MILLIS;
            }
        }
        let beyond = (self.sockets - most) as usize;
        beyond < (most as usize).div_ceil(REST_FRACTION) && self.staying() < most
    }

    /// Its connections that speak HTTP, without those that are told to go and have not gone on since.
    fn staying(&self) -> u32 {
        let leaving = self.resting.iter().filter(|(_, one)| one.is_leaving()).count();
        self.sockets.saturating_sub(u32::try_from(leaving).unwrap_or(u32::MAX))
    }

    /// One of its connections does not rest any more. With the last of them goes the room for them: the address may be remembered for longer.
    pub(super) fn forget_resting(&mut self, index: usize) {
        self.resting.remove(index);
        if self.resting.is_empty() {
            self.resting = Slab::new();
        }
    }

    /// One of its connections that speak HTTP is gone.
    pub(super) fn end_socket(&mut self) {
        self.sockets -= 1;
    }

    /// Whether it may not open a connection now.
    pub(super) fn is_out_of_connections(&self, rate: Rate, now: u64) -> bool {
        self.further == 0 && self.connecting.is_spent(rate, now)
    }

    /// It opens a connection, unless it may not.
    pub(super) fn connects(&mut self, rate: Rate, now: u64) -> bool {
        if self.further > 0 {
            self.further -= 1;
            return true;
        }
        let may = self.connecting.takes(rate, now);
        self.first = self.first.saturating_add(u32::from(may)).min(rate.burst());
        may
    }

    /// It opens a session. A client that begins by polling needs further connections, and these are not what the rate is against; but each
    /// connection opens them for one session only, so that there are never more than three for one.
    pub(super) fn opens_session(&mut self, rate: Rate) {
        self.sessions += 1;
        if self.first > 0 {
            self.first -= 1;
            let most = rate.burst().saturating_mul(FURTHER_CONNECTIONS);
            self.further = self.further.saturating_add(FURTHER_CONNECTIONS).min(most);
        }
    }

    /// A token is not good, of which this is remembered. Those that are judged at the same time, beyond what there are permits for, are
    /// owed: with many connections there would be as many guesses for each permit that comes.
    pub(super) fn fails(&mut self, presented: u64, rate: Rate, now: u64) {
        let known = self.failed.iter().position(|known| *known == presented);
        self.failed[..=known.unwrap_or(FAILED_TOKENS_REMEMBERED - 1)].rotate_right(1);
        self.failed[0] = presented;
        let parts = if known.is_some() { SAME_FAILED_TOKENS } else { 1 };
        self.failed_tokens.owes_part(rate, parts, now);
    }

    fn is_open(&self) -> bool {
        self.sockets > 0 || self.sessions > 0
    }

    fn is_rested(&self, now: u64) -> bool {
        !self.is_open()
            && self.connecting.is_rested(now)
            && self.failed_tokens.is_rested(now)
            && self.unknown_sessions.is_rested(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(number: usize) -> IpAddr {
        Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into()
    }

    #[test]
    fn a_flood_of_addresses_is_forgotten_and_open_ones_are_not() {
        let rate = Rate::per_second(1, 10);
        let mut addresses = Addresses::default();
        for number in 0..3 * ADDRESSES_REMEMBERED_MAX {
            let (_, entry) = addresses.entry(address(number), 5);
            assert!(entry.connecting.takes(rate, 5));
            entry.sessions = u32::from(number % 1_000 == 0);
        }
        assert!(addresses.count() <= 2 * ADDRESSES_REMEMBERED_MAX);
        for number in (0..3 * ADDRESSES_REMEMBERED_MAX).step_by(1_000) {
            assert_eq!(addresses.known(address(number)).map(|entry| entry.sessions), Some(1));
        }
    }

    #[test]
    fn an_address_is_remembered_until_it_has_rested() {
        let rate = Rate::per_minute(60);
        let mut addresses = Addresses::default();
        let (number, entry) = addresses.entry(address(1), 5);
        assert!(entry.failed_tokens.takes(rate, 5));
        addresses.forget_if_rested(number, 500);
        assert_eq!(addresses.count(), 1);
        addresses.forget_if_rested(number, 1_500);
        assert_eq!(addresses.count(), 0);
    }
}
