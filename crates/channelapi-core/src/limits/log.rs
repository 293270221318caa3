//! Limits of the log and of what is known of it in memory.

use std::time::Duration;

/// Publications that wait for the log; more wait before they are queued.
pub const LOG_QUEUE_MAX: usize = 4096;

/// Publications that are made durable together.
pub const LOG_GROUP_MAX: usize = 1024;

/// Bytes that are made durable together, but for the last publication of the group.
pub const LOG_GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes after which the log goes on in a new segment. A segment is removed as a whole.
pub const LOG_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The smallest segments, for each is an open file.
pub const LOG_SEGMENT_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Bytes of the whole log. Above it, the oldest segment is given up with everything in it.
pub const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;

/// Zeros that are written ahead of the log's end, so that a sync need not make a longer file durable, too.
pub const LOG_AHEAD_BYTES: u64 = 1024 * 1024;

/// How often to look for what is too old.
pub const LOG_SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// How long a publisher may repeat a request under its idempotency key.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_mins(10);

/// Bytes of one page of history, but for a single publication that is larger.
pub const HISTORY_PAGE_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the newest part of the log that are kept in memory, so that whoever was away for a moment is served without the disk.
pub const HOT_TAIL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of all publications that are kept in memory only. Above it the oldest are given up, and their channels say so.
pub const MEMORY_HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long what is kept `relaxed` may wait for being synced.
pub const RELAXED_SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes set aside on the disk, given up when it is full, so that there is room to write down what is removed.
pub const LOG_RESERVE_BYTES: u64 = 1024 * 1024;

/// Lives of the log that are remembered, 24 bytes each in every segment: the newest, and the last with channels in memory only. A cursor of
/// another one is `diverged`.
pub const LOG_GENERATIONS_MAX: usize = 1024;

/// Channels of which nothing is kept but where they stand, about 250 bytes each. Above it the longest idle are forgotten: whoever
/// comes back to one of them with a cursor from before is told that something may be missing.
pub const IDLE_CHANNELS_MAX: usize = 262_144;

/// The part of the room for what is known of channels that those of which nothing is kept have to themselves. Where others take more than the
/// rest of three quarters, the longest idle are forgotten until they have no more than that.
pub const IDLE_CHANNELS_FRACTION: usize = 16;

/// Channels that upkeep looks at before readers and the writer get a turn: well below a millisecond.
pub const UPKEEP_CHUNK: u32 = 1024;

/// A sealed segment is rewritten when less than one in so many of its bytes is in use.
pub const REWRITE_LIVE_FRACTION: u64 = 2;

/// Idempotency keys that are remembered, about 250 bytes each. Above it the oldest are forgotten early.
pub const IDEMPOTENCY_KEYS_MAX: usize = 1_000_000;
