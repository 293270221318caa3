//! The handshake door: a client that brings its tokens in `auth` is in its channels when it is let in, and comes back to where it
//! was.
//!
//! Nothing is remembered for a client that is away. What it comes back with says everything: the tokens are judged again, its
//! pid names its session and channels, and its offset, the last checkpoint it received, says where it stands.

use super::connection::Connection;
use super::disconnect::Disconnect;
use super::doors::{Doors, Refusal};
use super::frames;
use super::grants::Grants;
use super::pid::{Pid, PidName};
use super::socketio::admit;
use crate::identity::{Claims, Credential, Denied};
use crate::metrics::{JoinRefused, Resumed};
use channelapi_core::broker::{Gap, History as _, Since, Start};
use channelapi_core::delivery::{Form, From, Join, Subscriber as _};
use channelapi_core::limits::CHANNELS_PER_CONNECTION_MAX;
use channelapi_core::model::{ChannelName, ConsumerName, Cursor};
use channelapi_protocol::socketio::ROOT;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

/// What a client brings.
#[derive(Debug, PartialEq)]
pub(super) struct Auth {
    /// Tokens of channels, and JWTs. Without any, it is a client of the seed's door.
    tokens: Vec<String>,
    /// The channels it wants to be in, where its JWTs open more, or do not name them one by one.
    channels: Option<Vec<ChannelName>>,
    /// Whether it wants to come back to where it was.
    is_resumable: bool,
    /// Whether it wants to know where and when things were published.
    pub(super) is_meta: bool,
    /// From where on it hears its channels when it is here for the first time.
    since: Option<String>,
    /// Who it is, where `since` asks for what is unread.
    consumer: ConsumerName,
    /// What it was told when it was here before, and where it stands.
    pid: Option<String>,
    offset: Option<String>,
}

impl Auth {
    /// Reads `auth`, which is an object or nothing.
    pub(super) fn parse(auth: &str) -> Result<Self, Refusal> {
        let bad = |message: &str| Refusal::new("bad_auth", message);
        let auth: Value =
            if auth.is_empty() { Value::Null } else { serde_json::from_str(auth).unwrap_or_default() };
        let text = |name| match &auth[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(bad(&format!("auth.{name} must be a string"))),
        };
        let flag = |name| match &auth[name] {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            _ => Err(bad(&format!("auth.{name} must be true or false"))),
        };
        let mut tokens: Vec<String> = [text("token")?, text("jwt")?].into_iter().flatten().collect();
        match &auth["tokens"] {
            Value::Null => {}
            Value::Array(several) => {
                for token in several {
                    let token = token.as_str().ok_or_else(|| bad("auth.tokens must hold strings"))?;
                    tokens.push(token.to_owned());
                }
            }
            _ => return Err(bad("auth.tokens must be an array of strings")),
        }
        let channels = match &auth["channels"] {
            Value::Null => None,
            Value::Array(names) => {
                let name = |name: &Value| name.as_str().and_then(|name| ChannelName::parse(name).ok());
                let names: Option<Vec<_>> = names.iter().map(name).collect();
                Some(names.ok_or_else(|| bad("auth.channels must hold names of channels"))?)
            }
            _ => return Err(bad("auth.channels must be an array of names of channels")),
        };
        if tokens.len().max(channels.as_ref().map_or(0, Vec::len)) > CHANNELS_PER_CONNECTION_MAX {
            return Err(too_many_channels());
        }
        let consumer =
            text("consumer")?.map_or(Ok(ConsumerName::default()), |name| ConsumerName::parse(&name));
        Ok(Self {
            tokens,
            channels,
            is_resumable: flag("resume")?.unwrap_or(true),
            is_meta: flag("meta")?.unwrap_or(false),
            since: text("since")?,
            consumer: consumer.map_err(|error| bad(&format!("auth.consumer: {error}")))?,
            // Stock clients send whatever text an event ended with.
            pid: auth["pid"].as_str().map(str::to_owned),
            offset: auth["offset"].as_str().map(str::to_owned),
        })
    }

