//! `join_channel`: the seed's door, which is live only, and the explicit one, for clients that say from where on they want to hear
//! a channel.

use super::connection::Connection;
use super::disconnect::Disconnect;
use super::doors::{Doors, Refusal, has_room};
use super::frames;
use crate::identity::{Claims, Credential, Denied};
use crate::metrics::JoinRefused;
use channelapi_core::broker::{Gap, History as _, Since, Start};
use channelapi_core::delivery::{Form, From, Join};
use channelapi_core::model::{ChannelName, ConsumerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

/// What a client wants to join.
#[derive(Debug, PartialEq)]
pub(super) struct JoinRequest {
    pub(super) token: String,
    /// Which of the channels that the token opens, if it is a JWT and opens several.
    channel: Option<String>,
    /// Set if it comes through the explicit door.
    pub(super) replay: Option<Result<Replay, String>>,
}

/// What it wants to hear first.
#[derive(Debug, PartialEq)]
pub(super) struct Replay {
    since: Place,
    limit: Option<usize>,
    consumer: ConsumerName,
}

/// From where on.
#[derive(Debug, PartialEq)]
enum Place {
    Now,
    Unread,
    Since(Since),
    /// The client says something that is no place.
    Nowhere,
}

impl JoinRequest {
    /// Reads the argument of `join_channel`: an object with a token, or a string that holds one. `None` without a token.
    pub(super) fn parse(argument: &str) -> Option<Self> {
        if !argument.starts_with('"') {
            return Self::parse_object(argument);
        }
        let object: String = serde_json::from_str(argument).ok()?;
        Self::parse_object(&object)
    }

    fn parse_object(object: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            token: Cow<'a, str>,
            #[serde(borrow, default)]
            channel: Option<&'a RawValue>,
            #[serde(borrow, default)]
            since: Option<&'a RawValue>,
            #[serde(borrow, default)]
            limit: Option<&'a RawValue>,
            #[serde(borrow, default)]
            consumer: Option<&'a RawValue>,
        }
        // An array of one string would pass for the struct.
        let object = object.trim_start();
        if !object.starts_with('{') {
            return None;
        }
        let Fields { token, channel, since, limit, consumer } = serde_json::from_str(object).ok()?;
        let is_explicit = since.is_some() || limit.is_some() || consumer.is_some();
        let replay = is_explicit.then(|| Replay::parse(since, limit, consumer));
        // What else the seed's clients may have sent there means nothing, as ever.
        let channel = channel.and_then(|channel| value(channel).as_str().map(str::to_owned));
        Some(Self { token: token.into_owned(), channel, replay })
    }
}

impl Replay {
    fn parse(
        since: Option<&RawValue>,
        limit: Option<&RawValue>,
        consumer: Option<&RawValue>,
    ) -> Result<Self, String> {
        let since = match since.map(value) {
            None => Place::Now,
            Some(Value::Number(offset)) => {
                let offset = offset.as_u64().ok_or("since: an offset is a whole number from 0 on")?;
                Place::Since(Since::Offset(offset))
            }
            Some(Value::String(text)) if text == "unread" => Place::Unread,
            Some(Value::String(text)) => text.parse().map_or(Place::Nowhere, Place::Since),
            Some(_) => return Err("since: it must be a number or a string".into()),
        };
        let limit = match limit.map(value) {
            None => None,
            Some(limit) => {
                let limit = limit.as_u64().and_then(|limit| usize::try_from(limit).ok());
                Some(limit.ok_or("limit: it must be a whole number from 0 on")?)
            }
        };
        let consumer = match consumer.map(value) {
            None => ConsumerName::default(),
            Some(Value::String(name)) => {
                ConsumerName::parse(&name).map_err(|error| format!("consumer: {error}"))?
            }
            Some(_) => return Err("consumer: it must be a string".into()),
        };
        Ok(Self { since, limit, consumer })
    }
}

/// Why a token does not open a channel.
enum Unopened {
    Denied(Denied),
    /// It is a JWT that does not open the channel that is wanted.
    NotGranted,
    /// It is a JWT that opens several.
    Ambiguous,
}

impl Unopened {
    /// Whether the client may well do better the next time.
    fn is_worth_an_answer(&self) -> bool {
        matches!(self, Self::Denied(Denied::Expired) | Self::NotGranted | Self::Ambiguous)
    }
}

impl std::convert::From<Unopened> for Refusal {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Denied(denied) => denied.into(),
            Unopened::NotGranted => Self::not_granted(),
            Unopened::Ambiguous => {
                Self::new("bad_request", "the token opens several channels: say which with {token, channel}")
            }
        }
    }
}

