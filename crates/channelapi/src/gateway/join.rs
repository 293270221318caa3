//! `join_channel`: the seed's door, which is live only, and the explicit one, for clients that say from where on they want to hear
//! a channel.

use super::connection::Connection;
use super::disconnect::Disconnect;
use super::doors::{Doors, Refusal, has_room};
use super::frames;
use super::requests::{JoinRequest, Place, Replay};
use crate::admission::UserFull;
use crate::identity::{Claims, Credential, Denied};
use crate::metrics::{JoinRefused, count_gap};
use channelapi_core::broker::{Gap, History as _, Since, Start};
use channelapi_core::delivery::{Form, From, Join};
use channelapi_core::model::ChannelName;
use serde_json::json;
use std::sync::Arc;

/// Why a token does not open a channel.
enum Unopened {
    Denied(Denied),
    /// It is a JWT that does not open the channel that is wanted.
    NotGranted,
    /// It is a JWT that opens several.
    Ambiguous,
    /// It is a JWT of a user that has as many connections as it may.
    UserFull,
}

impl Unopened {
    /// Whether the client may well do better the next time.
    fn is_worth_an_answer(&self) -> bool {
        matches!(
            self,
            Self::Denied(Denied::Early | Denied::Expired)
                | Self::NotGranted
                | Self::Ambiguous
                | Self::UserFull
        )
    }
}

impl std::convert::From<Unopened> for Refusal {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Denied(denied) => denied.into(),
            Unopened::NotGranted => Self::not_granted(),
            Unopened::UserFull => Self::too_many_connections(),
            Unopened::Ambiguous => {
                Self::new("bad_request", "the token opens several channels: say which with {token, channel}")
            }
        }
    }
}

/// From where on a client hears a channel through the explicit door.
struct Beginning {
    after: u64,
    /// Whether something is missing before that.
    is_gap: bool,
    /// What it is told.
    reply: Vec<u8>,
}

impl Doors {
    /// Puts a client into the channel that its token opens, or turns it away.
    pub(super) async fn join(
        &self,
        connection: &Arc<Connection>,
        ack: Option<u64>,
        request: Option<JoinRequest>,
    ) {
        let Some(JoinRequest { token, channel, replay }) = request else {
            JoinRefused::BadRequest.count();
            return self.turn_away(connection).await;
        };
        let admission = &connection.gateway().admission;
        if admission.is_short_of_memory() {
            JoinRefused::Memory.count();
            return connection.close(Disconnect::Memory);
        }
        if connection.is_out_of_tokens() {
            JoinRefused::TokenRate.count();
            return self.turn_away(connection).await;
        }
        let (channel, claims) = match self.open(&token, channel.as_deref()).await {
            Ok((channel, claims)) if has_room(connection, &channel) => (channel, claims),
            Ok(_) => {
                JoinRefused::Channels.count();
                return self.turn_away(connection).await;
            }
            Err(unopened) => return self.refuse(connection, ack, &token, unopened).await,
        };
        // Before anything is changed: a client that is refused here stays as it was.
        let beginning = match replay {
            None => None,
            Some(Err(message)) => {
                JoinRefused::BadRequest.count();
                return answer_error(connection, ack, &Refusal::new("bad_request", &message));
            }
            Some(Ok(replay)) => match self.beginning(&channel, ack, replay).await {
                Ok(beginning) => Some(beginning),
                Err(refusal) => {
                    refusal.counted().count();
                    return answer_error(connection, ack, &refusal);
                }
            },
        };
        let admitted = connection.change_grants(|grants| {
            let Some(claims) = claims else {
                grants.release(&channel);
                return Ok(());
            };
            // Before it is in the channel, so that whoever revokes something finds it.
            grants.admit([&claims.bearer], admission)?;
            grants.add(self.grant(claims, vec![channel.clone()]));
            Ok(())
        });
        if let Err(UserFull) = admitted {
            return self.refuse(connection, ack, &token, Unopened::UserFull).await;
        }
        match beginning {
            None => self.join_live(connection, ack, channel).await,
            Some(beginning) => self.join_since(connection, channel, beginning).await,
        }
        self.look_again(connection, &[token]).await;
    }

    /// Turns a client away whose token does not open what it wants, as with the original, or tells it why.
    async fn refuse(&self, connection: &Arc<Connection>, ack: Option<u64>, token: &str, unopened: Unopened) {
        // The token may well be good: the client should come back.
        let is_to_come_back = matches!(unopened, Unopened::Denied(Denied::Unavailable));
        // A client with a JWT that asks for an answer can act upon it, and stays.
        let is_answered = ack.is_some() && unopened.is_worth_an_answer();
        let refusal = Refusal::from(unopened);
        refusal.counted().count();
        if refusal.is_guess() {
            connection.failed_token(token);
        }
        if is_to_come_back {
            connection.close(Disconnect::Unavailable);
        } else if is_answered {
            answer_error(connection, ack, &refusal);
        } else {
            self.turn_away(connection).await;
        }
    }

