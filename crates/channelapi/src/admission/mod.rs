//! Who may come in, and how much of everything strangers may have: the limits that can be set, and what is counted against them.
//!
//! - `settings.rs` turns the options into numbers, `rate.rs` is how often something may happen.
//! - `addresses.rs` remembers what each address has open, `users.rs` what each user has, `streams.rs` which clients are event streams,
//!   `waiting.rs` the connections that have not sent a whole request yet, `websockets.rs` counts those that have left HTTP.
//! - `resting.rs` are HTTP connections between two requests, which go when others need their room.
//! - `memory.rs` looks at how much memory there is.
//!
//! Invariants:
//! - Whatever was let in is counted until it is gone: a [`SocketPass`] says so when it is dropped, a connection when it is.
//! - A limit per address holds for strangers only; `None` in place of an address is whoever is not one.
//! - The reserve of file descriptors is never given to sessions and event streams of clients, and half of it to no connection at all: that
//!   is the store's. The other half is for publishers and health, and half of that is closed to strangers, whatever they do with what they
//!   have. What clients open in the rest of it goes when it rests (`resting.rs`) or waits (`waiting.rs`).

mod addresses;
mod memory;
#[cfg(test)]
mod page;
mod rate;
mod resting;
mod settings;
mod streams;
#[cfg(test)]
mod tests;
mod tokens;
mod users;
mod waiting;
mod websockets;

pub(crate) use memory::{Memory, Pressure, Usage};
pub(crate) use rate::Pace;
pub(crate) use resting::Rests;
pub(crate) use settings::Limits;
pub(crate) use streams::StreamPass;
pub(crate) use users::{UserFull, UserPass};

use crate::live::Live;
use crate::metrics::{ConnectionRefused, HandshakeRefused, RestEnded};
use crate::waiting::Owner;
use addresses::{Addresses, Entry};
use channelapi_core::clock::Clock;
use channelapi_core::limits::{
    HTTP_CONNECTIONS_OF_POLLING, HTTP_CONNECTIONS_WHEN_SHORT, HTTP_REST_MARGIN_WHEN_SHORT, HTTP_REST_MIN,
};
use parking_lot::Mutex;
use resting::{NextLook, end_rest_of_one_in};
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use users::Users;
use waiting::{Room, Waiting, Who};
use websockets::WebSockets;

/// Decides who may come in.
pub(crate) struct Admission {
    limits: Live<Limits>,
    clock: Clock,
    addresses: Mutex<Addresses>,
    users: Users,
    waiting: Waiting,
    /// Connections that speak HTTP.
    sockets: AtomicUsize,
    /// Sessions of clients, and event streams.
    sessions: AtomicUsize,
    /// Event streams: their sockets are among those that speak HTTP.
    streams: AtomicUsize,
    /// Connections that have left HTTP.
    websockets: WebSockets,
    /// When somebody who rests is looked for if the node is full, in favour of a stranger, and in favour of somebody else: a flood of the one
    /// must not keep the other from it.
    look_for_strangers: NextLook,
    look_for_others: NextLook,
    pressure: AtomicU8,
    memory_used: AtomicU64,
    memory_limit: AtomicU64,
    is_draining: AtomicBool,
    /// Makes of a token what is remembered of it: nobody can find two of which that is the same.
    presented: RandomState,
}

/// Which address something is counted for: its number, or [`AddressNumber::NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressNumber(u32);

impl AddressNumber {
    /// Whoever it is, no limit per address holds for them.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// Somebody else looks after it.
    const KEPT: Self = Self(u32::MAX - 1);

    /// Whose the room is that it takes.
    pub(crate) fn owner(self) -> Owner {
        if self == Self::NONE { Owner::NOBODY } else { Owner::address(self.0) }
    }

    fn index(self) -> Option<usize> {
        (self != Self::NONE).then_some(self.0 as usize)
    }
}

