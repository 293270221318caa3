//! Everything a run decides by chance, reproducible from its seed.
//!
//! Every actor has choices of its own, named after it, so that none depends on what the scheduler let the others do.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Weyl sequence with a mixing function (SplitMix64): small, fast, and good enough to choose.
#[derive(Clone)]
pub(crate) struct Choices {
    state: u64,
}

impl Choices {
    pub(crate) fn new(seed: u64, actor: &str) -> Self {
        // FNV-1a; the first draws would resemble each other if neighbouring seeds were used as they are.
        let name = actor.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut choices = Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name };
        choices.next();
        choices
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn number(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (start, end) = range.into_inner();
        // The bias of a remainder is far below anything that matters here.
        start + self.next() % (end - start + 1)
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }

    pub(crate) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }

    /// `None` from an empty slice.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let index = self.next() % u64::try_from(from.len()).ok().filter(|count| *count > 0)?;
        from.get(usize::try_from(index).ok()?)
    }
}

/// For a run that was not given a seed.
pub(crate) fn random_seed() -> u64 {
    let mut bytes = [0; 4];
    // Short enough to be typed again; without randomness any seed is as good as another.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_actor_choose_the_same() {
        let draw = |seed, actor| {
            let mut choices = Choices::new(seed, actor);
            (0..8).map(|_| choices.number(0..=1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, "a"), draw(7, "a"));
        assert_ne!(draw(7, "a"), draw(7, "b"));
        assert_ne!(draw(7, "a"), draw(8, "a"));
    }

    #[test]
    fn every_choice_in_a_range_comes_up() {
        let mut choices = Choices::new(1, "range");
        let mut counts = [0; 5];
        for _ in 0..1000 {
            counts[usize::try_from(choices.number(3..=7)).unwrap() - 3] += 1;
        }
        assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
        assert_eq!(choices.pick::<u8>(&[]), None);
    }
}
