//! The numbers that a client has.

use std::ops::Range;

/// Numbers as ranges that do not touch: as many as there are holes, and one. What is on its way together comes in any order, and what
/// could not be published is a hole for good.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<Range<u64>>);

impl Seen {
    /// Whether it is a new one.
    pub(super) fn take(&mut self, number: u64) -> bool {
        let Some(next) = number.checked_add(1) else { return false };
        let ranges = &mut self.0;
        let behind = ranges.partition_point(|range| range.start <= number);
        let before = behind.checked_sub(1).filter(|before| ranges[*before].end >= number);
        match before {
            Some(before) if ranges[before].end > number => return false,
            Some(before) => {
                ranges[before].end = next;
                if ranges.get(behind).is_some_and(|range| range.start == next) {
                    ranges[before].end = ranges.remove(behind).end;
                }
            }
            None => match ranges.get_mut(behind) {
                Some(range) if range.start == next => range.start = number,
                _ => ranges.insert(behind, number..next),
            },
        }
        true
    }

    pub(super) fn has(&self, number: u64) -> bool {
        let behind = self.0.partition_point(|range| range.start <= number);
        behind.checked_sub(1).is_some_and(|before| number < self.0[before].end)
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_in_any_order() {
        let mut seen = Seen::default();
        for (number, is_new) in
            [(0, true), (2, true), (2, false), (1, true), (0, false), (4, true), (7, true), (6, true)]
        {
            assert_eq!(seen.take(number), is_new, "{number}");
        }
        assert_eq!(seen.0, [0..3, 4..5, 6..8]);
        let has: Vec<bool> = (0..9).map(|number| seen.has(number)).collect();
        assert_eq!(has, [true, true, true, false, true, false, true, true, false]);
        assert_eq!(seen.count(), 6);
        assert!(!seen.take(u64::MAX), "no run comes that far");
    }

    /// One publication that could not be made let each client remember every later one by itself.
    #[test]
    fn a_hole_costs_no_more_than_itself() {
        let mut seen = Seen::default();
        // Two by two in the wrong order.
        for number in (0..10_000).map(|number| number ^ 1).filter(|number| *number != 5) {
            assert!(seen.take(number), "{number}");
        }
        assert_eq!(seen.0, [0..5, 6..10_000]);
    }
}
