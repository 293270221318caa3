//! How often something may happen: so much at once, and so often afterwards.
//!
//! Instead of a number of permits that grows with time, only the moment is kept until which all permits are used up. It takes four
//! bytes, so that every connection and every address can have several.

/// Steps of time in a millisecond. Finer ones would let [`Pace`] come round too soon, coarser ones limit the rates there can be.
const STEPS: u32 = 16;

/// A rate, and what may come at once on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Steps between two permits; 0 for no limit.
    interval: u32,
    /// Steps that the moment of the last permit may lie ahead.
    ahead: u32,
}

impl Rate {
    /// No limit.
    pub(crate) const UNLIMITED: Self = Self { interval: 0, ahead: 0 };

    /// So many a second, and a burst of so many. 0 a second is no limit.
    pub(crate) fn per_second(permits: u64, burst: u64) -> Self {
        Self::new(permits, 1_000, burst)
    }

    /// So many a minute, all of which may come at once.
    pub(crate) fn per_minute(permits: u64) -> Self {
        Self::new(permits, 60_000, permits)
    }

    /// How many may come at once.
    pub(crate) fn burst(self) -> u32 {
        self.ahead.checked_div(self.interval).map_or(u32::MAX, |further| further.saturating_add(1))
    }

    /// Steps that a kept moment may lie ahead, with what is owed: all that may come at once is used up, and as much again.
    fn furthest(self) -> u32 {
        self.ahead.saturating_add(self.interval).saturating_mul(2)
    }

    fn new(permits: u64, millis: u64, burst: u64) -> Self {
        if permits == 0 {
            return Self::UNLIMITED;
        }
        let steps = |of: u64| u32::try_from(of).unwrap_or(u32::MAX / 8).min(u32::MAX / 8);
        let interval = steps(millis * u64::from(STEPS) / permits).max(1);
        Self { interval, ahead: steps(u64::from(interval) * burst.max(1).saturating_sub(1)) }
    }
}

/// Where somebody stands who is held to a [`Rate`].
///
/// The moment is kept in 32 bits, which come round every three days. Whoever was silent for that long may find some permits used that
/// are not; after a burst's time they are back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace(u32);

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
    pub(crate) fn owes_part(&mut self, rate: Rate, parts: u32, now: u64) {
        if rate.interval == 0 {
            return;
        }
        let now = step(now);
        let lead = self.lead(rate, now).saturating_add((rate.interval / parts).max(1));
        self.0 = now.wrapping_add(lead.min(rate.furthest()));
    }

    /// Whether there is no permit left. Takes none.
    pub(crate) fn is_spent(self, rate: Rate, now: u64) -> bool {
        rate.interval != 0 && self.lead(rate, step(now)) > rate.ahead
    }

    /// Whether all permits are there: nothing needs to be remembered.
    pub(crate) fn is_rested(self, rate: Rate, now: u64) -> bool {
        self.lead(rate, step(now)) == 0
    }

    /// How far the kept moment lies ahead; what lies further than it can was kept long ago.
    fn lead(self, rate: Rate, now: u32) -> u32 {
        let lead = self.0.wrapping_sub(now);
        if lead <= rate.furthest() { lead } else { 0 }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "moments are compared within a part of what 32 bits hold"
)]
fn step(millis: u64) -> u32 {
    millis.wrapping_mul(u64::from(STEPS)) as u32
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
        assert!(!pace.is_rested(rate, start + 2_000));
        assert!(pace.is_rested(rate, start + 4_000));
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
        assert!(pace.is_rested(rate, start + 140_000));
    }

    #[test]
    fn nothing_is_no_limit() {
        let mut pace = Pace::default();
        assert_eq!(taken(&mut pace, Rate::UNLIMITED, 5), 100_000);
        assert!(!pace.is_spent(Rate::UNLIMITED, 5) && pace.is_rested(Rate::UNLIMITED, 5));
    }

    #[test]
    fn whoever_comes_back_after_days_is_not_refused_for_long() {
        let rate = Rate::per_second(20, 50);
        for days in 1..60 {
            let mut pace = Pace::default();
            assert_eq!(taken(&mut pace, rate, 1_000), 50);
            let back = 1_000 + days * 86_400_000;
            assert!(taken(&mut pace, rate, back + 4_000) + taken(&mut pace, rate, back) >= 50, "{days}");
        }
    }
}
