//! How the log is kept.

use crate::limits::{
    HOT_TAIL_BYTES_MAX, HOT_TAIL_FRACTION, IDEMPOTENCY_KEY_FRACTION, IDEMPOTENCY_KEYS_MAX, INDEX_FRACTION,
    LOG_AHEAD_BYTES, LOG_BYTES_MAX, LOG_SEGMENT_BYTES, LOG_SEGMENT_BYTES_MIN, LOG_SEGMENT_FRACTION,
    MEMORY_HISTORY_BYTES_MAX, MEMORY_HISTORY_FRACTION, RELAXED_SYNC_INTERVAL, share,
};
use std::time::Duration;

/// How the log is kept.
#[derive(Debug, Clone, Copy)]
pub struct StoreSettings {
    /// Bytes of the whole log. Above it, the oldest segment is given up with everything in it.
    pub disk_bytes_max: u64,
    /// Bytes after which the log goes on in a new segment; less if that would be a large part of the whole.
    pub segment_bytes: u64,
    /// Zeros that are written ahead of the log's end; with 0, the file grows with every group.
    pub ahead_bytes: u64,
    /// How long what is kept `relaxed` may wait for being synced.
    pub relaxed_sync: Duration,
    /// Bytes of the newest part of the log that are kept in memory.
    pub hot_bytes_max: usize,
    /// Bytes of all publications that are kept in memory only. Above it the oldest are given up.
    pub held_bytes_max: usize,
    /// Bytes of what is known of channels and of the publications that are kept of them, about. Above it, nothing is stored of a channel
    /// that is not known.
    pub index_bytes_max: usize,
    /// Idempotency keys that are remembered. Above it the oldest are forgotten early.
    pub keys_max: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            disk_bytes_max: LOG_BYTES_MAX,
            segment_bytes: LOG_SEGMENT_BYTES,
            ahead_bytes: LOG_AHEAD_BYTES,
            relaxed_sync: RELAXED_SYNC_INTERVAL,
            hot_bytes_max: HOT_TAIL_BYTES_MAX,
            held_bytes_max: MEMORY_HISTORY_BYTES_MAX,
            index_bytes_max: usize::MAX,
            keys_max: IDEMPOTENCY_KEYS_MAX,
        }
    }
}

impl StoreSettings {
    /// The same, on a node that may use so many bytes of memory: a small one holds less there, and reads smaller segments when it starts.
    #[must_use]
    pub fn within(self, memory: u64) -> Self {
        Self {
            segment_bytes: self.segment_bytes.min((memory / LOG_SEGMENT_FRACTION).max(LOG_SEGMENT_BYTES_MIN)),
            hot_bytes_max: share(self.hot_bytes_max, memory, HOT_TAIL_FRACTION),
            held_bytes_max: share(self.held_bytes_max, memory, MEMORY_HISTORY_FRACTION),
            index_bytes_max: share(self.index_bytes_max, memory, INDEX_FRACTION),
            keys_max: share(self.keys_max, memory, IDEMPOTENCY_KEY_FRACTION),
            ..self
        }
    }

    /// Files that the log may have open when it is full: each segment is one, and so is one that is being rewritten.
    pub fn files_max(&self) -> u64 {
        self.disk_bytes_max.div_ceil(self.segment_bytes_fitting().max(1)) + 1
    }

    /// Space is given back by segments: some must fit.
    pub(super) fn segment_bytes_fitting(&self) -> u64 {
        self.segment_bytes.min(self.disk_bytes_max / 8)
    }
}
