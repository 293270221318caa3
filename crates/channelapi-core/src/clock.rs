//! Time, which tests can hold in their hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time. Clones tell the same time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant, steady: Arc<Steady> },
    Manual(Arc<Manual>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        let told_at = uptime_millis();
        let ahead = machine_millis().saturating_sub(told_at);
        let steady = Arc::new(Steady { ahead: ahead.into(), told_at: told_at.into() });
        Self(Source::System { started: Instant::now(), steady })
    }

    /// A clock that stands still until it is told to [`Clock::advance`].
    pub fn manual(unix_millis: u64) -> Self {
        Self(Source::Manual(Arc::new(Manual { millis: unix_millis.into(), machine_ahead: 0.into() })))
    }

    /// Moves a manual clock on; a system clock goes its own way.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual.millis.fetch_add(millis_of(by), Ordering::Relaxed);
        }
    }

    /// Sets the machine's clock under a manual one, which follows it never instead of slowly.
    pub fn set_machine(&self, unix_millis: u64) {
        if let Source::Manual(manual) = &self.0 {
            let ahead = unix_millis.cast_signed() - manual.now().cast_signed();
            manual.machine_ahead.store(ahead, Ordering::Relaxed);
        }
    }

    /// Milliseconds since 1970, by which is over what has an end. When somebody sets the machine's clock, this one follows slowly: a jump of
    /// an hour or of ten years lets nothing expire.
    pub fn unix_millis(&self) -> u64 {
        match &self.0 {
            Source::System { steady, .. } => steady.tell(uptime_millis(), machine_millis),
            Source::Manual(manual) => manual.now(),
        }
    }

    /// The earlier one of [`Clock::unix_millis`] and [`Clock::machine_millis`], by which is removed for good what has served its time: the
    /// machine's clock may be ahead for now, or may have been when this process started, from which the other one goes on.
    pub fn cautious_millis(&self) -> u64 {
        self.unix_millis().min(self.machine_millis())
    }

    /// The later one of [`Clock::unix_millis`] and [`Clock::machine_millis`], for what is written down: the next life begins with the machine's
    /// clock, and would take what is written behind it for old.
    pub fn written_millis(&self) -> u64 {
        self.unix_millis().max(self.machine_millis())
    }

    /// Milliseconds since 1970 as the machine's clock has them right now, for times that somebody else wrote down: when a JWT ends is
    /// its issuer's word, and the machine's clock is what both of them set their watches by.
    pub fn machine_millis(&self) -> u64 {
        match &self.0 {
            Source::System { .. } => machine_millis(),
            Source::Manual(manual) => manual.machine(),
        }
    }

    /// Milliseconds that only grow, whatever they count from. For timeouts.
    pub fn monotonic_millis(&self) -> u64 {
        match &self.0 {
            Source::System { started, .. } => millis_of(started.elapsed()),
            Source::Manual(manual) => manual.now(),
        }
    }
}

/// A clock that stands still, and how far the machine's is ahead of it.
#[derive(Debug)]
struct Manual {
    millis: AtomicU64,
    machine_ahead: AtomicI64,
}

impl Manual {
    fn now(&self) -> u64 {
        self.millis.load(Ordering::Relaxed)
    }

    fn machine(&self) -> u64 {
        self.now().saturating_add_signed(self.machine_ahead.load(Ordering::Relaxed))
    }
}

/// A clock that goes with one that nobody sets, and towards the machine's.
#[derive(Debug)]
struct Steady {
    /// How far this clock is ahead of the one that nobody sets.
    ahead: AtomicU64,
    /// When it was last moved towards the machine's, by that one.
    told_at: AtomicU64,
}

/// It makes up for one millisecond in so many.
const CORRECTION: u64 = 100;

impl Steady {
    /// The time, when the machine has run for so long. Its clock is asked only when there is something to make up for.
    fn tell(&self, uptime: u64, machine: impl FnOnce() -> u64) -> u64 {
        let told_at = self.told_at.load(Ordering::Acquire);
        let step = uptime.saturating_sub(told_at) / CORRECTION;
        // Of those who ask at the same time, one makes up for it.
        if step > 0
            && self.told_at.compare_exchange(told_at, uptime, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            let before = self.ahead.load(Ordering::Relaxed);
            let wanted = machine().saturating_sub(uptime);
            let ahead = wanted.clamp(before.saturating_sub(step), before.saturating_add(step));
            // Whoever took so long that another one did so in between leaves it at that.
            _ = self.ahead.compare_exchange(before, ahead, Ordering::Relaxed, Ordering::Relaxed);
        }
        uptime.saturating_add(self.ahead.load(Ordering::Relaxed))
    }
}

/// What the machine's clock says.
fn machine_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis_of)
}

/// How long the machine has run, or slept since it was started: the monotonic clock stands still meanwhile, and what came behind it would
/// have been published in the past.
fn uptime_millis() -> u64 {
    #[cfg(target_os = "linux")]
    let uptime = rustix::time::ClockId::Boottime;
    // There it counts what the machine slept.
    #[cfg(not(target_os = "linux"))]
    let uptime = rustix::time::ClockId::Monotonic;
    let since = rustix::time::clock_gettime(uptime);
    u64::try_from(since.tv_sec * 1_000 + since.tv_nsec / 1_000_000).unwrap_or_default()
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
        let clock = Steady { ahead: now.into(), told_at: 0.into() };
        assert_eq!(clock.tell(1_000, || now + 1_000), now + 1_000);
        assert_eq!(clock.tell(2_000, || now + 2_000 + YEARS), now + 2_000 + 10, "a hundredth of what passed");
        assert_eq!(clock.tell(3_000, || now + 3_000 - YEARS), now + 3_000, "and back");
        assert_eq!(clock.tell(3_050, || 0), now + 3_050);
        assert_eq!(
            clock.tell(100_000, || now + 100_500),
            now + 100_500,
            "a small difference is made up for soon"
        );
    }

    #[test]
    fn a_clock_begins_with_the_machines_and_goes_on() {
        let clock = Clock::system();
        let before = machine_millis();
        let (now, cautious) = (clock.unix_millis(), clock.cautious_millis());
        assert!(now.abs_diff(before) < 1_000, "{now} is far from {before}");
        assert!(cautious <= clock.unix_millis() && cautious.abs_diff(before) < 1_000);
        std::thread::sleep(Duration::from_millis(20));
        assert!(clock.unix_millis() >= now + 20);
    }
}
