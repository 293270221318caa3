//! What the doors have in common: looking up tokens, room for channels, sessions that can be taken over, and how they refuse.

use super::connection::Connection;
use super::frames;
use super::grants::Grant;
use super::requests::AuthError;
use super::sessions::Sessions;
use super::socketio::disconnect;
use crate::admission::UserFull;
use crate::identity::{Claims, Denied, Identity, is_jwt};
use crate::metrics::{JoinRefused, PUT_OUT};
use channelapi_core::broker::Since;
use channelapi_core::clock::millis_of;
use channelapi_core::delivery::{self, Subscriber as _};
use channelapi_core::hub::Hub;
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
    /// Who judges what clients bring.
    pub(super) identity: Arc<Identity>,
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

    /// It asks for a channel that nothing it brought opens.
    pub(super) fn not_granted() -> Self {
        Self::new("not_granted", "no token that the client brought opens this channel")
    }

    /// Whom its JWT speaks of has as many connections as it may.
    pub(super) fn too_many_connections() -> Self {
        Self::new("too_many_connections", "the user has as many connections as it may")
    }

    /// As what it is counted.
    pub(super) fn counted(&self) -> JoinRefused {
        match self.code {
            "token_invalid" => JoinRefused::Token,
            "token_not_yet_valid" => JoinRefused::NotYetValid,
            "token_expired" => JoinRefused::Expired,
            "token_revoked" => JoinRefused::Revoked,
            "not_granted" => JoinRefused::NotGranted,
            "too_many_channels" => JoinRefused::Channels,
            "too_many_attempts" => JoinRefused::TokenRate,
            "too_many_connections" => JoinRefused::User,
            "unavailable" => JoinRefused::Unavailable,
            _ => JoinRefused::BadRequest,
        }
    }

    /// Whether the client may be somebody who tries tokens.
    pub(super) fn is_guess(&self) -> bool {
        self.code == Denied::Invalid.code()
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
    pub(super) fn new(hub: Arc<Hub>, identity: Arc<Identity>) -> Self {
        Self { hub, identity, sessions: Sessions::new(), acks: Arc::new(Semaphore::new(ACKS_UNDER_WAY_MAX)) }
    }

    /// What a JWT opens for a client, until it ends.
    pub(super) fn grant(&self, claims: Claims, channels: Vec<ChannelName>) -> Grant {
        let stay = millis_of(self.identity.stay(&claims));
        let over_at = self.hub.clock().monotonic_millis().saturating_add(stay);
        Grant { bearer: claims.bearer, expires_at: claims.expires_at, over_at, channels }
    }

    /// Looks again after a client joined with tokens: if one of them was revoked in between, there was nobody to disconnect; and if it was
    /// put out for another one, it is not to be in the channel that it has just joined.
    pub(super) async fn look_again(&self, connection: &Arc<Connection>, tokens: &[String]) {
        if !connection.namespaces.lock().holds(ROOT) {
            _ = self.hub.disconnect(connection.id()).await;
            connection.forget_grants();
            return;
        }
        if connection.is_revoked(&self.hub.revocations) {
            return self.put_out(connection).await;
        }
        for token in tokens.iter().filter(|token| !is_jwt(token)) {
            if matches!(self.identity.verify(token).await, Err(Denied::Invalid)) {
                return self.put_out(connection).await;
            }
        }
    }

    /// Turns a client away that was in, because what it came in with is revoked.
    pub(super) async fn put_out(&self, connection: &Arc<Connection>) {
        PUT_OUT.count();
        _ = self.hub.disconnect(connection.id()).await;
        self.forget(connection);
        connection.send_away();
    }

    /// Turns a client away: it leaves all its channels and then the namespace, as with the original.
    pub(super) async fn turn_away(&self, connection: &Arc<Connection>) {
        _ = self.hub.disconnect(connection.id()).await;
        self.forget(connection);
        disconnect(connection);
    }

    /// From where on a client hears a channel that does not say where it stands.
    pub(super) fn first_time(&self, channel: &ChannelName) -> delivery::From {
        match self.hub.broker.policy(channel).replay_on_join {
            0 => delivery::From::Now,
            newest => delivery::From::Newest(self.hub.broker.after_all_but(channel, newest)),
        }
    }

    /// Where what a consumer has not confirmed begins.
    pub(super) async fn unread_since(
        &self,
        channel: &ChannelName,
        consumer: &ConsumerName,
    ) -> Result<Since, Refusal> {
        let since = self.hub.consumers.unread_since(channel, consumer).await;
        since.map_err(|error| Refusal::unavailable(&error))
    }

    /// A client has left: its session is on no connection, unless it is on another already.
    pub(super) fn forget(&self, connection: &Connection) {
        connection.forget_grants();
        let session = connection.namespaces.lock().session.take();
        if let Some(session) = session {
            self.sessions.leave(&session, connection.id());
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Bad(_) => "bad_auth",
            AuthError::TooManyChannels => "too_many_channels",
        };
        Self::new(code, &error.to_string())
    }
}

impl From<UserFull> for Refusal {
    fn from(_: UserFull) -> Self {
        Self::too_many_connections()
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::new(denied.code(), denied.message())
    }
}

/// Whether a client may join one more channel, or is in this one.
pub(super) fn has_room(connection: &Connection, channel: &ChannelName) -> bool {
    let channels = &connection.namespaces.lock().channels;
    channels.len() < CHANNELS_PER_CONNECTION_MAX || channels.contains(channel)
}