    /// The channel that a token opens, and what else is known if it is a JWT. One that opens several must be told which.
    async fn open(
        &self,
        token: &str,
        wanted: Option<&str>,
    ) -> Result<(ChannelName, Option<Claims>), Unopened> {
        let claims = match self.identity.verify(token).await.map_err(Unopened::Denied)? {
            Credential::Token(channel) => return Ok((channel, None)),
            Credential::Jwt(claims) => *claims,
        };
        let channel = match (wanted, claims.channels()) {
            (Some(wanted), _) => ChannelName::parse(wanted).ok().filter(|wanted| claims.grants(wanted)),
            (None, [only]) => Some(only.clone()),
            (None, _) => return Err(Unopened::Ambiguous),
        };
        let channel = channel.ok_or(Unopened::NotGranted)?;
        if self.hub.revocations.cover(&claims.bearer, [&channel]) {
            return Err(Unopened::Denied(Denied::Revoked));
        }
        Ok((channel, Some(claims)))
    }

    /// The seed's door. Its answer leaves when the subscription is in place, and nothing else of the client is handled before: that
    /// keeps its answers in order, and the workers' queues short.
    async fn join_live(&self, connection: &Arc<Connection>, ack: Option<u64>, channel: ChannelName) {
        let reply = frames::joined(&channel, ack);
        let from = self.first_time(&channel);
        if remember(connection, &channel) {
            self.subscribe(connection, channel, from, false, reply.into_wire().to_vec()).await;
        } else {
            connection.send(&reply);
        }
    }

    /// The explicit door.
    async fn join_since(&self, connection: &Arc<Connection>, channel: ChannelName, beginning: Beginning) {
        let Beginning { after, is_gap, reply } = beginning;
        if is_gap {
            count_gap();
        }
        // Who is in the channel already hears it from there again, or goes on where it is if that is before it.
        remember(connection, &channel);
        self.subscribe(connection, channel, From::After(after), true, reply).await;
    }

    /// From where on a client hears a channel that says so.
    async fn beginning(
        &self,
        channel: &ChannelName,
        ack: Option<u64>,
        Replay { since, limit, consumer }: Replay,
    ) -> Result<Beginning, Refusal> {
        let broker = &self.hub.broker;
        let top = broker.top();
        // From now on, there is nothing to take the newest of.
        let limit = limit.filter(|_| since != Place::Now);
        let Start { mut after, mut gap } = match since {
            Place::Now => Start { after: top.turn, gap: None },
            Place::Nowhere => Start { gap: Some(Gap::NoCursor), ..broker.locate(channel, Since::All) },
            Place::Since(since) => broker.locate(channel, since),
            Place::Unread => broker.locate(channel, self.unread_since(channel, &consumer).await?),
        };
        if let Some(limit) = limit {
            let newest = broker.after_all_but(channel, limit);
            if newest > after {
                (after, gap) = (newest, gap.or(Some(Gap::Limit)));
            }
        }
        let position = self.hub.consumers.position(channel, &consumer).await;
        let unread = position.map_err(|error| Refusal::unavailable(&error))?.unread;
        let standing = broker.standing(channel);
        let mut answer = json!({
            "channel": channel.as_str(),
            "recovered": gap.is_none(),
            "epoch": standing.map(|standing| format!("{:016x}", standing.epoch)),
            "offset": standing.map_or(0, |standing| standing.next_offset - 1),
            "cursor": top.cursor.to_string(),
            "unread": unread,
        });
        if let Some(gap) = gap {
            answer["reason"] = gap.as_str().into();
        }
        let mut reply = frames::joined(channel, None).into_wire().to_vec();
        if ack.is_some() {
            reply.extend_from_slice(frames::answer(ack, &format!("[{answer}]")).wire());
        }
        Ok(Beginning { after, is_gap: gap.is_some(), reply })
    }

    async fn subscribe(
        &self,
        connection: &Arc<Connection>,
        channel: ChannelName,
        from: From,
        is_aware: bool,
        reply: Vec<u8>,
    ) {
        let form = connection.namespaces.lock().form;
        // Only the channels of the handshake count for where a client stands.
        let channels = vec![(channel, from)];
        let subscriber = connection.clone();
        let reply = reply.into();
        let join = Join { subscriber, channels, form, is_aware, is_resumable: false, reply };
        // Fails only when the process ends.
        _ = self.hub.join(join).await;
    }
}

/// Notes that a client is in a channel. Says `false` if it was already.
fn remember(connection: &Connection, channel: &ChannelName) -> bool {
    let channels = &mut connection.namespaces.lock().channels;
    let is_new = !channels.contains(channel);
    if is_new {
        channels.reserve_exact(1);
        channels.push(channel.clone());
    }
    is_new
}

/// Answers an event with what went wrong, if an answer was asked for.
pub(super) fn answer_error(connection: &Connection, ack: Option<u64>, refusal: &Refusal) {
    if ack.is_some() {
        let error = json!([{"error": {"code": refusal.code(), "message": refusal.message()}}]);
        connection.send(&frames::answer(ack, &error.to_string()));
    }
}

/// How a client's publications look that has not come through the handshake door.
pub(super) fn form_of(is_meta: bool) -> Form {
    if is_meta { Form::Meta } else { Form::Plain }
}
