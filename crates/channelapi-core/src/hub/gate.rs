//! What must be true before a publication is taken: there is memory, its channel does not get too many, and what waits for the disk
//! and for the workers is not too much.
//!
//! Invariant: whoever is turned away here has stored nothing, and may come again.

use crate::broker::{Permit, PublishError};
use crate::clock::Clock;
use crate::delivery::Fanout;
use crate::limits::{PACED_MAX, PUBLISH_ROOM_WAIT, PUBLISHING_BYTES_MAX, PUBLISHING_FRACTION, share};
use crate::model::ChannelName;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Lets publications in.
#[derive(Debug)]
pub struct Gate {
    /// Bytes of publications that are being stored, or wait for it.
    bytes: Arc<AtomicUsize>,
    bytes_max: AtomicUsize,
    is_closed: AtomicBool,
    channels: Paces<ChannelName>,
    /// By their names, which the configuration gives.
    keys: Paces<Box<str>>,
}

/// How many publications there may be for each of some things.
#[derive(Debug)]
struct Paces<K> {
    /// In a second; 0 for any number.
    rate: AtomicU64,
    /// Until when the permits of each are used up, in microseconds.
    until: Mutex<HashMap<K, u64>>,
}

impl<K> Default for Paces<K> {
    fn default() -> Self {
        Self { rate: AtomicU64::new(0), until: Mutex::default() }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            bytes: Arc::default(),
            bytes_max: AtomicUsize::new(PUBLISHING_BYTES_MAX),
            is_closed: AtomicBool::new(false),
            channels: Paces::default(),
            keys: Paces::default(),
        }
    }
}

impl Gate {
    /// Takes so much at once as befits a node that may use so many bytes of memory.
    pub(super) fn set_memory(&self, memory: u64) {
        let bytes_max = share(PUBLISHING_BYTES_MAX, memory, PUBLISHING_FRACTION);
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Takes nothing while memory is short.
    pub fn set_closed(&self, is_closed: bool) {
        self.is_closed.store(is_closed, Ordering::Relaxed);
    }

    /// Publications a second that one channel may get; 0 for any number.
    pub fn set_channel_rate(&self, per_second: u64) {
        self.channels.rate.store(per_second, Ordering::Relaxed);
    }

    /// Publications a second that may come with one API key; 0 for any number.
    pub fn set_key_rate(&self, per_second: u64) {
        self.keys.rate.store(per_second, Ordering::Relaxed);
    }

    /// Whether there is a limit for API keys.
    pub fn has_key_rate(&self) -> bool {
        self.keys.rate.load(Ordering::Relaxed) > 0
    }

    /// Lets in so many more that come with an API key: all of them or none.
    pub fn admit_key(&self, name: &str, count: usize, clock: &Clock) -> Result<(), PublishError> {
        self.keys.admit(|| name.into(), count, clock)
    }

    /// Bytes of publications that are being stored.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits for a moment while too much waits for the workers.
    pub(super) async fn wait_for_room(&self, fanout: &Fanout) -> Result<(), PublishError> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(PublishError::ShortOfMemory);
        }
        let room = tokio::time::timeout(PUBLISH_ROOM_WAIT, fanout.room()).await;
        room.map_err(|_| PublishError::Congested)?;
        if self.is_closed.load(Ordering::Relaxed) { Err(PublishError::ShortOfMemory) } else { Ok(()) }
    }

    /// Lets in what is to be published.
    pub(super) fn enter(&self, bytes: usize) -> Result<Permit, PublishError> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(PublishError::ShortOfMemory);
        }
        let (permit, before) = Permit::take(bytes, &self.bytes);
        // One batch alone may be larger than all.
        if before > 0 && before + bytes > self.bytes_max.load(Ordering::Relaxed) {
            return Err(PublishError::Overloaded);
        }
        Ok(permit)
    }

    /// Lets in so many more publications of a channel: all of them or none.
    pub(super) fn admit(
        &self,
        channel: &ChannelName,
        count: usize,
        clock: &Clock,
    ) -> Result<(), PublishError> {
        self.channels.admit(|| channel.clone(), count, clock)
    }
}