    /// Whether the client uses this door at all.
    pub(super) fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    fn form(&self) -> Form {
        match (self.is_resumable, self.is_meta) {
            (false, false) => Form::Plain,
            (false, true) => Form::Meta,
            (true, false) => Form::Resumable,
            (true, true) => Form::ResumableMeta,
        }
    }
}

fn too_many_channels() -> Refusal {
    let message = format!("a client may be in {CHANNELS_PER_CONNECTION_MAX} channels");
    Refusal::new("too_many_channels", &message)
}

/// What a client may be in by what it brought.
struct Opened {
    channels: Vec<ChannelName>,
    /// What of it was opened by JWTs.
    grants: Grants,
}

/// How a client goes on.
struct Outset {
    pid: Option<Pid>,
    /// The session it was in before.
    before: Option<PidName>,
    channels: Vec<(ChannelName, From)>,
    gaps: Vec<(ChannelName, Gap)>,
    grants: Grants,
}

impl Doors {
    /// Lets a client in that brought tokens, or says why not.
    pub(super) async fn enter(&self, connection: &Arc<Connection>, auth: Auth) {
        if connection.gateway().admission.is_short_of_memory() {
            JoinRefused::Memory.count();
            // It comes back, and is told to wait before it is let in.
            return connection.close(Disconnect::Memory);
        }
        if connection.is_out_of_tokens() {
            JoinRefused::TokenRate.count();
            let message = "too many tokens that are not good came from this address; wait a minute";
            return connection.send(&Refusal::new("too_many_attempts", message).frame());
        }
        match self.outset(&auth).await {
            Ok(outset) => self.admit(connection, &auth, outset).await,
            Err(refusal) => {
                refusal.counted().count();
                if refusal.is_guess() {
                    connection.failed_token();
                }
                connection.send(&refusal.frame());
            }
        }
    }

    async fn outset(&self, auth: &Auth) -> Result<Outset, Refusal> {
        let Opened { channels, grants } = self.open_all(auth).await?;
        let outset = match &auth.pid {
            Some(pid) if auth.is_resumable => {
                let outset = self.come_back(pid, &channels, auth.offset.as_deref());
                let resumed = if outset.gaps.is_empty() { Resumed::Complete } else { Resumed::Gap };
                resumed.count();
                outset
            }
            _ => self.begin(channels, auth).await?,
        };
        Ok(Outset { grants, ..outset })
    }

    /// The channels that a client's tokens and JWTs open: those it wants, or all that they name.
    async fn open_all(&self, auth: &Auth) -> Result<Opened, Refusal> {
        let mut channels = Vec::with_capacity(auth.tokens.len());
        let mut jwts = Vec::new();
        for token in &auth.tokens {
            match self.identity.verify(token).await? {
                Credential::Token(channel) if !channels.contains(&channel) => channels.push(channel),
                Credential::Token(_) => {}
                Credential::Jwt(claims) => jwts.push(*claims),
            }
        }
        let by_tokens = channels.clone();
        match &auth.channels {
            None => channels.extend(jwts.iter().flat_map(Claims::channels).cloned()),
            Some(wanted) => channels.clone_from(wanted),
        }
        let mut known = HashSet::new();
        channels.retain(|channel| known.insert(channel.clone()));
        if channels.len() > CHANNELS_PER_CONNECTION_MAX {
            return Err(too_many_channels());
        }
        let mut grants = Grants::default();
        let mut left: Vec<_> =
            channels.iter().filter(|channel| !by_tokens.contains(channel)).cloned().collect();
        for claims in jwts {
            grants.tell();
            let (opened, others): (Vec<_>, _) = left.into_iter().partition(|channel| claims.grants(channel));
            left = others;
            if self.hub.revocations.cover(&claims.bearer, &opened) {
                return Err(Denied::Revoked.into());
            }
            grants.add(self.grant(claims, opened));
        }
        if left.is_empty() { Ok(Opened { channels, grants }) } else { Err(Refusal::not_granted()) }
    }

