//! What a client's JWTs have opened on its connection, and until when.
//!
//! A client that came through the handshake door is told a moment before the end, and may bring a new JWT (`refresh.rs`). If none has
//! come within the grace, its transport is closed: stock clients come back by themselves, ask their application for a new JWT, and go on
//! where they were.
//!
//! Invariants:
//! - A channel is held by one grant, the one that it was joined with last; one that was joined with a token is held by none.
//! - A grant without channels is forgotten, so there are never more than channels.
//! - A connection has a place among those of each user whom one of its grants speaks of, and of nobody else.

use crate::admission::{Admission, UserFull, UserPass};
use channelapi_core::clock::millis_of;
use channelapi_core::hub::Revocations;
use channelapi_core::limits::{JWT_GRACE, JWT_NOTICE};
use channelapi_core::model::{Bearer, ChannelName};
use std::sync::Arc;

/// What the JWTs of one client have opened.
#[derive(Debug, Default)]
pub(super) struct Grants {
    all: Vec<Grant>,
    /// The connection's places among those of the users whom they speak of, one for each user.
    places: Vec<UserPass>,
    /// Whether the client wants to hear of the end before it comes.
    is_told: bool,
    /// Of which end it has heard, by when its grace is over.
    told_of: Option<u64>,
}

/// What one JWT has opened.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) bearer: Bearer,
    /// When the JWT ends, in milliseconds since 1970.
    pub(super) expires_at: u64,
    /// When the grace behind it is over, by the gateway's clock. That one may have begun after the end itself.
    pub(super) over_at: u64,
    pub(super) channels: Vec<ChannelName>,
}

/// What a look at the clock says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is not time yet.
    Wait,
    /// The client is to be told, and has so many milliseconds.
    Tell(u64),
    /// The end has come and the grace is over.
    Over,
}

