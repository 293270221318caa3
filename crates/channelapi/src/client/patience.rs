//! How often and how long something is tried again.

use std::time::{Duration, Instant};

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Longest pause that a server gets by asking for it; one that wants more is asked sooner.
const ASKED_MAX: Duration = Duration::from_mins(5);

const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Pauses that grow, until the time is up.
pub(super) struct Patience {
    /// `None` is for ever.
    total: Option<Duration>,
    deadline: Option<Instant>,
    next: Duration,
    has_failed: bool,
}

impl Patience {
    /// Patience for this long, counted from the first failure.
    pub(super) fn of(total: Duration) -> Self {
        Self { total: Some(total), deadline: None, next: FIRST_PAUSE, has_failed: false }
    }

    pub(super) fn endless() -> Self {
        Self { total: None, deadline: None, next: FIRST_PAUSE, has_failed: false }
    }

    /// Whether nothing failed since the last success.
    pub(super) fn is_fresh(&self) -> bool {
        !self.has_failed
    }

    /// How long to wait before the next try; `None` when there is to be none. `asked` is what the server wants.
    pub(super) fn pause(&mut self, now: Instant, asked: Option<Duration>) -> Option<Duration> {
        let deadline = self.total.map(|total| *self.deadline.get_or_insert(now + total));
        let pause = self.next.max(asked.unwrap_or_default().min(ASKED_MAX));
        self.has_failed = true;
        self.next = (self.next * 2).min(PAUSE_MAX);
        deadline.is_none_or(|deadline| now + pause < deadline).then_some(pause)
    }

    /// It worked: the next failure is a first one again.
    pub(super) fn renew(&mut self) {
        self.extend();
        self.has_failed = false;
    }

    /// A part of it worked: there is as much time again, but the next failure is no news.
    pub(super) fn extend(&mut self) {
        self.deadline = None;
        self.next = FIRST_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_the_time_is_up() {
        let start = Instant::now();
        let mut patience = Patience::of(Duration::from_secs(10));
        let (mut now, mut tries) = (start, 0);
        assert!(patience.is_fresh());
        while let Some(pause) = patience.pause(now, None) {
            now += pause;
            tries += 1;
        }
        // 0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 = 6.3; the next, 5, would end after the tenth second.
        assert_eq!((tries, now - start), (6, Duration::from_millis(6300)));
        patience.renew();
        assert_eq!(patience.pause(now, None), Some(FIRST_PAUSE));
    }

    #[test]
    fn the_servers_wish_counts_when_it_is_longer() {
        let now = Instant::now();
        let mut patience = Patience::of(Duration::from_secs(10));
        assert_eq!(patience.pause(now, Some(Duration::from_secs(3))), Some(Duration::from_secs(3)));
        assert_eq!(patience.pause(now, Some(Duration::from_millis(1))), Some(FIRST_PAUSE * 2));
        assert_eq!(patience.pause(now, Some(Duration::from_mins(1))), None);
    }

    /// Once, what a server asked for was added to the time of day, which holds no eternity.
    #[test]
    fn no_server_is_waited_for_in_eternity() {
        let now = Instant::now();
        assert_eq!(Patience::of(Duration::from_secs(10)).pause(now, Some(Duration::MAX)), None);
        assert_eq!(Patience::endless().pause(now, Some(Duration::MAX)), Some(ASKED_MAX));
    }

    #[test]
    fn a_part_that_worked_gives_as_much_time_again() {
        let start = Instant::now();
        let mut patience = Patience::of(Duration::from_secs(10));
        patience.pause(start, None);
        patience.extend();
        assert!(!patience.is_fresh());
        assert_eq!(patience.pause(start + Duration::from_secs(20), None), Some(FIRST_PAUSE));
        patience.renew();
        assert!(patience.is_fresh());
    }

    #[test]
    fn endless_patience_has_a_longest_pause() {
        let mut patience = Patience::endless();
        let last = (0..20).filter_map(|_| patience.pause(Instant::now(), None)).last();
        assert_eq!(last, Some(PAUSE_MAX));
    }
}