    /// A client is here for the first time, or has forgotten that it was.
    async fn begin(&self, channels: Vec<ChannelName>, auth: &Auth) -> Result<Outset, Refusal> {
        let mut gaps = Vec::new();
        let mut starts = Vec::with_capacity(channels.len());
        let names = channels.clone();
        for channel in channels {
            let Some(since) = &auth.since else {
                let from = self.first_time(&channel);
                starts.push((channel, from));
                continue;
            };
            let since = match since.as_str() {
                "all" => Since::All,
                "unread" => self.unread_since(&channel, &auth.consumer).await?,
                cursor => Since::Cursor(cursor.parse().map_err(|_| {
                    Refusal::new("bad_auth", "auth.since must be a cursor, \"all\" or \"unread\"")
                })?),
            };
            let Start { after, gap } = self.hub.broker.locate(&channel, since);
            gaps.extend(gap.map(|gap| (channel.clone(), gap)));
            starts.push((channel, From::After(after)));
        }
        let pid = auth.is_resumable.then(|| self.new_session(&names, &starts));
        Ok(Outset { pid, before: None, channels: starts, gaps, grants: Grants::default() })
    }

    /// A session that begins where the first of its channels is heard from.
    fn new_session(&self, channels: &[ChannelName], starts: &[(ChannelName, From)]) -> Pid {
        let broker = &self.hub.broker;
        let first = starts.iter().filter_map(|(_, from)| match from {
            From::Now => None,
            From::After(turn) => Some(*turn),
        });
        let start = first.min().map_or_else(|| broker.top().cursor, |turn| broker.cursor_at(turn));
        Pid::new(start, self.sessions.memory(), channels)
    }

    /// A client is here again: it stays in its session if nothing is missing.
    fn come_back(&self, pid: &str, channels: &[ChannelName], offset: Option<&str>) -> Outset {
        let pid = Pid::parse(pid);
        let cursor: Option<Cursor> = offset.and_then(|offset| offset.parse().ok());
        let mut gaps = Vec::new();
        let starts = channels.iter().map(|channel| {
            let (from, gap) = self.return_to(channel, pid.as_ref(), cursor);
            gaps.extend(gap.map(|gap| (channel.clone(), gap)));
            (channel.clone(), from)
        });
        let starts: Vec<_> = starts.collect();
        let before = pid.as_ref().map(|pid| pid.name);
        let pid = pid.filter(|_| gaps.is_empty()).unwrap_or_else(|| self.new_session(channels, &starts));
        Outset { pid: Some(pid), before, channels: starts, gaps, grants: Grants::default() }
    }

    /// Where a client goes on in a channel, and why something is missing, if it is.
    fn return_to(
        &self,
        channel: &ChannelName,
        pid: Option<&Pid>,
        cursor: Option<Cursor>,
    ) -> (From, Option<Gap>) {
        let (Some(pid), Some(cursor)) = (pid, cursor) else {
            // Without a place it is sent what it was sent before, as far as that is known.
            return match cursor.or(pid.map(|pid| pid.start)) {
                Some(place) => (From::After(self.locate(channel, place).after), Some(Gap::NoCursor)),
                None => (From::Now, Some(Gap::NoCursor)),
            };
        };
        if self.sessions.is_new(pid, channel) {
            return (From::Now, None);
        }
        match self.locate(channel, cursor) {
            // The place is of another life, but the session's beginning may not be.
            Start { gap: Some(Gap::Diverged), .. } => {
                (From::After(self.locate(channel, pid.start).after), Some(Gap::Diverged))
            }
            Start { after, gap } => (From::After(after), gap),
        }
    }

    fn locate(&self, channel: &ChannelName, cursor: Cursor) -> Start {
        self.hub.broker.locate(channel, Since::Cursor(cursor))
    }

