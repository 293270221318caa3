//! What the doors have in common: looking up tokens, room for channels, sessions that can be taken over, and how they refuse.

use super::connection::Connection;
use super::frames;
use super::sessions::Sessions;
use super::socketio::disconnect;
use channelapi_core::broker::Since;
use channelapi_core::delivery::{From, Subscriber as _};
use channelapi_core::hub::{Hub, Lookup};
use channelapi_core::limits::{ACKS_UNDER_WAY_MAX, CHANNELS_PER_CONNECTION_MAX};
use channelapi_core::model::{ChannelName, ConsumerName};
use channelapi_protocol::engineio::Frame;
use channelapi_protocol::socketio::ROOT;
use std::fmt::Display;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::error;

/// The ways into channels.
pub(super) struct Doors {
    pub(super) hub: Arc<Hub>,
    pub(super) sessions: Sessions,
    /// How many confirmations may wait for the disk.
    pub(super) acks: Arc<Semaphore>,
}

/// Why a client does not get what it wants.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, message: &str) -> Self {
        Self { code, message: message.to_owned() }
    }

    /// Something of ours failed. The client may try again.
    pub(super) fn unavailable(error: &impl Display) -> Self {
        error!(%error, "a client could not be served");
        Self::new("unavailable", "the server cannot do this right now; try again")
    }

    /// What programs tell it by.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// What people read.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// As the answer to a CONNECT.
    pub(super) fn frame(&self) -> Frame {
        frames::refusal(self.code, &self.message)
    }
}

impl Doors {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, sessions: Sessions::new(), acks: Arc::new(Semaphore::new(ACKS_UNDER_WAY_MAX)) }
    }

    /// The channel that a token opens, if it is one that lives.
    pub(super) async fn channel_of(&self, token: &str) -> Result<Option<ChannelName>, Refusal> {
        match self.hub.tokens.lookup(token) {
            Lookup::Valid(channel) => Ok(Some(channel)),
            Lookup::Invalid => Ok(None),
            Lookup::Unknown(hash) => {
                self.hub.tokens.find(hash).await.map_err(|error| Refusal::unavailable(&error))
            }
        }
    }

    /// Looks again after a client joined with tokens: if one of them was revoked in between, there was nobody to disconnect; and if it was
    /// put out for another one, it is not to be in the channel that it has just joined.
    pub(super) async fn look_again(&self, connection: &Arc<Connection>, tokens: &[String]) {
        if !connection.namespaces.lock().holds(ROOT) {
            _ = self.hub.disconnect(connection.id()).await;
            return;
        }
        for token in tokens {
            if let Ok(None) = self.channel_of(token).await {
                return self.turn_away(connection).await;
            }
        }
    }

    /// Turns a client away: it leaves all its channels and then the namespace, as with the original.
    pub(super) async fn turn_away(&self, connection: &Arc<Connection>) {
        _ = self.hub.disconnect(connection.id()).await;
        self.forget(connection);
        disconnect(connection);
    }

    /// From where on a client hears a channel that does not say where it stands.
    pub(super) fn first_time(&self, channel: &ChannelName) -> From {
        match self.hub.broker.policy(channel).replay_on_join {
            0 => From::Now,
            newest => From::After(self.hub.broker.after_all_but(channel, newest)),
        }
    }

    /// Where what a consumer has not confirmed begins.
    pub(super) async fn unread_since(
        &self,
        channel: &ChannelName,
        consumer: &ConsumerName,
    ) -> Result<Since, Refusal> {
        match self.hub.consumers.position(channel, consumer).await {
            Ok(position) => Ok(Since::Offset(position.offset)),
            Err(error) => Err(Refusal::unavailable(&error)),
        }
    }

    /// A client has left: its session is on no connection, unless it is on another already.
    pub(super) fn forget(&self, connection: &Connection) {
        let pid = connection.namespaces.lock().pid.take();
        if let Some(pid) = pid {
            self.sessions.leave(&pid, connection.id());
        }
    }
}

/// Whether a client may join one more channel, or is in this one.
pub(super) fn has_room(connection: &Connection, channel: &ChannelName) -> bool {
    let channels = &connection.namespaces.lock().channels;
    channels.len() < CHANNELS_PER_CONNECTION_MAX || channels.contains(channel)
}
