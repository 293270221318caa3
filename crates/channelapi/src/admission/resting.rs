//! HTTP connections that rest: their last request is answered, and there is no other. When others need their room, those that have
//! rested longest go first.
//!
//! Invariant: a connection is told to go only between two requests, and one that arrives before it is gone is answered.

use super::Admission;
use crate::metrics::RestEnded;
use channelapi_core::limits::{HTTP_REST_MIN, HTTP_REST_MIN_OF_NEIGHBOURS};
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When an address, or the node, has as many connections as it may, one in so many of those that rest goes: looking for them takes time,
/// and for a while after it there is room.
pub(super) const REST_FRACTION: usize = 16;

/// Milliseconds for which nothing is looked for at an address of which no connection rests, nor at the node after a look.
pub(super) const LOOK_PAUSE_MILLIS: u64 = 100;

/// An HTTP connection that may rest.
pub(crate) trait Rests: Send + Sync {
    /// How long it has rested, if it does.
    fn rests_for(&self) -> Option<Duration>;

    /// Tells it to go. Says whether it still rests.
    fn end_rest(&self, reason: RestEnded) -> bool;

    /// Whether it was told to go, and no request has come since.
    fn is_leaving(&self) -> bool;
}

/// When it is worth the time to look whether somebody rests.
#[derive(Debug, Default)]
pub(super) struct NextLook(AtomicU64);

impl NextLook {
    /// Whether it is now. Who is told so looks, and nobody else does for a while.
    fn is_due(&self, now: u64) -> bool {
        let (at, next) = (self.0.load(Ordering::Relaxed), now + LOOK_PAUSE_MILLIS);
        now >= at && self.0.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Admission {
    /// The node has as many connections as it may: some that rest are told to go, so that whoever is refused now finds room when it comes
    /// again. These are strangers' while any of them rests; otherwise, for whoever is no stranger, those of its like, which have longer.
    /// Strangers do not get these: a crowd of them could take what publishers keep. Whoever a proxy has still to announce counts as one.
    pub(super) fn make_room(&self, is_stranger: bool) {
        let look = if is_stranger { &self.look_for_strangers } else { &self.look_for_others };
        if !look.is_due(self.clock.monotonic_millis()) {
            return;
        }
        let addresses = self.addresses.lock();
        let strangers = addresses.strangers_resting();
        let told = end_rest_of_one_in(REST_FRACTION, HTTP_REST_MIN, strangers, RestEnded::Node);
        if told == 0 && !is_stranger {
            let others = addresses.others_resting.iter().map(|(_, one)| one);
            end_rest_of_one_in(REST_FRACTION, HTTP_REST_MIN_OF_NEIGHBOURS, others, RestEnded::Node);
        }
    }
}

/// Tells one of so many that have rested for at least that long to go, those that have rested longest first, and at least one if there is
/// one. Says how many that were.
pub(super) fn end_rest_of_one_in<'a>(
    part: usize,
    at_least: Duration,
    all: impl Iterator<Item = &'a Arc<dyn Rests>>,
    reason: RestEnded,
) -> usize {
    let rested = |one: &'a Arc<dyn Rests>| Some((one.rests_for()?, one));
    let mut resting: Vec<_> = all.filter_map(rested).filter(|(time, _)| *time >= at_least).collect();
    let count = resting.len().div_ceil(part);
    if count < resting.len() {
        resting.select_nth_unstable_by_key(count, |(time, _)| Reverse(*time));
    }
    resting[..count].iter().filter(|(_, one)| one.end_rest(reason)).count()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// A connection that has rested for so long, and why it was told to go.
    pub(in super::super) struct Resting(Option<Duration>, Mutex<Option<RestEnded>>);

    impl Resting {
        pub(in super::super) fn since(seconds: Option<u64>) -> Arc<Self> {
            Arc::new(Self(seconds.map(Duration::from_secs), Mutex::default()))
        }

        pub(in super::super) fn ended(&self) -> Option<RestEnded> {
            *self.1.lock()
        }

        /// A request has come before it was gone, and is answered.
        pub(in super::super) fn goes_on(&self) {
            *self.1.lock() = None;
        }
    }

    impl Rests for Resting {
        fn rests_for(&self) -> Option<Duration> {
            self.0.filter(|_| self.ended().is_none())
        }

        fn end_rest(&self, reason: RestEnded) -> bool {
            self.1.lock().replace(reason).is_none()
        }

        fn is_leaving(&self) -> bool {
            self.ended().is_some()
        }
    }

    #[test]
    fn those_that_have_rested_longest_go_first() {
        let all: Vec<_> = [Some(3), None, Some(0), Some(70), Some(5), Some(9)].map(Resting::since).into();
        let listed: Vec<Arc<dyn Rests>> = all.iter().map(|one| one.clone() as Arc<dyn Rests>).collect();
        let ends = |part| {
            let count = end_rest_of_one_in(part, Duration::from_secs(1), listed.iter(), RestEnded::Address);
            let gone: Vec<_> = (0..all.len()).filter(|index| all[*index].ended().is_some()).collect();
            (count, gone)
        };
        assert_eq!(ends(2), (2, vec![3, 5]), "the one without a second of rest does not count");
        assert_eq!(ends(16), (1, vec![3, 4, 5]));
        assert_eq!(ends(1), (1, vec![0, 3, 4, 5]));
        assert_eq!(ends(1), (0, vec![0, 3, 4, 5]));
    }
}