    async fn admit(&self, connection: &Arc<Connection>, auth: &Auth, outset: Outset) {
        let Outset { pid, before, channels, gaps, grants } = outset;
        let form = auth.form();
        let admission = admit(connection, ROOT, pid.as_ref().map(Pid::to_string).as_deref());
        let mut reply = frames::join(&[admission, frames::connected()]).into_wire().to_vec();
        for (channel, gap) in gaps {
            frames::gap(&channel, gap, &mut reply);
        }
        // A client that is here is not there any more, even if a new session begins.
        let stale = before.and_then(|before| self.sessions.take(&before)).filter(|id| *id != connection.id());
        if let Some(stale) = stale.and_then(|stale| connection.gateway().connection(stale)) {
            stale.close(Disconnect::Replaced);
        }
        let session = pid.map(|pid| pid.name);
        {
            let mut namespaces = connection.namespaces.lock();
            namespaces.form = form;
            namespaces.pid = session.map(Box::new);
            namespaces.channels = channels.iter().map(|(channel, _)| channel.clone()).collect();
        }
        if let Some(session) = session {
            self.sessions.enter(session, connection.id());
            if !connection.is_open() {
                // It has ended meanwhile, and said so perhaps before there was anything to forget.
                self.sessions.leave(&session, connection.id());
            }
        }
        // Before it is in any channel, so that whoever revokes something finds it.
        connection.change_grants(|held| *held = grants);
        let subscriber = connection.clone();
        let reply = reply.into();
        let is_resumable = auth.is_resumable;
        let join = Join { subscriber, channels, form, is_aware: true, is_resumable, reply };
        // Fails only when the process ends.
        _ = self.hub.join(join).await;
        self.look_again(connection, &auth.tokens).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_brings_is_read_or_refused() {
        let tokens = |auth: &str| Auth::parse(auth).unwrap().tokens;
        assert_eq!(tokens(""), [""; 0]);
        assert_eq!(tokens("{}"), [""; 0]);
        assert_eq!(tokens(r#"{"token":"a"}"#), ["a"]);
        assert_eq!(tokens(r#"{"token":"a","tokens":["b","c"]}"#), ["a", "b", "c"]);
        let check = |auth: &str, code| assert_eq!(Auth::parse(auth).err().unwrap().code(), code, "{auth}");
        assert_eq!(tokens(r#"{"token":"a","jwt":"b","tokens":["c"]}"#), ["a", "b", "c"]);
        check(r#"{"token":1}"#, "bad_auth");
        check(r#"{"jwt":{}}"#, "bad_auth");
        check(r#"{"jwt":"a","channels":"b"}"#, "bad_auth");
        check(r#"{"jwt":"a","channels":[""]}"#, "bad_auth");
        check(r#"{"tokens":"a"}"#, "bad_auth");
        check(r#"{"tokens":["a",null]}"#, "bad_auth");
        check(r#"{"token":"a","resume":"no"}"#, "bad_auth");
        check(r#"{"token":"a","consumer":""}"#, "bad_auth");
        let many = vec![r#""x""#; CHANNELS_PER_CONNECTION_MAX + 1].join(",");
        check(&format!(r#"{{"tokens":[{many}]}}"#), "too_many_channels");
        check(&format!(r#"{{"jwt":"a","channels":[{many}]}}"#), "too_many_channels");
    }

    #[test]
    fn clients_come_back_unless_they_do_not_want_to() {
        let form = |auth: &str| Auth::parse(auth).unwrap().form();
        assert_eq!(form(r#"{"token":"a"}"#), Form::Resumable);
        assert_eq!(form(r#"{"token":"a","meta":true}"#), Form::ResumableMeta);
        assert_eq!(form(r#"{"token":"a","resume":false}"#), Form::Plain);
        let auth = Auth::parse(r#"{"token":"a","pid":"p","offset":{"any":"thing"}}"#).unwrap();
        assert_eq!((auth.pid.as_deref(), auth.offset), (Some("p"), None));
    }
}
