//! Connections that hold publications of several channels, to send them in one write.
//!
//! Invariant: whoever holds something is released before its worker waits for other work.

use super::{Delivery, SharedSubscriber};
use crate::limits::{FANOUT_CHUNK, HELD_BYTES_MAX, OUTBOX_ENTRY_BYTES, OUTBOX_LIVE_BYTES_MAX};
use bytes::Bytes;

/// Those of one worker.
#[derive(Default)]
pub(super) struct Holding {
    /// Each once.
    subscribers: Vec<SharedSubscriber>,
    /// What they hold, together.
    bytes: usize,
}

impl Holding {
    pub(super) fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Whether no more is to be held before what is held has left.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= HELD_BYTES_MAX
    }

    /// Hands frames to a connection that is to hold them, or to send them at once if no more is to be held.
    pub(super) fn hold(&mut self, subscriber: &SharedSubscriber, frames: &Bytes) -> Delivery {
        if self.is_full() {
            return subscriber.deliver(frames, OUTBOX_LIVE_BYTES_MAX);
        }
        let delivery = subscriber.hold(frames, OUTBOX_LIVE_BYTES_MAX);
        if delivery == Delivery::Held {
            self.subscribers.push(subscriber.clone());
        }
        self.bytes += frames.len() + OUTBOX_ENTRY_BYTES;
        delivery
    }

    /// Lets all of them send it.
    pub(super) async fn release(self) {
        let mut chunks = self.subscribers.chunks(FANOUT_CHUNK).peekable();
        while let Some(chunk) = chunks.next() {
            for subscriber in chunk {
                subscriber.release();
            }
            if chunks.peek().is_some() {
                tokio::task::yield_now().await;
            }
        }
    }
}
