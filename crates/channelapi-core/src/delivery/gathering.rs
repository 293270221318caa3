//! How long a worker lets publications gather behind a long round.
//!
//! Whoever publishes again as soon as its last message has arrived comes right behind a round, and so do all others whose messages were in
//! it. To serve the first of them at once takes as long as to serve all of them, who then wait for a round more. So where publications
//! overlap, and a round took long, the next one begins a little later.

use crate::limits::{FANOUT_GATHER_FROM, FANOUT_GATHER_MAX, FANOUT_GATHER_PART};
use std::time::Duration;
use tokio::time::Instant;

/// What is known of the last round.
#[derive(Default)]
pub(super) struct Gathering {
    until: Option<Instant>,
}

impl Gathering {
    /// Waits until the next round may begin. Where there is time, that is at once.
    pub(super) async fn wait(&mut self) {
        if let Some(until) = self.until.take().filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// A round that began then has served so many publications; perhaps more wait already.
    pub(super) fn note(&mut self, began: Instant, publications: usize, is_more: bool) {
        let now = Instant::now();
        let pause = pause_behind(now - began, publications, is_more);
        self.until = pause.map(|pause| now + pause);
    }
}

fn pause_behind(took: Duration, publications: usize, is_more: bool) -> Option<Duration> {
    let overlap = publications > 1 || publications > 0 && is_more;
    (overlap && took >= FANOUT_GATHER_FROM).then(|| (took / FANOUT_GATHER_PART).min(FANOUT_GATHER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_overlaps_is_gathered_and_only_behind_a_long_round() {
        let millis = Duration::from_millis;
        assert_eq!(pause_behind(millis(32), 4, false), Some(millis(2)));
        assert_eq!(pause_behind(millis(32), 1, true), Some(millis(2)));
        assert_eq!(pause_behind(millis(32), 1, false), None, "the only publisher is not kept waiting");
        assert_eq!(pause_behind(millis(32), 0, true), None, "others joined");
        assert_eq!(pause_behind(millis(1), 4, true), None);
        assert_eq!(pause_behind(millis(1_000), 4, true), Some(FANOUT_GATHER_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_later_does_not_wait() {
        let mut gathering = Gathering::default();
        let long = Duration::from_millis(32);
        for idle in [Duration::ZERO, long] {
            let began = Instant::now();
            tokio::time::advance(long).await;
            gathering.note(began, 2, false);
            tokio::time::advance(idle).await;
            let came = Instant::now();
            gathering.wait().await;
            assert_eq!(came.elapsed().is_zero(), !idle.is_zero());
        }
    }
}
