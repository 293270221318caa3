//! How a publication reaches the connections of this node.
//!
//! Connections are spread over workers, about one per core. A worker owns the subscriptions of its connections and serves
//! them alone: one connection sees one order, and a large channel is served by all cores.
//!
//! A subscription is either *live*, then publications are handed to it as they come, or it *catches up*, then it is served from
//! history, a page at a time, whenever its connection has room. Joining with a place to start from and being too slow are the
//! same thing here, see `catch_up.rs`.

mod catch_up;
mod demand;
mod encoded;
mod fanout;
mod gathering;
mod holding;
mod job;
#[cfg(test)]
mod schedules;
mod subscriptions;
#[cfg(test)]
mod tests;
mod turn;
mod worker;

pub use encoded::{Form, FrameEncoder};
pub use fanout::Fanout;
pub use job::{Done, From, Join};
pub use subscriptions::Subscriptions;
pub use worker::Worker;

use crate::model::ConnectionId;
use bytes::Bytes;
use std::sync::Arc;

/// What became of frames that were handed to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// They are on their way, or the connection has ended and nobody wants them.
    Taken,
    /// They wait until they are [released](Subscriber::release).
    Held,
    /// There was no room: nothing was taken.
    Full,
}

/// Why the fan-out ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It does not read, and what it missed is not kept. It should come back.
    Slow,
    /// What it was let in with is no longer good. It should stay away.
    Revoked,
}

/// One connection, as the fan-out sees it.
pub trait Subscriber: Send + Sync + 'static {
    /// Which connection this is.
    fn id(&self) -> ConnectionId;

    /// Sends or queues encoded frames, unless more than `bytes_max` would wait then. It never waits itself.
    fn deliver(&self, frames: &Bytes, bytes_max: usize) -> Delivery;

    /// Takes frames as [`deliver`](Self::deliver) does, with more to come at once. If they are [`Delivery::Held`], the caller must
    /// [release](Self::release) them; otherwise they go on by themselves.
    fn hold(&self, frames: &Bytes, bytes_max: usize) -> Delivery {
        self.deliver(frames, bytes_max)
    }

    /// Sends, or queues, what was held.
    fn release(&self) {}

    /// Whether nothing waits for this connection. If something does, the fan-out is told once when it is gone.
    fn is_drained(&self) -> bool;

    /// Whether the connection still takes frames. Once false it stays false.
    fn is_open(&self) -> bool;

    /// Ends the connection. Its subscriptions are gone already.
    fn end(&self, reason: End);
}

/// A shared subscriber.
pub type SharedSubscriber = Arc<dyn Subscriber>;
