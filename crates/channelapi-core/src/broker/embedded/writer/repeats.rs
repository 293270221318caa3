//! What was published under which idempotency key, for as long as a publisher may repeat it.

use super::super::place::Place;
use super::super::request::PublishError;
use crate::clock::{Clock, millis_of};
use crate::counters::COUNTERS;
use crate::limits::IDEMPOTENCY_WINDOW;
use crate::model::{ChannelName, Durability, EventName, Position};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The keys that are known.
pub(in super::super) struct Repeats {
    known: HashMap<Key, Known>,
    by_age: VecDeque<(u64, Key)>,
    /// How many there may be.
    most: usize,
}

/// A publisher's key; it belongs to a channel.
pub(super) type Key = (ChannelName, Arc<str>);

/// A publication's key and its [`fingerprint`].
pub(super) type Identity = (Key, [u8; 16]);

/// The time by which keys are aged: milliseconds of the log's lives, one behind the other. The time between them does not count,
/// because a wall clock that was set meanwhile would let a repeat be stored twice.
#[derive(Clone)]
pub(in super::super) struct KeysClock {
    clock: Clock,
    /// What [`Clock::monotonic_millis`] said when this life began.
    began: u64,
    /// How long the lives before it took.
    before: u64,
}

impl KeysClock {
    pub(in super::super) fn new(clock: Clock, before: u64) -> Self {
        Self { began: clock.monotonic_millis(), before, clock }
    }

    pub(in super::super) fn now(&self) -> u64 {
        self.before + self.clock.monotonic_millis().saturating_sub(self.began)
    }
}

struct Known {
    fingerprint: [u8; 16],
    published_at: u64,
    stands: Stands,
}

/// Where what was published under a key is, and how safely.
#[derive(Clone, Copy)]
pub(in super::super) struct Stands {
    pub(in super::super) position: Position,
    pub(in super::super) place: Place,
    pub(in super::super) durability: Durability,
}

/// A hash of what is published, to tell a repeat from another publication under the same key.
pub(in super::super) fn fingerprint(event: &EventName, data: &[u8]) -> [u8; 16] {
    let hash = Sha256::new().chain_update(event.as_str()).chain_update([0]).chain_update(data).finalize();
    *hash.first_chunk().expect("a hash is longer")
}

/// Whether what was published then may still be repeated, both by the [`KeysClock`].
pub(in super::super) fn is_fresh(published_at: u64, now: u64) -> bool {
    now.saturating_sub(published_at) <= millis_of(IDEMPOTENCY_WINDOW)
}

impl Repeats {
    /// None, with room for so many.
    pub(in super::super) fn with_room(most: usize) -> Self {
        Self { known: HashMap::new(), by_age: VecDeque::new(), most }
    }

    /// The first publication under the same key, if there was one; an error if that was another.
    pub(super) fn look_up(
        &self,
        key: &Key,
        fingerprint: &[u8; 16],
        now: u64,
    ) -> Option<Result<Stands, PublishError>> {
        let known = self.known.get(key).filter(|known| is_fresh(known.published_at, now))?;
        let is_same = known.fingerprint == *fingerprint;
        Some(if is_same { Ok(known.stands) } else { Err(PublishError::KeyReused) })
    }

    /// Keeps in mind what was published under a key.
    pub(in super::super) fn remember(
        &mut self,
        key: Key,
        fingerprint: [u8; 16],
        published_at: u64,
        stands: Stands,
    ) {
        self.by_age.push_back((published_at, key.clone()));
        self.known.insert(key, Known { fingerprint, published_at, stands });
        if self.by_age.len() > self.most {
            // A publisher that repeats it is taken for one that publishes anew.
            COUNTERS.keys_forgotten.count();
            self.forget_oldest();
        }
    }

    /// What was read from the log belongs to this life from now on.
    pub(in super::super) fn adopt(&mut self, generation: u64) {
        for known in self.known.values_mut() {
            known.stands.place.generation = generation;
        }
    }

    /// Forgets what nobody may repeat any more.
    pub(in super::super) fn forget_old(&mut self, now: u64) {
        while self.by_age.front().is_some_and(|(at, _)| !is_fresh(*at, now)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, key)) = self.by_age.pop_front()
            && self.known.get(&key).is_some_and(|known| known.published_at == at)
        {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_keys_push_out_the_oldest_and_are_counted() {
        let key = |number: u64| (ChannelName::parse("a").unwrap(), Arc::from(number.to_string()));
        let stands = Stands {
            position: Position { epoch: 1, offset: 1, tag: 1 },
            place: Place { generation: 1, sequence: 1, memory: 0 },
            durability: Durability::Fsync,
        };
        let before = COUNTERS.keys_forgotten.value();
        let mut repeats = Repeats::with_room(2);
        for number in 1..=3 {
            repeats.remember(key(number), [0; 16], number, stands);
        }
        let is_known = |number| repeats.look_up(&key(number), &[0; 16], 3).is_some();
        assert_eq!([1, 2, 3].map(is_known), [false, true, true]);
        assert!(COUNTERS.keys_forgotten.value() > before);
    }
}
