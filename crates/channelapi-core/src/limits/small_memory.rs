//! What a node holds where there is little memory: parts of it, where the limits in bytes would be too much.

/// Of a small memory, the newest part of the log may take one in so many bytes.
pub const HOT_TAIL_FRACTION: u64 = 16;

/// Of a small memory, publications that are kept in memory only may take one in so many bytes.
pub const MEMORY_HISTORY_FRACTION: u64 = 8;

/// Of the memory, what is known of channels and of the publications that are kept of them may take one in so many bytes. Above it a
/// publication to a channel that is not known is refused, so that whoever makes up names leaves the others theirs.
pub const INDEX_FRACTION: u64 = 4;

/// Of a small memory, there may be an idempotency key for so many bytes, of which it takes a sixteenth.
pub const IDEMPOTENCY_KEY_FRACTION: u64 = 4096;

/// Of a small memory, publications that are being stored may take one in so many bytes.
pub const PUBLISHING_FRACTION: u64 = 16;

/// Of a small memory, publications that wait for the fan-out may take one in so many bytes.
pub const FANOUT_WAITING_FRACTION: u64 = 16;

/// Of a small memory, what waits for clients may take one in so many bytes.
pub const WAITING_FRACTION: u64 = 8;

/// Of the bytes that may wait for all clients, connections of all workers may hold one in so many. Whoever holds something is not slow: even
/// when as much as may be is on its way, three quarters of what may be queued are left for those who are.
pub const HELD_FRACTION: usize = 8;

/// Of a small memory, what is still to come as a whole may take one in so many bytes.
pub const RECEIVING_FRACTION: u64 = 16;

/// Of a small memory, a segment may take one in so many bytes: a start has up to three of them there.
pub const LOG_SEGMENT_FRACTION: u64 = 16;

/// What may be held of one kind where there are so many bytes of memory: `most`, or the kind's part of a small memory, so that all
/// kinds together leave room there for the connections and for what is on its way.
pub fn share(most: usize, memory: u64, fraction: u64) -> usize {
    usize::try_from(memory / fraction).map_or(most, |part| part.min(most))
}