/// A value that is JSON already.
fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
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
            Err(unopened) => return self.refuse(connection, ack, unopened).await,
        };
        if let Some(Err(message)) = &replay {
            JoinRefused::BadRequest.count();
            return answer_error(connection, ack, &Refusal::new("bad_request", message));
        }
        connection.change_grants(|grants| match claims {
            // Before it is in the channel, so that whoever revokes something finds it.
            Some(claims) => grants.add(self.grant(claims, vec![channel.clone()])),
            None => grants.release(&channel),
        });
        match replay {
            None => self.join_live(connection, ack, channel).await,
            Some(Ok(replay)) => self.join_since(connection, ack, channel, replay).await,
            Some(Err(_)) => {}
        }
        self.look_again(connection, &[token]).await;
    }

    /// Turns a client away whose token does not open what it wants, as with the original, or tells it why.
    async fn refuse(&self, connection: &Arc<Connection>, ack: Option<u64>, unopened: Unopened) {
        // The token may well be good: the client should come back.
        let is_to_come_back = matches!(unopened, Unopened::Denied(Denied::Unavailable));
        // A client with a JWT that asks for an answer can act upon it, and stays.
        let is_answered = ack.is_some() && unopened.is_worth_an_answer();
        let refusal = Refusal::from(unopened);
        refusal.counted().count();
        if refusal.is_guess() {
            connection.failed_token();
        }
        if is_to_come_back {
            connection.close(Disconnect::Drain);
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
    async fn join_since(
        &self,
        connection: &Arc<Connection>,
        ack: Option<u64>,
        channel: ChannelName,
        Replay { since, limit, consumer }: Replay,
    ) {
        let broker = &self.hub.broker;
        let top = broker.top();
        let Start { mut after, mut gap } = match since {
            Place::Now => Start { after: top.turn, gap: None },
            Place::Nowhere => Start { gap: Some(Gap::NoCursor), ..broker.locate(&channel, Since::All) },
            Place::Since(since) => broker.locate(&channel, since),
            Place::Unread => match self.unread_since(&channel, &consumer).await {
                Ok(since) => broker.locate(&channel, since),
                Err(refusal) => return answer_error(connection, ack, &refusal),
            },
        };
        if let Some(limit) = limit {
            let newest = broker.after_all_but(&channel, limit);
            if newest > after {
                (after, gap) = (newest, gap.or(Some(Gap::Limit)));
            }
        }
        let unread = match self.hub.consumers.position(&channel, &consumer).await {
            Ok(position) => position.unread,
            Err(error) => return answer_error(connection, ack, &Refusal::unavailable(&error)),
        };
        let standing = broker.standing(&channel);
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
        let mut reply = frames::joined(&channel, None).into_wire().to_vec();
        if ack.is_some() {
            reply.extend_from_slice(frames::answer(ack, &format!("[{answer}]")).wire());
        }
        // Who is in the channel already hears it from there again.
        remember(connection, &channel);
        self.subscribe(connection, channel, From::After(after), true, reply).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_from_both_forms_and_no_other() {
        let check = |argument, expected: Option<&str>| {
            let request = JoinRequest::parse(argument);
            assert_eq!(request.as_ref().map(|request| &*request.token), expected, "{argument}");
            assert!(request.is_none_or(|request| request.replay.is_none()));
        };
        check(r#"{"token":"abc"}"#, Some("abc"));
        check(r#"{"x":1e400,"token":"a\u0062c","y":[{}]}"#, Some("abc"));
        check(r#""{\"token\":\"abc\"}""#, Some("abc"));
        check(r#""{ \"token\" : \"a\\u0062c\" }""#, Some("abc"));
        for argument in ["null", "1", "[]", "{}", r#""""#, r#""{""#, r#""abc""#, "[\"abc\"]"] {
            check(argument, None);
        }
        check(r#"{"token":["a"]}"#, None);
        check(r#"{"token":{"$gt":""}}"#, None);
        check(r#"{"token":null}"#, None);
        check(r#""\"{\\\"token\\\":\\\"abc\\\"}\"""#, None);
    }

    #[test]
    fn a_place_is_what_the_client_says_it_is() {
        let replay = |fields: &str| {
            JoinRequest::parse(&format!(r#"{{"token":"t",{fields}}}"#)).unwrap().replay.unwrap()
        };
        assert_eq!(replay(r#""since":7"#).unwrap().since, Place::Since(Since::Offset(7)));
        assert_eq!(replay(r#""since":"7""#).unwrap().since, Place::Since(Since::Offset(7)));
        assert_eq!(replay(r#""since":"all","limit":5"#).unwrap().limit, Some(5));
        assert_eq!(replay(r#""since":"unread","consumer":"phone""#).unwrap().since, Place::Unread);
        assert_eq!(replay(r#""consumer":"phone""#).unwrap().since, Place::Now);
        assert_eq!(replay(r#""since":"rubbish""#).unwrap().since, Place::Nowhere);
        for fields in [r#""since":-1"#, r#""since":{}"#, r#""limit":"x""#, r#""consumer":1"#] {
            assert!(replay(fields).is_err(), "{fields}");
        }
    }
}
