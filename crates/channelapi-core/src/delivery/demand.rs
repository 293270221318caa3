//! What the front of the fan-out and its workers share: which worker wants which channel, and how much waits for them.

use crate::limits::{FANOUT_WAITING_BYTES_MAX, HELD_BYTES_MAX, HELD_FRACTION};
use crate::model::{ChannelName, Cursor};
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

#[derive(Default)]
struct Wanted {
    /// Names of channels that somebody joined with a token: whoever made it chose them, not a stranger.
    channels: HashMap<ChannelName, Box<[u32]>, RandomState>,
    /// Where a client stands that has received everything that was handed over.
    handed_over: Option<Cursor>,
}

pub(super) struct Demand {
    workers: usize,
    /// For each channel, the number of its subscriptions in each worker, those that are still queued included.
    wanted: Mutex<Wanted>,
    waiting_bytes: AtomicUsize,
    waiting_bytes_max: AtomicUsize,
    held_bytes_max: AtomicUsize,
    room: Notify,
}

impl Demand {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers,
            wanted: Mutex::default(),
            waiting_bytes: AtomicUsize::new(0),
            waiting_bytes_max: AtomicUsize::new(FANOUT_WAITING_BYTES_MAX),
            held_bytes_max: AtomicUsize::new(HELD_BYTES_MAX),
            room: Notify::new(),
        }
    }

    /// Channels that any worker wants.
    pub(super) fn channels(&self) -> usize {
        self.wanted.lock().channels.len()
    }

    /// Subscriptions in a channel.
    pub(super) fn subscribers(&self, channel: &ChannelName) -> usize {
        let wanted = self.wanted.lock();
        wanted.channels.get(channel).map_or(0, |counts| counts.iter().map(|count| *count as usize).sum())
    }

    /// Nothing has been handed over yet: a client that is here stands at `stands`.
    pub(super) fn begin(&self, stands: Cursor) {
        self.wanted.lock().handed_over.get_or_insert(stands);
    }

    /// Hands something to each worker that wants a channel, together with where a client stands that has received it; `stands` is
    /// that place, if it is a new one. No subscription changes meanwhile: `hand_over` must not wait.
    pub(super) fn for_each_worker(
        &self,
        channel: &ChannelName,
        stands: Option<Cursor>,
        mut hand_over: impl FnMut(usize, Option<Cursor>),
    ) {
        let mut wanted = self.wanted.lock();
        if stands.is_some() {
            wanted.handed_over = stands;
        }
        let counts = wanted.channels.get(channel).map_or(&[][..], |counts| counts);
        for (worker, _) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            hand_over(worker, wanted.handed_over);
        }
    }

    /// A worker will have one more subscription in a channel.
    pub(super) fn want(&self, channel: &ChannelName, worker: usize) {
        let mut wanted = self.wanted.lock();
        let counts = wanted.channels.entry(channel.clone()).or_insert_with(|| vec![0; self.workers].into());
        counts[worker] += 1;
    }

    /// A worker has one subscription less in a channel.
    pub(super) fn unwant(&self, channel: &ChannelName, worker: usize) {
        let mut wanted = self.wanted.lock();
        if let Some(counts) = wanted.channels.get_mut(channel) {
            counts[worker] -= 1;
            if counts.iter().all(|count| *count == 0) {
                wanted.channels.remove(channel);
            }
        }
    }

    /// Bytes that wait for the workers.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting_bytes() < self.waiting_bytes_max.load(Ordering::Relaxed)
    }

    /// Lets so many bytes wait for the workers.
    pub(super) fn set_waiting_bytes_max(&self, bytes: usize) {
        let before = self.waiting_bytes_max.swap(bytes, Ordering::Relaxed);
        if before < bytes {
            self.room.notify_waiters();
        }
    }

    /// How many bytes the connections of one worker may hold together.
    pub(super) fn held_bytes_max(&self) -> usize {
        self.held_bytes_max.load(Ordering::Relaxed)
    }

    /// Lets all connections hold a part of so many bytes, those of one worker as much as those of another.
    pub(super) fn share_held_bytes(&self, bytes: usize) {
        let part = bytes / HELD_FRACTION / self.workers;
        self.held_bytes_max.store(part.min(HELD_BYTES_MAX), Ordering::Relaxed);
    }

    /// Waits while too much waits.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            let freed = self.room.notified();
            // What was freed before the line above is seen here, what is freed after it wakes us.
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }

    /// Frames of so many bytes wait for a worker.
    pub(super) fn queued(&self, bytes: usize) {
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A worker has served frames of so many bytes.
    pub(super) fn served(&self, bytes: usize) {
        let before = self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before >= self.waiting_bytes_max.load(Ordering::Relaxed) {
            self.room.notify_waiters();
        }
    }
}