impl Grants {
    /// The client wants to hear of the end before it comes.
    pub(super) fn tell(&mut self) {
        self.is_told = true;
    }

    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Takes a place among the connections of each user of whom a JWT speaks, unless there is one already: all that are missing, or none.
    pub(super) fn admit<'a>(
        &mut self,
        bearers: impl IntoIterator<Item = &'a Bearer>,
        admission: &Arc<Admission>,
    ) -> Result<(), UserFull> {
        let mut missing: Vec<(&Arc<str>, &str)> = Vec::new();
        for bearer in bearers {
            let Some(subject) = bearer.subject.as_deref() else { continue };
            let user = (&bearer.issuer, subject);
            if !missing.contains(&user)
                && !self.places.iter().any(|place| place.is_of(&bearer.issuer, subject))
            {
                missing.push(user);
            }
        }
        if !missing.is_empty() {
            self.places.extend(admission.admit_users(&missing)?);
        }
        Ok(())
    }

    /// The same for all whom its grants speak of. The places of `former`, which has come to its end for this one, are taken over.
    pub(super) fn admit_all(&mut self, former: Self, admission: &Arc<Admission>) -> Result<(), UserFull> {
        self.places.extend(former.places);
        let all = std::mem::take(&mut self.all);
        let admitted = self.admit(all.iter().map(|grant| &grant.bearer), admission);
        self.all = all;
        admitted
    }

    /// Gives back the places of those of whom no grant speaks any more.
    pub(super) fn settle(&mut self) {
        let is_held = |place: &UserPass| {
            self.all.iter().map(|grant| &grant.bearer).any(|bearer| {
                bearer.subject.as_ref().is_some_and(|subject| place.is_of(&bearer.issuer, subject))
            })
        };
        self.places.retain(is_held);
    }

    /// A JWT has opened channels, which it holds from now on.
    pub(super) fn add(&mut self, grant: Grant) {
        grant.channels.iter().for_each(|channel| self.release(channel));
        let same = self
            .all
            .iter_mut()
            .find(|known| known.expires_at == grant.expires_at && known.bearer == grant.bearer);
        match same {
            Some(known) => known.channels.extend(grant.channels),
            None if grant.channels.is_empty() => {}
            None => self.all.push(grant),
        }
    }

    /// A channel is not held by a JWT any more.
    pub(super) fn release(&mut self, channel: &ChannelName) {
        for grant in &mut self.all {
            grant.channels.retain(|held| held != channel);
        }
        self.all.retain(|grant| !grant.channels.is_empty());
    }

    /// The channels that are held.
    pub(super) fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.all.iter().flat_map(|grant| &grant.channels)
    }

    /// When the first of them ends.
    pub(super) fn first_end(&self) -> Option<u64> {
        Some(self.first_over()?.saturating_sub(millis_of(JWT_GRACE)))
    }

    /// When the grace of the first of them is over.
    fn first_over(&self) -> Option<u64> {
        self.all.iter().map(|grant| grant.over_at).min()
    }

    /// When to look at the clock.
    pub(super) fn next_look(&self) -> Option<u64> {
        let over = self.first_over()?;
        let is_to_be_told = self.is_to_be_told(over);
        Some(if is_to_be_told { over.saturating_sub(millis_of(JWT_NOTICE + JWT_GRACE)) } else { over })
    }

    /// Looks at the clock.
    pub(super) fn look(&mut self, now: u64) -> Look {
        let (Some(over), Some(next)) = (self.first_over(), self.next_look()) else {
            return Look::Wait;
        };
        if now >= over {
            Look::Over
        } else if now >= next && self.is_to_be_told(over) {
            self.told_of = Some(over);
            Look::Tell(over - now)
        } else {
            Look::Wait
        }
    }

    fn is_to_be_told(&self, over: u64) -> bool {
        self.is_told && self.told_of != Some(over)
    }

    /// Whether one of the JWTs was revoked, or a channel for which one is used.
    pub(super) fn is_revoked(&self, revocations: &Revocations) -> bool {
        self.all.iter().any(|grant| revocations.cover(&grant.bearer, &grant.channels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Limits;
    use channelapi_core::clock::Clock;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn grant(subject: &str, ends_at: u64, channels: &[&str]) -> Grant {
        let bearer = Bearer { issuer: "".into(), subject: Some(subject.into()), id: None, issued_at: 0 };
        let channels = channels.iter().map(|name| channel(name)).collect();
        Grant { bearer, expires_at: ends_at, over_at: ends_at + millis_of(JWT_GRACE), channels }
    }

    fn held(grants: &Grants) -> Vec<(&str, Vec<&str>)> {
        grants
            .all
            .iter()
            .map(|grant| {
                let channels = grant.channels.iter().map(ChannelName::as_str).collect();
                (grant.bearer.subject.as_deref().unwrap_or_default(), channels)
            })
            .collect()
    }

    #[test]
    fn a_channel_is_held_by_whoever_joined_it_last() {
        let mut grants = Grants::default();
        grants.add(grant("ann", 100, &["a", "b"]));
        grants.add(grant("ann", 100, &["c"]));
        assert_eq!(held(&grants), [("ann", vec!["a", "b", "c"])]);
        grants.add(grant("bob", 200, &["b"]));
        assert_eq!(held(&grants), [("ann", vec!["a", "c"]), ("bob", vec!["b"])]);
        grants.add(grant("ann", 300, &["a", "c"]));
        assert_eq!(held(&grants), [("bob", vec!["b"]), ("ann", vec!["a", "c"])]);
        grants.release(&channel("b"));
        assert_eq!((held(&grants), grants.first_end()), (vec![("ann", vec!["a", "c"])], Some(300)));
        grants.release(&channel("a"));
        grants.release(&channel("c"));
        assert!(grants.is_empty() && grants.next_look().is_none());
        assert_eq!(grants.look(u64::MAX), Look::Wait);
    }

    #[test]
    fn a_connection_has_one_place_for_each_user_whom_a_grant_speaks_of() {
        let limits = Limits { connections_per_user: 1, ..Limits::NONE };
        let admission = Admission::new(limits, Clock::system());
        let is_there_room = |user| admission.admit_users(&[(&"".into(), user)]).is_ok();
        let mut grants = Grants::default();
        for (user, name) in [("ann", "a"), ("ann", "b"), ("bob", "c")] {
            let grant = grant(user, 100, &[name]);
            assert_eq!(grants.admit([&grant.bearer], &admission), Ok(()));
            grants.add(grant);
            grants.settle();
        }
        grants.release(&channel("a"));
        grants.release(&channel("c"));
        grants.settle();
        assert!(!is_there_room("ann") && is_there_room("bob"));

        let mut another = Grants::default();
        another.add(grant("ann", 100, &["a"]));
        assert_eq!(another.admit_all(Grants::default(), &admission), Err(UserFull));
        assert_eq!(another.admit_all(grants, &admission), Ok(()), "it has taken the place over");
        assert!(!is_there_room("ann"));
        drop(another);
        assert!(is_there_room("ann"));
    }

    #[test]
    fn a_user_without_a_name_is_not_counted() {
        let limits = Limits { connections_per_user: 1, ..Limits::NONE };
        let admission = Admission::new(limits, Clock::system());
        let nobody = Bearer { subject: None, ..grant("", 100, &[]).bearer };
        let mut all = [Grants::default(), Grants::default()];
        assert!(all.iter_mut().all(|grants| grants.admit([&nobody], &admission).is_ok()));
    }

    #[test]
    fn whoever_wants_to_hear_of_the_end_hears_of_it_once_and_all_may_stay_for_the_grace() {
        let (notice, grace) = (millis_of(JWT_NOTICE), millis_of(JWT_GRACE));
        for is_told in [false, true] {
            let mut grants = Grants::default();
            if is_told {
                grants.tell();
            }
            grants.add(grant("ann", 100_000, &["a"]));
            if is_told {
                assert_eq!(grants.next_look(), Some(100_000 - notice));
                assert_eq!(grants.look(100_000 - notice - 1), Look::Wait);
                assert_eq!(grants.look(100_000 - notice), Look::Tell(notice + grace));
            }
            assert_eq!(grants.next_look(), Some(100_000 + grace));
            assert_eq!(grants.look(100_000 + grace - 1), Look::Wait);
            assert_eq!(grants.look(100_000 + grace), Look::Over);
            grants.add(grant("ann", 200_000, &["a"]));
            assert_eq!(grants.look(100_000 + grace), Look::Wait);
            let next = if is_told { 200_000 - notice } else { 200_000 + grace };
            assert_eq!(grants.next_look(), Some(next), "it hears of the next end, too");
        }
    }
}
