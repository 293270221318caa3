//! How a publication reaches the connections of this node.
//!
//! Connections are spread over workers, about one per core. A worker owns the subscriptions of its connections and serves
//! them alone: one connection sees one order, and a large channel is served by all cores.

mod demand;
mod fanout;
mod subscriptions;
mod worker;

pub use fanout::Fanout;
pub use subscriptions::Subscriptions;
pub use worker::{Done, Subscribe};

use crate::model::{ConnectionId, Publication};
use bytes::Bytes;
use std::sync::Arc;

/// One connection, as the fan-out sees it.
pub trait Subscriber: Send + Sync + 'static {
    /// Which connection this is.
    fn id(&self) -> ConnectionId;

    /// Sends or queues encoded frames. It never waits; a connection that cannot keep up closes itself.
    fn deliver(&self, frames: &Bytes);

    /// Whether the connection still takes frames. Once false it stays false.
    fn is_open(&self) -> bool;
}

/// Turns a publication into the bytes that every subscriber shares.
pub trait FrameEncoder: Send + Sync + 'static {
    /// The frame of `publication`.
    fn encode(&self, publication: &Publication) -> Bytes;
}

/// A shared subscriber.
pub type SharedSubscriber = Arc<dyn Subscriber>;
