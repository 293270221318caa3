//! When the next thing is due.
//!
//! Whoever is late does not stretch the time: what is due waits, and its wait counts. Otherwise a server that stands still for a
//! second would look fast, because nothing would be asked of it in that second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

/// Timers of the runtime come up to a millisecond late, which is not the server's doing; what is later was held up by load.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// Numbers things and says when they are due, to any number of workers.
pub(super) struct Pace {
    started: Instant,
    /// A second; without it, a thing is due as soon as somebody asks.
    rate: Option<f64>,
    /// How many there are, if that is fixed.
    count: u64,
    ends: Option<Instant>,
    next: AtomicU64,
}

impl Pace {
    /// This many, at a rate.
    pub(super) fn of_count(count: u64, rate: Option<f64>) -> Self {
        Self { started: Instant::now(), rate, count, ends: None, next: AtomicU64::new(0) }
    }

    /// As many as fit into a time.
    pub(super) fn of_time(time: Duration, rate: Option<f64>) -> Self {
        let started = Instant::now();
        Self { started, rate, count: u64::MAX, ends: Some(started + time), next: AtomicU64::new(0) }
    }

    /// Waits for the next one: its number, and when its time begins to count. `None` when there are no more.
    pub(super) async fn next(&self) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if number >= self.count || self.ends.is_some_and(|ends| now >= ends) {
            return None;
        }
        let Some(rate) = self.rate else { return Some((number, now)) };
        let due = self.due(number, rate);
        if self.ends.is_some_and(|ends| due >= ends) {
            return None;
        }
        if due > now {
            sleep_until(due.into()).await;
            let woken = Instant::now();
            return Some((number, if woken - due < TIMER_SLACK { woken } else { due }));
        }
        Some((number, due))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers are far below 2^52")]
    fn due(&self, number: u64, rate: f64) -> Instant {
        self.started + Duration::from_secs_f64(number as f64 / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_late_counts_from_when_it_was_due() {
        let mut pace = Pace::of_count(3, Some(1000.0));
        pace.started = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let mut due = Vec::new();
        while let Some((number, from)) = pace.next().await {
            due.push((number, from - pace.started));
        }
        let millis = Duration::from_millis;
        assert_eq!(due, [(0, millis(0)), (1, millis(1)), (2, millis(2))]);
    }

    #[tokio::test]
    async fn it_ends_with_its_time() {
        let pace = Pace::of_time(Duration::from_millis(25), Some(100.0));
        let mut numbers = Vec::new();
        while let Some((number, _)) = pace.next().await {
            numbers.push(number);
        }
        // Due after 0, 10 and 20 ms; a busy machine may miss the last.
        assert!(numbers.starts_with(&[0]) && numbers.len() <= 3, "{numbers:?}");
        assert!(Pace::of_time(Duration::ZERO, None).next().await.is_none());
    }
}
