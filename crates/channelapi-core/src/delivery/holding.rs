//! Connections that hold publications of several channels, to send them in one write.
//!
//! Invariant: whoever holds something is released before its worker waits for other work.

use super::turn::Turn;
use super::{Delivery, SharedSubscriber};
use crate::limits::{FANOUT_CHUNK, OUTBOX_ENTRY_BYTES, OUTBOX_LIVE_BYTES_MAX};
use bytes::Bytes;

/// Those of one worker.
pub(super) struct Holding {
    /// Each once.
    subscribers: Vec<SharedSubscriber>,
    /// What they hold, together.
    bytes: usize,
    /// How much they may.
    pub(super) bytes_max: usize,
}

impl Holding {
    /// Nobody holds anything, and all together may hold so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { subscribers: Vec::new(), bytes: 0, bytes_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Whether no more is to be held before what is held has left.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Hands frames to a connection that is to hold them, or to send them at once if no more is to be held.
    pub(super) fn hold(&mut self, subscriber: &SharedSubscriber, frames: &Bytes) -> Delivery {
        let delivery = if self.is_full() {
            subscriber.deliver(frames, OUTBOX_LIVE_BYTES_MAX)
        } else {
            self.bytes += frames.len() + OUTBOX_ENTRY_BYTES;
            subscriber.hold(frames, OUTBOX_LIVE_BYTES_MAX)
        };
        match delivery {
            Delivery::Taken => {}
            Delivery::Held => self.subscribers.push(subscriber.clone()),
            Delivery::Full => {
                // What takes the room may be nothing but what is held: that does not make a client a slow one.
                subscriber.release();
                return subscriber.deliver(frames, OUTBOX_LIVE_BYTES_MAX);
            }
        }
        delivery
    }

    /// Lets all of them send it.
    pub(super) async fn release(&mut self, turn: &mut Turn) {
        self.bytes = 0;
        let subscribers = std::mem::take(&mut self.subscribers);
        for chunk in subscribers.chunks(FANOUT_CHUNK) {
            turn.take(chunk.len()).await;
            for subscriber in chunk {
                subscriber.release();
            }
        }
    }
}
