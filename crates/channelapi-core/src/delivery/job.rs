//! What a worker is asked to do.

use super::SharedSubscriber;
use super::encoded::{Encoded, Form};
use crate::broker::Page;
use crate::model::{ChannelName, ConnectionId};
use bytes::Bytes;
use std::io;
use std::sync::{Arc, Weak};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A connection joins channels.
pub struct Join {
    /// The connection.
    pub subscriber: SharedSubscriber,
    /// The channels, and from where on it hears them.
    pub channels: Vec<(ChannelName, From)>,
    /// How it wants its publications.
    pub form: Form,
    /// Whether the client understands that something is missing. Others are closed then, so that they come back.
    pub is_aware: bool,
    /// Whether the channels count for where the client stands, so that the replay ends with a checkpoint.
    pub is_resumable: bool,
    /// Frames that tell the client so. They leave when the subscription is in place and before its first publication.
    pub reply: Bytes,
}

/// From where on a connection hears a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// From now on.
    Now,
    /// From the publication behind this turn.
    After(u64),
    /// The same for one that never had anything of the channel: it misses nothing of what is given up before it is read.
    Newest(u64),
}

/// Tells whoever asked for a subscription, or for its end, that it is done. Waiting for it before the next request keeps the
/// queues of the workers as short as the number of connections.
pub type Done = oneshot::Receiver<()>;

/// What a worker is asked to do, in order.
pub(super) enum Job {
    Publish(Arc<Encoded>),
    Join(Join, oneshot::Sender<()>),
    Disconnect(ConnectionId, oneshot::Sender<()>),
    Leave(ConnectionId, ChannelName, oneshot::Sender<()>),
    /// Everybody leaves a channel, and all others, for good.
    Revoke(ChannelName, oneshot::Sender<usize>),
    /// Nothing waits for a connection any more.
    Drained(ConnectionId),
    /// What was read from disk for a connection.
    Page {
        connection: ConnectionId,
        ticket: Weak<()>,
        page: io::Result<Option<Page>>,
        _permit: OwnedSemaphorePermit,
    },
}