impl<K: Eq + Hash> Paces<K> {
    fn admit(&self, of: impl FnOnce() -> K, count: usize, clock: &Clock) -> Result<(), PublishError> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return Ok(());
        }
        let interval = (SECOND / rate).max(1);
        // As many as a second's may come at once.
        let most = SECOND / interval;
        if count as u64 > most {
            return Err(PublishError::TooMany(most));
        }
        let now = clock.monotonic_millis() * (SECOND / 1_000);
        let of = of();
        let mut all = self.until.lock();
        if all.len() >= PACED_MAX && !all.contains_key(&of) {
            all.retain(|_, until| *until > now);
            if all.len() >= PACED_MAX {
                // So many at once are not one that gets too much.
                all.clear();
            }
        }
        let until = all.entry(of).or_default();
        let used = (*until).max(now) + interval * count as u64;
        if used > now + SECOND {
            return Err(PublishError::TooFast);
        }
        *until = used;
        Ok(())
    }
}

/// Microseconds.
const SECOND: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Form, FrameEncoder};
    use crate::model::{Checkpoint, Publication};
    use std::time::Duration;

    struct Silence;

    impl FrameEncoder for Silence {
        fn publication(&self, _: &Publication, _: Form, _: &mut Vec<u8>) {}
        fn checkpoint(&self, _: &Checkpoint, _: &mut Vec<u8>) {}
        fn gap(&self, _: &ChannelName, _: crate::broker::Gap, _: Form, _: &mut Vec<u8>) {}
    }

    #[test]
    fn what_is_being_stored_is_bounded_and_comes_down_again() {
        let gate = Gate::default();
        let huge = gate.enter(2 * PUBLISHING_BYTES_MAX).unwrap();
        assert_eq!(gate.enter(1).err(), Some(PublishError::Overloaded));
        drop(huge);
        let _half = gate.enter(PUBLISHING_BYTES_MAX / 2).unwrap();
        let other = gate.enter(PUBLISHING_BYTES_MAX / 2).unwrap();
        assert!(gate.enter(1).is_err());
        drop(other);
        assert_eq!(gate.bytes(), PUBLISHING_BYTES_MAX / 2);

        gate.set_closed(true);
        assert_eq!(gate.enter(1).err(), Some(PublishError::ShortOfMemory));
    }

    #[tokio::test]
    async fn nobody_waits_for_workers_while_memory_is_short() {
        let (fanout, _workers) = Fanout::new(1, Arc::new(Silence));
        let gate = Gate::default();
        assert_eq!(gate.wait_for_room(&fanout).await, Ok(()));
        gate.set_closed(true);
        assert_eq!(gate.wait_for_room(&fanout).await, Err(PublishError::ShortOfMemory));
    }

    #[test]
    fn a_channel_gets_its_rate_and_no_other_pays_for_it() {
        let [one, other] = ["one", "other"].map(|name| ChannelName::parse(name).unwrap());
        let (gate, clock) = (Gate::default(), Clock::manual(5_000));
        assert!((0..100_000).all(|_| gate.admit(&one, 1, &clock).is_ok()));
        gate.set_channel_rate(100);
        let taken = |channel| (0..1_000).take_while(|_| gate.admit(channel, 1, &clock).is_ok()).count();
        assert_eq!((taken(&one), taken(&other), taken(&one)), (100, 100, 0));
        clock.advance(Duration::from_millis(100));
        assert_eq!(taken(&one), 10);
        clock.advance(Duration::from_secs(10));
        assert_eq!(gate.admit(&one, 101, &clock), Err(PublishError::TooMany(100)));
        assert_eq!(gate.admit(&one, 100, &clock), Ok(()));
        assert_eq!(gate.admit(&one, 1, &clock), Err(PublishError::TooFast));
    }
}