impl Admission {
    /// Nobody is here yet.
    pub(crate) fn new(limits: Limits, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            limits: Live::new(limits),
            clock,
            addresses: Mutex::default(),
            users: Users::default(),
            waiting: Waiting::default(),
            sockets: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            websockets: WebSockets::default(),
            look_for_strangers: NextLook::default(),
            look_for_others: NextLook::default(),
            pressure: AtomicU8::new(Pressure::None as u8),
            memory_used: AtomicU64::new(0),
            memory_limit: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
            presented: RandomState::default(),
        })
    }

    /// Nothing is limited.
    pub(crate) fn unlimited(clock: Clock) -> Arc<Self> {
        Self::new(Limits::NONE, clock)
    }

    /// The limits as they are now.
    pub(crate) fn limits(&self) -> Limits {
        **self.limits.load()
    }

    /// Where the limits can be replaced. What is here stays.
    pub(crate) fn live_limits(&self) -> Live<Limits> {
        self.limits.clone()
    }

    /// Sessions of clients, and event streams.
    #[cfg(test)]
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Connections that speak HTTP.
    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Connections that speak HTTP, without those that clients need who are here: what they send must find a way in.
    fn further_sockets(&self) -> usize {
        let sessions = self.sessions.load(Ordering::Relaxed);
        let polling = sessions.saturating_sub(self.streams() + self.websockets.of_sessions());
        self.sockets().saturating_sub(self.streams() + HTTP_CONNECTIONS_OF_POLLING * polling)
    }

    /// How short memory is.
    pub(crate) fn pressure(&self) -> Pressure {
        Pressure::of(self.pressure.load(Ordering::Relaxed))
    }

    /// Whether memory is so short that nothing new is taken.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.pressure() != Pressure::None
    }

    /// Notes what memory is used, of how much, and what that means.
    pub(crate) fn note_memory(&self, used: u64, limit: u64, pressure: Pressure) {
        self.memory_used.store(used, Ordering::Relaxed);
        self.memory_limit.store(limit, Ordering::Relaxed);
        self.pressure.store(pressure as u8, Ordering::Relaxed);
    }

    /// Memory is short: connections of strangers go that have rested for longer than a client rests that polls, which says something once in a
    /// `ping_interval`. When it is very short, so does half of all that rest.
    pub(crate) fn end_rests(&self, pressure: Pressure, ping_interval: Duration) {
        let addresses = self.addresses.lock();
        let strangers = addresses.strangers_resting();
        match pressure {
            Pressure::None => {}
            Pressure::High => {
                let at_least = ping_interval + HTTP_REST_MARGIN_WHEN_SHORT;
                end_rest_of_one_in(1, at_least, strangers, RestEnded::Memory);
            }
            Pressure::Critical => {
                let everybody = strangers.chain(addresses.others_resting.iter().map(|(_, one)| one));
                end_rest_of_one_in(2, HTTP_REST_MIN, everybody, RestEnded::Memory);
            }
        }
    }

    /// What memory was used last, and of how much.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.memory_used.load(Ordering::Relaxed), self.memory_limit.load(Ordering::Relaxed))
    }

    /// Connections that have not sent a whole request yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.count()
    }

    /// The server will stop: whoever can go elsewhere should.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server will stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// A connection was accepted. It may stay as long as it has its pass, and must say something before others need its place.
    pub(crate) fn admit_socket(
        self: &Arc<Self>,
        address: Option<IpAddr>,
    ) -> Result<SocketPass, ConnectionRefused> {
        self.admit(Who::of(address))
    }

    /// The same, where a proxy has still to say for whom it is. Until then it counts for no address, but gets no more than a stranger.
    pub(crate) fn admit_unannounced(self: &Arc<Self>) -> Result<SocketPass, ConnectionRefused> {
        self.admit(Who::Unannounced)
    }

    fn admit(self: &Arc<Self>, who: Who) -> Result<SocketPass, ConnectionRefused> {
        let limits = self.limits();
        let room = self.room(who, &limits);
        if room.taken >= room.limit {
            self.waiting.shrink(who.is_stranger(), room);
            self.make_room(who.is_stranger());
            return Err(ConnectionRefused::Node);
        }
        let number = match who {
            Who::Neighbour | Who::Unannounced => AddressNumber::NONE,
            Who::Stranger(address) => self.count_socket(address, &limits)?,
        };
        self.sockets.fetch_add(1, Ordering::Relaxed);
        let place = self.waiting.enter(who, self.room(who, &limits));
        let has_spoken = AtomicBool::new(false);
        Ok(SocketPass { admission: self.clone(), number, resting: RestNumber::NONE, place, has_spoken })
    }

    /// How much room there is. Strangers get none of what is kept for others.
    fn room(&self, who: Who, limits: &Limits) -> Room {
        let limit = if who.is_stranger() { limits.sockets_of_strangers } else { limits.sockets };
        Room { most: limits.handshakes, limit, taken: self.sockets() + self.websockets() }
    }

    fn count_socket(&self, address: IpAddr, limits: &Limits) -> Result<AddressNumber, ConnectionRefused> {
        if self.is_short_of_memory() && self.further_sockets() >= HTTP_CONNECTIONS_WHEN_SHORT {
            return Err(ConnectionRefused::Memory);
        }
        let now = self.clock.monotonic_millis();
        let mut addresses = self.addresses.lock();
        let (number, entry) = addresses.entry(address, now);
        // Nobody goes in favour of a connection that comes too soon.
        if entry.is_out_of_connections(limits.connecting, now) {
            return Err(ConnectionRefused::AddressRate);
        }
        if !entry.has_room(limits.connections_per_address, now) {
            return Err(ConnectionRefused::Address);
        }
        if !entry.connects(limits.connecting, now) {
            return Err(ConnectionRefused::AddressRate);
        }
        entry.sockets += 1;
        Ok(number_of(number))
    }

    /// A client wants a session.
    pub(crate) fn admit_session(
        self: &Arc<Self>,
        address: Option<IpAddr>,
    ) -> Result<SessionPass, HandshakeRefused> {
        let limits = self.limits();
        if self.is_short_of_memory() {
            return Err(HandshakeRefused::Memory);
        }
        if self.sessions.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(HandshakeRefused::Node);
        }
        let pass = |number| SessionPass { admission: self.clone(), number };
        let Some(address) = address else { return Ok(pass(AddressNumber::NONE)) };
        let now = self.clock.monotonic_millis();
        let mut addresses = self.addresses.lock();
        let (number, entry) = addresses.entry(address, now);
        let refusal = if entry.sessions >= limits.connections_per_address {
            Some(HandshakeRefused::Address)
        } else if entry.failed_tokens.is_spent(limits.failed_tokens, now) {
            Some(HandshakeRefused::TokenRate)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(refusal);
        }
        entry.opens_session(limits.connecting);
        Ok(pass(number_of(number)))
    }

    /// A session is gone whose pass was [kept](SessionPass::keep).
    pub(crate) fn end_session(&self, number: AddressNumber) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        self.release(number, |entry| entry.sessions -= 1);
    }

    /// A request names a session that is unknown. Says whether its address may go on so.
    pub(crate) fn unknown_session(&self, address: Option<IpAddr>) -> bool {
        self.counts(address, |entry, limits, now| entry.unknown_sessions.takes(limits.unknown_sessions, now))
            .unwrap_or(true)
    }

    fn counts<T>(
        &self,
        address: Option<IpAddr>,
        take: impl FnOnce(&mut Entry, &Limits, u64) -> T,
    ) -> Option<T> {
        let address = address?;
        let (limits, now) = (self.limits(), self.clock.monotonic_millis());
        let mut addresses = self.addresses.lock();
        let (number, entry) = addresses.entry(address, now);
        let taken = take(entry, &limits, now);
        addresses.forget_if_rested(number, now);
        Some(taken)
    }

    fn release(&self, number: AddressNumber, release: impl FnOnce(&mut Entry)) {
        let Some(index) = number.index() else { return };
        let mut addresses = self.addresses.lock();
        release(addresses.held(index));
        addresses.forget_if_rested(index, self.clock.monotonic_millis());
    }
}

