//! Time, which tests can hold in their hands.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time. Clones tell the same time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant, steady: Arc<Mutex<Steady>> },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        let steady = Arc::new(Mutex::new(Steady { ahead: machine_millis(), told_at: 0 }));
        Self(Source::System { started: Instant::now(), steady })
    }

    /// A clock that stands still until it is told to [`Clock::advance`].
    pub fn manual(unix_millis: u64) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(unix_millis))))
    }

    /// Moves a manual clock on; a system clock goes its own way.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(millis) = &self.0 {
            millis.fetch_add(millis_of(by), Ordering::Relaxed);
        }
    }

    /// Milliseconds since 1970, for what must mean the same after a restart. When somebody sets the machine's clock, this one
    /// follows slowly: a jump of an hour or of ten years lets nothing expire.
    pub fn unix_millis(&self) -> u64 {
        match &self.0 {
            Source::System { started, steady } => {
                steady.lock().tell(millis_of(started.elapsed()), machine_millis())
            }
            Source::Manual(millis) => millis.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since 1970 as the machine's clock has them right now, for times that somebody else wrote down: when a JWT ends is
    /// its issuer's word, and the machine's clock is what both of them set their watches by.
    pub fn machine_millis(&self) -> u64 {
        match &self.0 {
            Source::System { .. } => machine_millis(),
            Source::Manual(millis) => millis.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds that only grow, whatever they count from. For timeouts.
    pub fn monotonic_millis(&self) -> u64 {
        match &self.0 {
            Source::System { started, .. } => millis_of(started.elapsed()),
            Source::Manual(millis) => millis.load(Ordering::Relaxed),
        }
    }
}

/// A clock that goes with the monotonic one, and towards the machine's.
#[derive(Debug)]
struct Steady {
    /// How far this clock is ahead of the monotonic one.
    ahead: u64,
    /// When it was asked last, by the monotonic clock.
    told_at: u64,
}

/// It makes up for one millisecond in so many.
const CORRECTION: u64 = 100;

impl Steady {
    /// The time, when the monotonic clock and the machine's say these.
    fn tell(&mut self, monotonic: u64, machine: u64) -> u64 {
        let step = monotonic.saturating_sub(self.told_at) / CORRECTION;
        if step > 0 {
            let wanted = machine.saturating_sub(monotonic);
            self.ahead = wanted.clamp(self.ahead.saturating_sub(step), self.ahead.saturating_add(step));
            self.told_at = monotonic;
        }
        monotonic.saturating_add(self.ahead)
    }
}

/// What the machine's clock says.
fn machine_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis_of)
}

/// A duration in whole milliseconds.
pub fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEARS: u64 = 10 * 365 * 24 * 3_600_000;

    #[test]
    fn a_jump_of_the_machines_clock_is_followed_slowly() {
        let now = 2 * YEARS;
        let mut clock = Steady { ahead: now, told_at: 0 };
        assert_eq!(clock.tell(1_000, now + 1_000), now + 1_000);
        assert_eq!(clock.tell(2_000, now + 2_000 + YEARS), now + 2_000 + 10, "a hundredth of what passed");
        assert_eq!(clock.tell(3_000, now + 3_000 - YEARS), now + 3_000, "and back");
        assert_eq!(clock.tell(3_050, 0), now + 3_050);
        assert_eq!(
            clock.tell(100_000, now + 100_500),
            now + 100_500,
            "a small difference is made up for soon"
        );
    }
}
