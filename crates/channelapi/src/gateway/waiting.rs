//! What waits for clients: for each, and for all of them together.

use std::ops::{AddAssign, SubAssign};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that wait for all clients of this process.
static ALL: AtomicUsize = AtomicUsize::new(0);

/// Bytes that may wait for all of them.
static ALL_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Bytes that wait for all clients of this process.
pub(crate) fn waiting_bytes() -> usize {
    ALL.load(Ordering::Relaxed)
}

/// Sets how many may wait for all of them.
pub(crate) fn set_waiting_bytes_max(bytes: usize) {
    ALL_MAX.store(bytes, Ordering::Relaxed);
}

/// Whether there is no room for so many more.
pub(super) fn is_full_with(more: usize) -> bool {
    waiting_bytes().saturating_add(more) > ALL_MAX.load(Ordering::Relaxed)
}

/// Bytes that wait for one client. They count for all until they are sent, or this is dropped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WaitingBytes(usize);

impl WaitingBytes {
    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.0
    }
}

impl AddAssign<usize> for WaitingBytes {
    fn add_assign(&mut self, more: usize) {
        self.0 += more;
        ALL.fetch_add(more, Ordering::Relaxed);
    }
}

impl SubAssign<usize> for WaitingBytes {
    fn sub_assign(&mut self, less: usize) {
        self.0 -= less;
        ALL.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for WaitingBytes {
    fn drop(&mut self) {
        ALL.fetch_sub(self.0, Ordering::Relaxed);
    }
}
