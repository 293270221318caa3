//! How often something may happen: so much at once, and so often afterwards.
//!
//! Instead of a number of permits that grows with time, only the moment is kept until which all permits are used up. It takes eight
//! bytes, so that every connection and every address can have several.
//!
//! The moment does not come round. In four bytes it did, every three days: what had never been used looked used up then.

/// A rate, and what may come at once on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Microseconds between two permits; 0 for no limit.
    interval: u64,
    /// How many may come at once.
    burst: u64,
}

impl Rate {
    /// No limit.
    pub(crate) const UNLIMITED: Self = Self { interval: 0, burst: u64::MAX };

    /// So many a second, and a burst of so many. 0 a second is no limit.
    pub(crate) fn per_second(permits: u64, burst: u64) -> Self {
        Self::new(permits, 1_000_000, burst)
    }

    /// So many a minute, all of which may come at once.
    pub(crate) fn per_minute(permits: u64) -> Self {
        Self::new(permits, 60_000_000, permits)
    }

    /// How many may come at once.
    pub(crate) fn burst(self) -> u32 {
        u32::try_from(self.burst).unwrap_or(u32::MAX)
    }

    fn new(permits: u64, micros: u64, burst: u64) -> Self {
        match micros.checked_div(permits) {
            Some(interval) => Self { interval: interval.max(1), burst: burst.max(1) },
            None => Self::UNLIMITED,
        }
    }

    /// Microseconds that the moment may lie ahead for another permit.
    fn ahead(self) -> u64 {
        self.interval.saturating_mul(self.burst - 1)
    }

    /// Microseconds that it lies ahead at most: all that may come at once, and as much again that is owed.
    fn furthest(self) -> u64 {
        self.interval.saturating_mul(self.burst).saturating_mul(2)
    }
}

/// Where somebody stands who is held to a [`Rate`]: the microsecond until which the permits are used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace(u64);

impl Pace {
    /// Takes a permit, or says that there is none. `now` is in milliseconds that only grow.
    pub(crate) fn takes(&mut self, rate: Rate, now: u64) -> bool {
        if self.is_spent(rate, now) {
            return false;
        }
        self.owes_part(rate, 1, now);
        true
    }

    /// Pays for what has happened already, and is worth one in so many `parts` of a permit. Who has no permit owes it: the next one comes
    /// later by as much. Nobody owes more than what may come at once.
    pub(crate) fn owes_part(&mut self, rate: Rate, parts: u64, now: u64) {
        if rate.interval == 0 {
            return;
        }
        let lead = self.lead(rate, now).saturating_add((rate.interval / parts).max(1));
        self.0 = micros(now).saturating_add(lead.min(rate.furthest()));
    }

    /// Whether there is no permit left. Takes none.
    pub(crate) fn is_spent(self, rate: Rate, now: u64) -> bool {
        rate.interval != 0 && self.lead(rate, now) > rate.ahead()
    }

    /// Whether all permits are there: nothing needs to be remembered.
    pub(crate) fn is_rested(self, now: u64) -> bool {
        self.0 <= micros(now)
    }

    /// How far the kept moment lies ahead. One that is further ahead than it can be was kept when the rate was another.
    fn lead(self, rate: Rate, now: u64) -> u64 {
        let lead = self.0.saturating_sub(micros(now));
        if lead <= rate.furthest() { lead } else { 0 }
    }
}

fn micros(millis: u64) -> u64 {
    millis.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many permits there are at once.
    fn taken(pace: &mut Pace, rate: Rate, now: u64) -> usize {
        (0..100_000).take_while(|_| pace.takes(rate, now)).count()
    }

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let rate = Rate::per_second(20, 50);
        let mut pace = Pace::default();
        let start = 1_000_000;
        assert_eq!(taken(&mut pace, rate, start), 50);
        assert!(pace.is_spent(rate, start));
        assert_eq!(taken(&mut pace, rate, start + 49), 0);
        assert_eq!(taken(&mut pace, rate, start + 50), 1);
        assert_eq!(taken(&mut pace, rate, start + 1_050), 20);
        assert!(!pace.is_rested(start + 2_000));
        assert!(pace.is_rested(start + 4_000));
        assert_eq!(taken(&mut pace, rate, start + 3_600_000), 50, "what is not used is not saved up");
    }

    #[test]
    fn rates_of_all_sizes_are_kept() {
        for (permits, burst) in [(1, 1), (10, 128), (200, 1_000), (1_000, 100_000)] {
            let rate = Rate::per_second(permits, burst);
            let mut pace = Pace::default();
            let count = taken(&mut pace, rate, 777);
            assert_eq!(count as u64, burst.min(100_000), "{permits}/{burst}");
            let later = taken(&mut pace, rate, 777 + 2_000) as u64;
            let expected = (2 * permits).min(burst);
            assert!(later.abs_diff(expected) <= expected / 10 + 1, "{permits}/{burst}: {later}");
        }
        let rate = Rate::per_minute(300);
        let mut pace = Pace::default();
        assert_eq!(taken(&mut pace, rate, 1), 300);
        assert_eq!(taken(&mut pace, rate, 60_001), 300);
    }

    #[test]
    fn what_came_without_a_permit_is_owed() {
        let rate = Rate::per_minute(60);
        let mut pace = Pace::default();
        let start = 1_000_000;
        (0..75).for_each(|_| pace.owes_part(rate, 1, start));
        assert_eq!(taken(&mut pace, rate, start + 15_900), 0);
        assert_eq!(taken(&mut pace, rate, start + 16_100), 1);
        (0..1_000).for_each(|_| pace.owes_part(rate, 1, start + 17_000));
        assert!(pace.is_spent(rate, start + 77_000), "as much as may come at once");
        assert!(!pace.is_spent(rate, start + 78_100), "and no more");
        assert!(pace.is_rested(start + 140_000));
    }

    #[test]
    fn nothing_is_no_limit() {
        let mut pace = Pace::default();
        assert_eq!(taken(&mut pace, Rate::UNLIMITED, 5), 100_000);
        assert!(!pace.is_spent(Rate::UNLIMITED, 5) && pace.is_rested(5));
    }

    #[test]
    fn who_was_held_to_a_slower_rate_is_not_held_to_it_any_more() {
        let (slow, quick) = (Rate::per_second(1, 1_000), Rate::per_second(10, 10));
        let mut pace = Pace::default();
        assert_eq!(taken(&mut pace, slow, 5), 1_000);
        assert_eq!(taken(&mut pace, quick, 10), 10);
    }

    /// When moments had 32 bits, a fresh client was put out with its first join for thirteen seconds of every three days.
    #[test]
    fn who_is_new_or_comes_back_has_all_permits_at_any_time() {
        let rate = Rate::per_second(20, 50);
        for shift in 20..53 {
            for before in [0, 1, 3_000, 15_000, 59_900, 120_000] {
                let now = (1_u64 << shift).saturating_sub(before);
                let mut pace = Pace::default();
                assert!(pace.is_rested(now));
                assert_eq!(taken(&mut pace, rate, now), 50, "2^{shift} - {before}");
                assert_eq!(taken(&mut pace, rate, 2 * now + 2_500), 50, "2^{shift} - {before}");
            }
        }
    }
}
