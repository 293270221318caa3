//! A broker for one node that stores nothing: whoever is connected gets the publication, nobody else.
//!
//! Invariant: the sink sees publications in the order of their sequence, whichever threads publish.

use super::PublicationSink;
use crate::model::{ChannelName, Publication};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// Carries publications within this process.
pub struct MemoryBroker {
    sink: Arc<dyn PublicationSink>,
    /// Held while a publication is handed over: numbering and handing over are one step, or two publishers could cross.
    sequence: Mutex<u64>,
}

impl MemoryBroker {
    /// A broker that hands everything to `sink`.
    pub fn new(sink: Arc<dyn PublicationSink>) -> Self {
        Self { sink, sequence: Mutex::new(0) }
    }

    /// Publishes `data`, which is JSON, and returns its place.
    pub fn publish(&self, channel: ChannelName, data: Bytes) -> u64 {
        let mut sequence = self.sequence.lock();
        *sequence += 1;
        self.sink.deliver(Publication { channel, sequence: *sequence, data });
        *sequence
    }
}
