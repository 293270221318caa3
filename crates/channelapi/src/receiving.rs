//! What has arrived of requests and messages whose rest is still to come. Strangers decide how much of it there is, so there is a limit for
//! all of it together; it is one for bytes that are here, not for those that are announced.

use channelapi_core::limits::{RECEIVING_BYTES_MAX, RECEIVING_FRACTION, RECEIVING_FREE_BYTES, share};
use std::sync::atomic::{AtomicUsize, Ordering};

static BYTES: AtomicUsize = AtomicUsize::new(0);

static BYTES_MAX: AtomicUsize = AtomicUsize::new(RECEIVING_BYTES_MAX);

/// Bytes that are here of what has not arrived as a whole.
pub(crate) fn receiving_bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// Holds as much at once as befits a process that may use so many bytes of memory.
pub(crate) fn set_memory(memory: u64) {
    BYTES_MAX.store(share(RECEIVING_BYTES_MAX, memory, RECEIVING_FRACTION), Ordering::Relaxed);
}

/// What is here of one thing. It counts until this is dropped. Small, because every connection has one.
#[derive(Debug, Default)]
pub(crate) struct Receiving(u32);

/// Too much is held for others already: whoever sends this has to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl Receiving {
    /// So many bytes of it are here now. Little always finds room.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let (before, now) = (self.0 as usize, u32::try_from(bytes).unwrap_or(u32::MAX));
        if before == bytes {
            return Ok(());
        }
        self.0 = now;
        let now = now as usize;
        let all = if now > before {
            BYTES.fetch_add(now - before, Ordering::Relaxed).saturating_add(now - before)
        } else {
            BYTES.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
        };
        let fits = now <= RECEIVING_FREE_BYTES || all <= BYTES_MAX.load(Ordering::Relaxed);
        if fits { Ok(()) } else { Err(NoRoom) }
    }
}

#[cfg(test)]
impl Receiving {
    /// How many are here.
    pub(crate) fn bytes(&self) -> usize {
        self.0 as usize
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        BYTES.fetch_sub(self.0 as usize, Ordering::Relaxed);
    }
}
