//! One timer for all connections: a wheel of buckets, each holding the connections to look at in one stretch of time.
//!
//! A connection costs one entry of eight bytes and no timer of its own. Looking at it too early does no harm: it says when
//! it wants to be looked at next.

use channelapi_core::model::ConnectionId;

/// A ring of buckets over the near future.
#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Vec<Vec<Entry>>,
    granularity: u64,
    /// The bucket that is due next, counted from the clock's zero.
    tick: u64,
}

/// A connection to look at, for its heartbeat or for a deadline. Each has one entry for the first. For the second, one counts while
/// there is a deadline; of those that were there before it came to be earlier, nobody takes notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u64);

impl Entry {
    /// No connection of the gateway has this bit in its id.
    const DEADLINE: u64 = 1 << 63;

    pub(super) fn heartbeat(connection: ConnectionId) -> Self {
        Self(connection.0)
    }

    pub(super) fn deadline(connection: ConnectionId) -> Self {
        Self(connection.0 | Self::DEADLINE)
    }

    /// Which one.
    pub(super) fn connection(self) -> ConnectionId {
        ConnectionId(self.0 & !Self::DEADLINE)
    }

    pub(super) fn is_heartbeat(self) -> bool {
        self.0 & Self::DEADLINE == 0
    }
}

impl Wheel {
    /// A wheel that looks `horizon` milliseconds ahead, in steps of `granularity`. What is further away is looked at earlier.
    pub(super) fn new(now: u64, granularity: u64, horizon: u64) -> Self {
        let buckets = usize::try_from(horizon / granularity + 2).unwrap_or(usize::MAX).min(4096);
        Self { buckets: vec![Vec::new(); buckets], granularity, tick: now / granularity + 1 }
    }

    /// Puts an entry into the first bucket that is not due before `at`, or into the last one. Says when that is due.
    pub(super) fn schedule(&mut self, entry: Entry, at: u64) -> u64 {
        let tick = self.tick_of(at);
        let bucket = self.bucket_of(tick);
        self.buckets[bucket].push(entry);
        tick * self.granularity
    }

    /// The same, unless it would not be due before another one is. Says when the first of both is due.
    pub(super) fn schedule_before(&mut self, entry: Entry, at: u64, other: u64) -> u64 {
        if self.tick_of(at) * self.granularity < other { self.schedule(entry, at) } else { other }
    }

    /// The entries that are due, in one bucket at a time, and since when they are; `None` when none is left.
    pub(super) fn due(&mut self, now: u64) -> Option<(u64, Vec<Entry>)> {
        let since = self.tick * self.granularity;
        if since > now {
            return None;
        }
        let bucket = self.bucket_of(self.tick);
        self.tick += 1;
        Some((since, std::mem::take(&mut self.buckets[bucket])))
    }

    fn tick_of(&self, at: u64) -> u64 {
        let last = self.tick + self.buckets.len() as u64 - 1;
        at.div_ceil(self.granularity).clamp(self.tick, last)
    }

    fn bucket_of(&self, tick: u64) -> usize {
        usize::try_from(tick % self.buckets.len() as u64).expect("smaller than the number of buckets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry::heartbeat(ConnectionId(number))
    }

    #[test]
    fn entries_are_due_at_their_time_and_never_more_than_a_step_late() {
        let mut wheel = Wheel::new(10_500, 1_000, 25_000);
        for (number, at) in [(1, 10_000), (2, 11_000), (3, 11_001), (4, 35_500), (5, 100_000)] {
            wheel.schedule(entry(number), at);
        }
        let mut seen = Vec::new();
        for now in (10_500..40_000).step_by(250) {
            while let Some((_, due)) = wheel.due(now) {
                seen.extend(due.into_iter().map(|entry| (entry.connection().0, now)));
            }
        }
        // What lies beyond the horizon is looked at when the wheel comes round.
        assert_eq!(seen, [(1, 11_000), (2, 11_000), (3, 12_000), (4, 36_000), (5, 37_000)]);
    }

    #[test]
    fn a_stopped_clock_is_caught_up_bucket_by_bucket() {
        let mut wheel = Wheel::new(0, 10, 100);
        wheel.schedule(entry(1), 50);
        let due: Vec<_> = std::iter::from_fn(|| wheel.due(10_000)).flat_map(|(_, due)| due).collect();
        assert_eq!(due, [entry(1)]);
        wheel.schedule(entry(2), 10_001);
        assert_eq!(wheel.due(10_009), None);
        assert_eq!(wheel.due(10_010), Some((10_010, vec![entry(2)])));
    }

    #[test]
    fn an_entry_that_would_not_be_the_first_is_not_put_in() {
        let mut wheel = Wheel::new(0, 10, 100);
        assert_eq!(wheel.schedule(entry(1), 1_000), 120, "what is far away is due with the last bucket");
        assert_eq!(wheel.schedule_before(entry(1), 111, 120), 120, "that is in the same bucket");
        assert_eq!(wheel.schedule_before(entry(1), 55, 120), 60);
        assert_eq!(wheel.schedule_before(entry(1), 60, 60), 60);
        let due: Vec<_> = std::iter::from_fn(|| wheel.due(200)).filter(|(_, due)| !due.is_empty()).collect();
        assert_eq!(due, [(60, vec![entry(1)]), (120, vec![entry(1)])]);
    }

    #[test]
    fn an_entry_knows_whom_it_is_about_and_what_for() {
        let id = ConnectionId::new(7, 3);
        let (heartbeat, deadline) = (Entry::heartbeat(id), Entry::deadline(id));
        assert_eq!(
            [heartbeat, deadline].map(|entry| (entry.connection(), entry.is_heartbeat())),
            [(id, true), (id, false)]
        );
        assert_eq!(size_of::<Entry>(), 8);
    }
}
