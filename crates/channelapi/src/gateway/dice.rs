//! Chance where nobody's safety depends on it: when clients are sent away.

/// A small generator of numbers that look random.
pub(super) struct Dice(u64);

impl Default for Dice {
    fn default() -> Self {
        Self(getrandom::u64().expect("the operating system has random numbers") | 1)
    }
}

impl Dice {
    /// The next number (xorshift64*).
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to 1.
    pub(super) fn roll(&mut self) -> f32 {
        f32::from(u16::try_from(self.next() >> 48).expect("16 bits")) / f32::from(u16::MAX)
    }

    /// Puts things into any order.
    pub(super) fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = usize::try_from(self.next() % (last as u64 + 1)).expect("an index");
            things.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_there_in_another_order() {
        let mut dice = Dice::default();
        let mut things: Vec<u32> = (0..1_000).collect();
        dice.shuffle(&mut things);
        assert!(!things.is_sorted());
        things.sort_unstable();
        assert!((0..1_000).eq(things));
        let rolls: Vec<f32> = (0..1_000).map(|_| dice.roll()).collect();
        assert!(rolls.iter().all(|roll| (0.0..=1.0).contains(roll)));
        assert!((0.4..0.6).contains(&(rolls.iter().sum::<f32>() / 1_000.0)));
    }
}