fn number_of(index: usize) -> AddressNumber {
    AddressNumber(u32::try_from(index).expect("there are fewer connections"))
}

/// A connection that speaks HTTP, until it is dropped.
pub(crate) struct SocketPass {
    admission: Arc<Admission>,
    number: AddressNumber,
    resting: RestNumber,
    /// Its place among those that have not sent a whole request yet.
    place: waiting::Place,
    has_spoken: AtomicBool,
}

impl SocketPass {
    /// The client is known by another address than the one that connected.
    pub(crate) fn count_for(&mut self, address: Option<IpAddr>) -> Result<(), ConnectionRefused> {
        let number = match address {
            None => AddressNumber::NONE,
            Some(address) => self.admission.count_socket(address, &self.admission.limits())?,
        };
        let before = std::mem::replace(&mut self.number, number);
        self.admission.release(before, Entry::end_socket);
        self.take_place(Who::of(address));
        Ok(())
    }

    /// Whose the room is that the connection takes.
    pub(crate) fn owner(&self) -> Owner {
        self.number.owner()
    }

    /// From now on it may rest, and may then have to go in favour of another connection of its address, or for want of memory.
    pub(crate) fn may_rest(&mut self, connection: Arc<dyn Rests>) {
        let mut addresses = self.admission.addresses.lock();
        let place = match self.number.index() {
            Some(index) => addresses.held(index).resting.insert(connection),
            None => addresses.others_resting.insert(connection),
        };
        self.resting = RestNumber(u32::try_from(place).expect("there are fewer connections"));
    }

