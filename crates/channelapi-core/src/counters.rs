//! Numbers that only grow, counted where something happens and read by whoever shows them.
//!
//! They belong to the process, like its memory and its file descriptors: one relaxed addition each, no lock and nothing to hand
//! down.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one.
    pub fn count(&self) {
        self.add(1);
    }

    /// Counts several.
    pub fn add(&self, several: u64) {
        self.0.fetch_add(several, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What this crate counts.
#[derive(Debug)]
pub struct Counters {
    /// Publications that were stored, or sent without being stored. Repeats under an idempotency key do not count.
    pub publications: Counter,
    /// Requests that were repeats under an idempotency key.
    pub repeats: Counter,
    /// Publications handed to subscribers, live or from history: one for each subscriber.
    pub deliveries: Counter,
    /// Bytes of them, with what the protocol adds.
    pub delivered_bytes: Counter,
    /// Times a subscriber had no room for what came live, and was served from history instead.
    pub catch_ups: Counter,
    /// Publications that were kept nowhere, and lost to a subscriber that had no room for them, or was served from history meanwhile.
    pub volatile_losses: Counter,
    /// Times a subscriber was told that something is missing.
    pub gaps: Counter,
    /// Times a publication was served that does not follow the one before it in its channel, which cannot be.
    pub out_of_order: Counter,
    /// Publications of histories that were given up early because the log was over its limit on disk.
    pub given_up: Counter,
    /// Publications that are kept in memory only, and were given up early because all of them took too much.
    pub given_up_in_memory: Counter,
    /// Channels of which nothing was kept, and that were forgotten because there were too many of them.
    pub channels_forgotten: Counter,
    /// Idempotency keys that were forgotten while a publisher might have repeated them, because there were too many.
    pub keys_forgotten: Counter,
    /// Renewals of tokens that were not made, because the disk took none and too many waited for it.
    pub renewals_dropped: Counter,
}

/// Everything that was counted in this process.
pub static COUNTERS: Counters = Counters {
    publications: Counter::new(),
    repeats: Counter::new(),
    deliveries: Counter::new(),
    delivered_bytes: Counter::new(),
    catch_ups: Counter::new(),
    volatile_losses: Counter::new(),
    gaps: Counter::new(),
    out_of_order: Counter::new(),
    given_up: Counter::new(),
    given_up_in_memory: Counter::new(),
    channels_forgotten: Counter::new(),
    keys_forgotten: Counter::new(),
    renewals_dropped: Counter::new(),
};
