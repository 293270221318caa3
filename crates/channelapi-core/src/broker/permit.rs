//! Room in memory for what is being published.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of memory that publications take until it is known what came of them, also if nobody waits for that any more. They count until this
/// is dropped. The default counts nowhere.
#[derive(Debug, Default)]
pub struct Permit {
    bytes: usize,
    all: Option<Arc<AtomicUsize>>,
}

impl Permit {
    /// Takes so many bytes of all, and says how many there were before.
    pub fn take(bytes: usize, all: &Arc<AtomicUsize>) -> (Self, usize) {
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        (Self { bytes, all: Some(all.clone()) }, before)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(all) = &self.all {
            all.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}