    /// The client has sent its first byte. From now on it has to make room only for others that have, too.
    pub(crate) fn begin(&mut self) {
        if !self.has_begun() && !self.has_spoken.load(Ordering::Relaxed) {
            self.take_place(self.place.who());
        }
    }

    fn take_place(&mut self, who: Who) {
        let room = self.admission.room(who, &self.admission.limits());
        self.admission.waiting.begin(&mut self.place, who, room);
    }

    /// Whether it has.
    pub(crate) fn has_begun(&self) -> bool {
        self.place.has_begun()
    }

    /// The client has sent a whole request.
    pub(crate) fn has_spoken(&self) {
        if !self.has_spoken.swap(true, Ordering::Relaxed) {
            self.admission.waiting.leave(&self.place);
        }
    }

    /// Ready when the connection has to make room for another one, having sent no whole request.
    pub(crate) async fn evicted(&self) {
        self.place.evicted().await;
        if self.has_spoken.load(Ordering::Relaxed) {
            // Its request was on its way when its place was given away.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for SocketPass {
    fn drop(&mut self) {
        self.has_spoken();
        self.admission.sockets.fetch_sub(1, Ordering::Relaxed);
        let resting = (self.resting != RestNumber::NONE).then_some(self.resting.0 as usize);
        if let (None, Some(resting)) = (self.number.index(), resting) {
            self.admission.addresses.lock().others_resting.remove(resting);
        }
        self.admission.release(self.number, |entry| {
            if let Some(resting) = resting {
                entry.forget_resting(resting);
            }
            entry.end_socket();
        });
    }
}

/// Which of the connections of its address one is that may rest: its number, or [`RestNumber::NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RestNumber(u32);

impl RestNumber {
    /// It is none of them.
    const NONE: Self = Self(u32::MAX);
}

/// A session that is about to open. It is counted until this is dropped.
pub(crate) struct SessionPass {
    admission: Arc<Admission>,
    number: AddressNumber,
}

impl SessionPass {
    /// Keeps the session counted. Whoever keeps it says so with [`Admission::end_session`] when it is gone: a connection has the
    /// way to the admission already, and is smaller without another.
    pub(crate) fn keep(mut self) -> AddressNumber {
        std::mem::replace(&mut self.number, AddressNumber::KEPT)
    }
}

impl Drop for SessionPass {
    fn drop(&mut self) {
        if self.number != AddressNumber::KEPT {
            self.admission.end_session(self.number);
        }
    }
}
