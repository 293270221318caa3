//! The façade of a node: what its doors (the HTTP API and the gateway) may ask for.

mod tokens;

pub use tokens::{Lookup, TokenError, Tokens};

use crate::broker::MemoryBroker;
use crate::clock::Clock;
use crate::delivery::{Done, Fanout, FrameEncoder, Subscribe};
use crate::model::{ChannelName, ConnectionId};
use crate::state::{DataDirectory, DataDirectoryError, StateError, StateStore};
use bytes::Bytes;
use std::sync::Arc;

/// One node.
pub struct Hub {
    /// Who may join what.
    pub tokens: Arc<Tokens>,
    fanout: Arc<Fanout>,
    broker: MemoryBroker,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] DataDirectoryError),
    /// The state file in it.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Hub {
    /// Starts a node on its data directory, with `workers` fan-out workers.
    pub fn start(
        directory: &DataDirectory,
        clock: Clock,
        workers: usize,
        encoder: Arc<dyn FrameEncoder>,
    ) -> Result<Self, StartError> {
        let state = StateStore::open(directory)?;
        let tokens = Arc::new(Tokens::new(state, directory.token_secret()?, clock));
        // The workers end when the fan-out is dropped; nobody needs to wait for them.
        let (fanout, _) = Fanout::start(workers, encoder);
        let fanout = Arc::new(fanout);
        Ok(Self { tokens, broker: MemoryBroker::new(fanout.clone()), fanout })
    }

    /// Publishes `data`, which is JSON, to everyone in the channel. Waits only while this node is behind with its work.
    pub async fn publish(&self, channel: ChannelName, data: Bytes) {
        self.fanout.room().await;
        self.broker.publish(channel, data);
    }

    /// Puts a connection into a channel.
    pub fn subscribe(&self, join: Subscribe) -> Done {
        self.fanout.subscribe(join)
    }

    /// Takes a connection out of all its channels.
    pub fn disconnect(&self, connection: ConnectionId) -> Done {
        self.fanout.disconnect(connection)
    }

    /// Channels that somebody on this node is in.
    pub fn active_channels(&self) -> usize {
        self.fanout.channels()
    }
}
