//! Time, which tests can hold in their hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time. Clones tell the same time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System { started: Instant::now() })
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

    /// Milliseconds since 1970. Only for what must mean the same after a restart: it jumps when somebody sets the clock.
    pub fn unix_millis(&self) -> u64 {
        match &self.0 {
            Source::System { .. } => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis_of),
            Source::Manual(millis) => millis.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds that only grow, whatever they count from. For timeouts.
    pub fn monotonic_millis(&self) -> u64 {
        match &self.0 {
            Source::System { started } => millis_of(started.elapsed()),
            Source::Manual(millis) => millis.load(Ordering::Relaxed),
        }
    }
}

/// A duration in whole milliseconds.
pub fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
