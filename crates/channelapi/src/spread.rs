//! Sends many clients away one after the other, in no order that anything has to do with where they come from, so that they do not all
//! arrive elsewhere at once, nor come back at once.
//!
//! Chance is enough for that: nobody's safety depends on it.

use channelapi_core::limits::DRAIN_PACE_MAX;
use std::sync::Arc;
use std::time::Duration;

/// Somebody who is here, on whatever way.
pub(crate) trait Guest: Send + Sync {
    /// Ends what it is here by, so that it comes back.
    fn send_away(&self);
}

/// Sends all of them away. It takes `time`, or less if they are few.
pub(crate) async fn send_away(mut guests: Vec<Arc<dyn Guest>>, time: Duration) {
    let count = u32::try_from(guests.len()).unwrap_or(u32::MAX).max(1);
    let pace = (time / count).min(DRAIN_PACE_MAX);
    let mut dice = Dice::default();
    dice.shuffle(&mut guests);
    let started = tokio::time::Instant::now();
    for (index, guest) in (0..).zip(guests) {
        // The timer counts whole milliseconds; sleeping until a due time lets several go in one.
        tokio::time::sleep_until(started + pace * index + pace.mul_f32(dice.roll())).await;
        guest.send_away();
    }
}

/// Any time from half of `time` to one and a half: whoever is told to wait for so long does not come back together with the others.
pub(crate) fn about(time: Duration) -> Duration {
    time / 2 + time.mul_f32(Dice::default().roll())
}

/// A small generator of numbers that look random.
struct Dice(u64);

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
    fn roll(&mut self) -> f32 {
        f32::from(u16::try_from(self.next() >> 48).expect("16 bits")) / f32::from(u16::MAX)
    }

    /// Puts things into any order.
    fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = usize::try_from(self.next() % (last as u64 + 1)).expect("an index");
            things.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use tokio::time::Instant;

    struct One(u32, Arc<Mutex<Vec<(u32, Instant)>>>);

    impl Guest for One {
        fn send_away(&self) {
            self.1.lock().push((self.0, Instant::now()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_take_all_of_the_time_and_few_go_sooner() {
        for (count, at_least, at_most) in [(10, 900, 1_001), (100, 3_900, 4_001), (10_000, 3_900, 4_001)] {
            let gone = Arc::default();
            let guests = (0..count).map(|number| Arc::new(One(number, Arc::clone(&gone))) as Arc<dyn Guest>);
            let began = Instant::now();
            send_away(guests.collect(), Duration::from_secs(4)).await;
            let took = began.elapsed().as_millis();
            assert!((at_least..=at_most).contains(&took), "{took} ms for {count}");
            let gone = gone.lock();
            assert!(!gone.is_sorted_by_key(|(number, _)| *number), "they go in any order");
            let half = gone.iter().filter(|(_, at)| (*at - began).as_millis() < took / 2).count();
            assert!((gone.len() * 4 / 10..=gone.len() * 6 / 10).contains(&half), "{half} of {count}");
        }
        send_away(Vec::new(), Duration::ZERO).await;
    }

    #[test]
    fn nobody_is_told_the_same_time() {
        let times: Vec<_> = (0..1_000).map(|_| about(Duration::from_secs(5)).as_millis()).collect();
        assert!(times.iter().all(|time| (2_500..=7_500).contains(time)));
        for second in 3..7 {
            assert!(times.iter().any(|time| time / 1_000 == second), "nobody comes after {second} s");
        }
    }

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
