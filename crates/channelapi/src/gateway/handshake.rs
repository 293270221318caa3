//! The handshake door: a client that brings its tokens in `auth` is in its channels when it is let in, and comes back to where it
//! was.
//!
//! Nothing is remembered for a client that is away. What it comes back with says everything: the tokens are judged again, its
//! pid names its session and channels, and its offset, the last checkpoint it received, says where it stands, and whether it has left
//! one of them on the way.

use super::connection::Connection;
use super::disconnect::Disconnect;
use super::doors::{Doors, Refusal};
use super::frames;
use super::grants::Grants;
use super::pid::{Pid, PidName};
use super::requests::{Auth, AuthError};
use super::sessions::Session;
use super::socketio::admit;
use crate::identity::{Claims, Credential, Denied, is_jwt};
use crate::metrics::{JoinRefused, Resumed, count_gap};
use channelapi_core::broker::{Gap, History as _, Since, Start};
use channelapi_core::delivery::{From, Join, Subscriber as _};
use channelapi_core::limits::CHANNELS_PER_CONNECTION_MAX;
use channelapi_core::model::{ChannelName, Checkpoint, ConnectionId, Cursor};
use channelapi_protocol::socketio::ROOT;
use std::collections::HashSet;
use std::sync::Arc;

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
        match self.outset(connection, &auth).await {
            Ok(outset) => self.admit(connection, &auth, outset).await,
            Err(refusal) => {
                refusal.counted().count();
                if refusal.is_guess() {
                    connection.failed_token(&auth.tokens);
                }
                connection.send(&refusal.frame());
            }
        }
    }

    async fn outset(&self, connection: &Connection, auth: &Auth) -> Result<Outset, Refusal> {
        let Opened { channels, mut grants } = self.open_all(connection, auth).await?;
        let admission = &connection.gateway().admission;
        let outset = match &auth.pid {
            Some(pid) if auth.is_resumable => {
                let pid = Pid::parse(pid);
                let former = pid.as_ref().map(|pid| self.take_over(connection, pid)).unwrap_or_default();
                grants.admit_all(former, admission)?;
                let outset = self.come_back(pid, &channels, auth.offset.as_deref());
                let resumed = if outset.gaps.is_empty() { Resumed::Complete } else { Resumed::Gap };
                resumed.count();
                outset
            }
            _ => {
                grants.admit_all(Grants::default(), admission)?;
                self.begin(channels, auth).await?
            }
        };
        Ok(Outset { grants, ..outset })
    }

    /// A client that is here is not there any more, even if a new session begins. Returns what JWTs have opened there, as its places are
    /// the client's: it must not have to wait until the server notices that the connection is dead.
    fn take_over(&self, connection: &Connection, pid: &Pid) -> Grants {
        let stale = self.sessions.take(&pid.name).filter(|id| *id != connection.id());
        stale.map(|stale| end_stale(connection, stale)).unwrap_or_default()
    }

    /// The channels that a client's tokens and JWTs open: those it wants, or all that they name.
    async fn open_all(&self, connection: &Connection, auth: &Auth) -> Result<Opened, Refusal> {
        let mut channels = Vec::with_capacity(auth.tokens.len());
        let mut jwts = Vec::new();
        let mut judged = HashSet::new();
        for token in auth.tokens.iter().filter(|token| judged.insert(*token)) {
            // The packet has paid for one of them.
            if is_jwt(token) && !jwts.is_empty() && !connection.may_join() {
                return Err(Refusal::new("bad_auth", "that are more JWTs than may be judged at once"));
            }
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
            return Err(AuthError::TooManyChannels.into());
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
                "all" => Some(Since::All),
                "unread" => Some(self.unread_since(&channel, &auth.consumer).await?),
                place => match place.parse() {
                    Ok(Checkpoint { cursor, has_left: false }) => Some(Since::Cursor(cursor)),
                    // Whoever stands there has left a channel, and nobody knows which: it is no place in any of them.
                    Ok(Checkpoint { has_left: true, .. }) => None,
                    Err(_) => return Err(bad_since()),
                },
            };
            let broker = &self.hub.broker;
            let Start { after, gap } = match since {
                Some(since) => broker.locate(&channel, since),
                None => Start { gap: Some(Gap::NoCursor), ..broker.locate(&channel, Since::All) },
            };
            gaps.extend(gap.map(|gap| (channel.clone(), gap)));
            starts.push((channel, From::After(after)));
        }
        let pid = auth.is_resumable.then(|| self.new_session(&names, &starts, !gaps.is_empty()));
        Ok(Outset { pid, before: None, channels: starts, gaps, grants: Grants::default() })
    }

    /// A session that begins where the first of its channels is heard from.
    fn new_session(&self, channels: &[ChannelName], starts: &[(ChannelName, From)], has_gaps: bool) -> Pid {
        let broker = &self.hub.broker;
        let first = starts.iter().filter_map(|(_, from)| match from {
            From::Now => None,
            From::After(turn) | From::Newest(turn) => Some(*turn),
        });
        let start = first.min().map_or_else(|| broker.top().cursor, |turn| broker.cursor_at(turn));
        Pid::new(start, has_gaps, self.sessions.memory(), channels)
    }

    /// A client is here again: it stays in its session if nothing is missing.
    fn come_back(&self, pid: Option<Pid>, channels: &[ChannelName], offset: Option<&str>) -> Outset {
        let stands: Option<Checkpoint> = match (offset, &pid) {
            (Some(offset), _) => offset.parse().ok(),
            // It was gone before it was told of any place: it stands where its session begins, unless something was missing there, of which
            // it may not have been told either.
            (None, Some(pid)) if !pid.has_gaps => Some(Checkpoint { cursor: pid.start, has_left: false }),
            (None, _) => None,
        };
        let mut gaps = Vec::new();
        let starts = channels.iter().map(|channel| {
            let (from, gap) = self.return_to(channel, pid.as_ref(), stands);
            gaps.extend(gap.map(|gap| (channel.clone(), gap)));
            (channel.clone(), from)
        });
        let starts: Vec<_> = starts.collect();
        let before = pid.as_ref().map(|pid| pid.name);
        // With other channels it is another session: of one that it does not bring now, it will not have heard everything when it does.
        let pid = pid.filter(|pid| gaps.is_empty() && pid.is_of(channels));
        let pid = pid.unwrap_or_else(|| self.new_session(channels, &starts, !gaps.is_empty()));
        if stands.is_some_and(|stands| stands.has_left) {
            // It says so until its client has received another, which may well be on its next way back.
            for (channel, _) in &gaps {
                self.sessions.note_left(pid.name, channel);
            }
        }
        Outset { pid: Some(pid), before, channels: starts, gaps, grants: Grants::default() }
    }

    /// Where a client goes on in a channel, and why something is missing, if it is.
    fn return_to(
        &self,
        channel: &ChannelName,
        pid: Option<&Pid>,
        stands: Option<Checkpoint>,
    ) -> (From, Option<Gap>) {
        if pid.is_some_and(|pid| !pid.holds(channel)) {
            // Wherever it stood, it was not in this one.
            return (self.first_time(channel), None);
        }
        let (Some(pid), Some(Checkpoint { cursor, has_left })) = (pid, stands) else {
            // Without a place it is sent what it was sent before, as far as that is known.
            return match stands.map(|stands| stands.cursor).or(pid.map(|pid| pid.start)) {
                Some(place) => (From::After(self.locate(channel, place).after), Some(Gap::NoCursor)),
                None => (From::Now, Some(Gap::NoCursor)),
            };
        };
        if has_left && self.sessions.may_have_left(pid, channel) {
            // Its place says nothing of a channel in which it was not.
            return (From::After(self.locate(channel, pid.start).after), Some(Gap::NoCursor));
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
            count_gap();
            frames::gap(&channel, gap, &mut reply);
        }
        let session = pid.map(|pid| Session { name: pid.name, before });
        {
            let mut namespaces = connection.namespaces.lock();
            namespaces.form = form;
            namespaces.session = session.map(Box::new);
            namespaces.channels = channels.iter().map(|(channel, _)| channel.clone()).collect();
        }
        if let Some(session) = session {
            for stale in self.sessions.enter(&session, connection.id()) {
                // It came back at the same time, and found nobody to take over from either.
                drop(end_stale(connection, stale));
            }
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

/// Ends the connection that the client of this one had before, if it is here still. Returns what JWTs have opened there.
fn end_stale(connection: &Connection, stale: ConnectionId) -> Grants {
    connection.gateway().connection(stale).map(|stale| stale.hand_over()).unwrap_or_default()
}

fn bad_since() -> Refusal {
    Refusal::new("bad_auth", "auth.since must be a cursor, \"all\" or \"unread\"")
}
