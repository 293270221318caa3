//! A channel as an event stream: `curl -N` and the browser's `EventSource` are clients, too.
//!
//! A stream is a connection like any other: the fan-out serves it live, or from history while it is too slow or has something to
//! catch up with. Its ids are cursors, so that an `EventSource` which comes back goes on where it was, by itself.

mod listener;
mod refusal;

use super::super::sse;
use super::problem::{Code, Problem, sentence};
use super::query::Query;
use super::since::Place;
use crate::admission::{Admission, StreamPass, UserFull, UserPass};
use crate::auth::{self, Pass};
use crate::config::origins::Origins;
use crate::cores;
use crate::http::{Attempt, Body, Response};
use crate::identity::{Claims, Credential, Denied, Identity};
use crate::live::Live;
use crate::metrics::{Disconnected, HandshakeRefused, count_gap};
use crate::origin::{self, NoOrigin, Origin};
use crate::spread::Guest;
use crate::waiting::{Reader, Readers};
use bytes::Bytes;
use channelapi_core::broker::{History as _, Start};
use channelapi_core::delivery::{Form, From, Join, Subscriber as _};
use channelapi_core::hub::Hub;
use channelapi_core::limits::{REVOCATION_PAUSE, STREAM_HEARTBEAT};
use channelapi_core::model::{Bearer, ChannelName, ConnectionId};
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use listener::{Listener, Next};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// Where an `EventSource` that comes back stands.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a stream is called.
const EVENT_STREAM: &str = "text/event-stream";

/// Keeps nginx from holding events back until it has a page of them.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A comment, which clients pass over.
const HEARTBEAT: &[u8] = b": \n\n";

/// Streams have this bit in their ids, and the connections of the gateway never do.
const STREAM_BIT: u64 = 1 << 55;

/// The streams that are open.
pub(in super::super) struct Streams {
    hub: Arc<Hub>,
    /// Whose pages may read them.
    origins: Live<Origins>,
    /// Who counts the streams, and what users have open.
    admission: Arc<Admission>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    is_draining: bool,
    opened: u64,
    streams: HashMap<ConnectionId, Stream>,
}

struct Stream {
    listener: Arc<Listener>,
    /// What it was opened with, if that was an API key.
    pass: Option<Arc<Pass>>,
}

impl Streams {
    pub(in super::super) fn new(hub: Arc<Hub>, origins: Live<Origins>, admission: Arc<Admission>) -> Self {
        Self { hub, origins, admission, open: Mutex::default() }
    }

    /// Lets nobody open another stream, and says who has one.
    pub(in super::super) fn begin_drain(&self) -> Vec<Arc<dyn Guest>> {
        let mut open = self.open.lock();
        open.is_draining = true;
        open.streams.values().map(|stream| stream.listener.clone() as Arc<dyn Guest>).collect()
    }

    /// Ends the streams whose API key lets nobody in any more.
    pub(in super::super) fn end_invalid(&self) {
        let clock = self.hub.clock();
        let is_invalid = |stream: &&Stream| stream.pass.as_ref().is_some_and(|pass| !pass.is_valid(clock));
        let ended: Vec<_> = self
            .open
            .lock()
            .streams
            .values()
            .filter(is_invalid)
            .map(|stream| stream.listener.clone())
            .collect();
        for listener in ended {
            listener.finish(Disconnected::Revoked);
        }
    }

    /// A new stream, not in any channel yet. `None` while the server stops.
    fn open(
        self: &Arc<Self>,
        pass: Option<Arc<Pass>>,
        bearer: Option<(Bearer, ChannelName)>,
        ends_at: Option<Instant>,
        places: (StreamPass, Option<UserPass>),
    ) -> Option<Events> {
        let mut open = self.open.lock();
        if open.is_draining {
            return None;
        }
        open.opened += 1;
        let id = ConnectionId::new(STREAM_BIT | open.opened, cores::here());
        let listener = Arc::new(Listener::new(id, places.0.owner(), bearer));
        open.streams.insert(listener.id(), Stream { listener: listener.clone(), pass: pass.clone() });
        let first = Instant::now() + STREAM_HEARTBEAT;
        let heartbeat = Box::pin(sleep_until(ends_at.map_or(first, |ends_at| ends_at.min(first))));
        Some(Events { listener, streams: self.clone(), pass, heartbeat, ends_at, _places: places })
    }

    /// A place among the clients of the node, and of the address that asks.
    fn place_from(&self, address: Option<IpAddr>) -> Result<StreamPass, Problem> {
        self.admission.admit_stream(address).map_err(|refused| match refused {
            HandshakeRefused::Address => Problem::new(
                Code::TooManyFromAddress,
                "No stream is opened: its address has as many clients as it may.",
            ),
            HandshakeRefused::TokenRate => Problem::new(Code::TooManyAttempts, "This address has to wait."),
            HandshakeRefused::Memory => Problem::new(Code::ShortOfMemory, "No stream is opened."),
            _ => Problem::new(
                Code::TooManyClients,
                "No stream is opened: there are as many clients as may be.",
            ),
        })
    }

    /// A place among what the user of a JWT has open, if it speaks of one.
    fn place_of(&self, bearer: &Bearer) -> Result<Option<UserPass>, Problem> {
        let Some(subject) = &bearer.subject else { return Ok(None) };
        let admitted = self.admission.admit_users(&[(&bearer.issuer, subject)]);
        admitted.map(|mut places| places.pop()).map_err(|UserFull| {
            Problem::new(Code::TooManyConnections, "The user of the JWT has as many connections as it may.")
        })
    }

    /// Ends the streams of whoever is revoked, whenever something is, until it is dropped.
    pub(in super::super) async fn keep_revoked_out(&self) {
        let mut changed = self.hub.revocations.changed();
        // If this has panicked before, somebody may have been left.
        changed.mark_changed();
        while changed.changed().await.is_ok() {
            let listeners: Vec<_> =
                self.open.lock().streams.values().map(|stream| stream.listener.clone()).collect();
            for listener in listeners {
                listener.end_if_revoked(&self.hub.revocations);
            }
            tokio::time::sleep(REVOCATION_PAUSE).await;
        }
    }
}

/// Who wants a stream, and with what.
pub(super) struct Opener {
    pub(super) pass: Option<Arc<Pass>>,
    pub(super) grant: Option<StreamGrant>,
    /// The address that it counts for.
    pub(super) address: Option<IpAddr>,
}

/// What a stream is opened with, instead of a key.
pub(super) enum StreamGrant {
    /// A channel's own token.
    Token(String),
    /// A JWT, which has an end.
    Jwt { bearer: Bearer, ends_at: Instant },
}

/// Whether a request for a stream carries a token of the channel, and what is known of it then. Only one that is none may be a guess: an
/// address from which come many that have ended is not refused for it, as at the doors of the sockets.
pub(super) async fn opened_by_token(
    hub: &Hub,
    identity: &Identity,
    channel: &ChannelName,
    head: &Parts,
) -> Result<Option<StreamGrant>, Problem> {
    let mut query = Query::parse(head.uri.query().unwrap_or_default())?;
    let Some(token) = query.take("token") else { return Ok(None) };
    let verified = identity.verify(&token).await;
    if let (Err(Denied::Invalid), Some(attempt)) = (&verified, head.extensions.get::<Attempt>()) {
        attempt.fail(&token);
    }
    match verified.map_err(refused)? {
        Credential::Token(opened) if opened == *channel => Ok(Some(StreamGrant::Token(token))),
        Credential::Jwt(claims) if claims.grants(channel) => grant(hub, identity, channel, *claims).map(Some),
        _ => Err(Problem::new(Code::NotGranted, "The token that the request carries is for other channels.")),
    }
}

/// What a JWT opens that is for the channel.
fn grant(
    hub: &Hub,
    identity: &Identity,
    channel: &ChannelName,
    claims: Claims,
) -> Result<StreamGrant, Problem> {
    if hub.revocations.cover(&claims.bearer, [channel]) {
        return Err(refused(Denied::Revoked));
    }
    let ends_at = Instant::now() + identity.stay(&claims);
    Ok(StreamGrant::Jwt { bearer: claims.bearer, ends_at })
}

/// What is said to whoever brought a token that opens nothing: the same as on the sockets.
fn refused(denied: Denied) -> Problem {
    let code = match denied {
        Denied::Invalid => Code::TokenInvalid,
        Denied::Early => Code::TokenNotYetValid,
        Denied::Expired => Code::TokenExpired,
        Denied::Revoked => Code::TokenRevoked,
        // Why, the log says already: where keys could not be fetched, or the disk gave nothing.
        Denied::Unavailable => Code::Unavailable,
    };
    Problem::new(code, sentence(&denied.message()))
}

/// `GET /v1/channels/{c}/stream`
pub(super) async fn open(
    streams: &Arc<Streams>,
    identity: &Identity,
    channel: ChannelName,
    Opener { pass, grant, address }: Opener,
    headers: &HeaderMap,
    query: &str,
) -> Result<Response, Problem> {
    let mut query = Query::parse(query)?;
    // Whoever came in with it was let in already.
    query.take("token");
    let since = Place::take(&mut query)?;
    let is_meta = query.take_as("meta", "true or false")?.unwrap_or(false);
    query.finish()?;
    let permission = permission(&streams.origins.load(), headers)?;
    // The place from the first request is in the address of the second one, too.
    let since = match last_event_id(headers).map(|id| Place::parse(&id)).or(since) {
        Some(place) => Some(place.settle(&streams.hub, &channel).await?),
        None => None,
    };

    let stopping = || Problem::new(Code::Unavailable, "The server is stopping.");
    let (token, bearer, ends_at) = match grant {
        None => (None, None, None),
        Some(StreamGrant::Token(token)) => (Some(token), None, None),
        Some(StreamGrant::Jwt { bearer, ends_at }) => (None, Some((bearer, channel.clone())), Some(ends_at)),
    };
    let place = streams.place_from(address)?;
    let user = match &bearer {
        Some((bearer, _)) => streams.place_of(bearer)?,
        None => None,
    };
    let events = streams.open(pass, bearer, ends_at, (place, user)).ok_or_else(stopping)?;
    let hub = &streams.hub;
    let own = since.as_ref().and_then(Place::known);
    let Start { after, gap } = match since {
        Some(place) => place.locate(hub, &channel),
        None => Start { after: hub.broker.top().turn, gap: None },
    };
    let mut reply = Vec::new();
    if let Some(gap) = gap {
        count_gap();
        sse::gap(&channel, gap, &mut reply);
    }
    // A client that hears nothing before it is cut off knows where to go on, too.
    sse::place(&hub.broker.cursor_from(own, after), &mut reply);
    let join = Join {
        subscriber: events.listener.clone(),
        channels: vec![(channel, From::After(after))],
        form: if is_meta { Form::StreamMeta } else { Form::Stream },
        is_aware: true,
        is_resumable: false,
        reply: reply.into(),
    };
    hub.join(join).await.map_err(|_| stopping())?;
    // What was revoked in between found nobody to end.
    events.listener.end_if_revoked(&hub.revocations);
    // Nor did a key that has gone meanwhile, or does less than it did.
    if events.has_lost_its_key() {
        return Err(auth::Denied::WrongKey.into());
    }
    // Whatever else it may be now, it was good a moment ago.
    if let Some(token) = token
        && let Err(Denied::Invalid) = identity.verify(&token).await
    {
        return Err(refused(Denied::Invalid));
    }

    let mut response = Response::new(Body::Stream(Box::pin(events)));
    let headers = response.headers_mut();
    permission.allow(headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// What lets a page read the answer, if it is a page that asks.
impl Streams {
    /// Whether a page asks, and any page may. None should have a key, and whether one is good is not told to it.
    pub(super) fn is_any_page(&self, headers: &HeaderMap) -> bool {
        matches!(permission(&self.origins.load(), headers), Ok(Origin::Any))
    }

    /// The answer to a browser whose page opens a stream with headers of its own, as one that goes on where it was and is no `EventSource`.
    pub(super) fn preflight(&self, headers: &HeaderMap) -> Result<Response, Problem> {
        let permission = permission(&self.origins.load(), headers)?;
        let mut response = origin::preflight(headers, "GET", "last-event-id");
        permission.allow(response.headers_mut());
        Ok(response)
    }
}

/// What a page is told that sends an API key where any page may come in.
pub(super) fn key_of_page() -> Problem {
    Problem::new(
        Code::OriginNotAllowed,
        "A page sent an API key, which no page should have. Give it a token of the channel, or name its origin in http.cors_origins.",
    )
}

fn permission(origins: &Origins, headers: &HeaderMap) -> Result<Origin, Problem> {
    origin::admit(origins, headers).map_err(|no_origin| match no_origin {
        NoOrigin::Unclear => {
            Problem::new(Code::InvalidOrigin, "The request has several origins, or one that is no text.")
        }
        NoOrigin::Foreign => Problem::new(
            Code::OriginNotAllowed,
            "The origin of the page is not among those that may read streams.",
        ),
    })
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(LAST_EVENT_ID)?.as_bytes();
    (!id.is_empty()).then(|| String::from_utf8_lossy(id).into_owned())
}

/// The body of the answer. Dropping it, which happens when the client is gone, takes the stream out of its channel.
struct Events {
    listener: Arc<Listener>,
    streams: Arc<Streams>,
    /// What it was opened with, if that was an API key: looked at again with each heartbeat, as a key may end.
    pass: Option<Arc<Pass>>,
    heartbeat: Pin<Box<Sleep>>,
    /// When it ends because what it was opened with has.
    ends_at: Option<Instant>,
    /// Held as long as it is open: its place among all clients, and among those of a user if a JWT of one has opened it.
    _places: (StreamPass, Option<UserPass>),
}

impl Readers for Streams {
    fn readers(&self) -> Vec<Arc<dyn Reader>> {
        let open = self.open.lock();
        open.streams.values().map(|stream| stream.listener.clone() as Arc<dyn Reader>).collect()
    }
}

impl Events {
    /// Whether what it was opened with lets nobody in any more.
    fn is_over(&self) -> bool {
        self.has_lost_its_key() || self.ends_at.is_some_and(|ends_at| ends_at <= Instant::now())
    }

    fn has_lost_its_key(&self) -> bool {
        let clock = self.streams.hub.clock();
        self.pass.as_ref().is_some_and(|pass| !pass.is_valid(clock))
    }

    /// Begins to wait for the next heartbeat, or for the end if that comes first.
    fn await_heartbeat(&mut self) {
        let next = Instant::now() + STREAM_HEARTBEAT;
        let next = self.ends_at.map_or(next, |ends_at| ends_at.min(next));
        self.heartbeat.as_mut().reset(next);
    }
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        // Before anything else: a stream to which there is always something to send ends in time, too.
        let is_time = self.heartbeat.as_mut().poll(cx).is_ready();
        if is_time {
            if self.is_over() {
                self.listener.finish(Disconnected::Expired);
                return Poll::Ready(None);
            }
            self.await_heartbeat();
        }
        match self.listener.next(cx) {
            Next::Frames(frames) => return frame(frames),
            Next::End => return Poll::Ready(None),
            Next::Drained => self.streams.hub.drained(self.listener.id()),
            Next::Nothing => {}
        }
        // Whoever is given something asks again, and waits for the next heartbeat then.
        if is_time { frame(Bytes::from_static(HEARTBEAT)) } else { Poll::Pending }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.listener.left();
        self.streams.open.lock().streams.remove(&self.listener.id());
        // Nobody needs to wait for it.
        _ = self.streams.hub.disconnect(self.listener.id());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_refused_as_on_the_sockets() {
        for denied in [Denied::Invalid, Denied::Early, Denied::Expired, Denied::Revoked, Denied::Unavailable]
        {
            assert_eq!(refused(denied).code.name(), denied.code());
        }
    }

    #[test]
    fn a_place_may_be_left_out() {
        let id =
            |value: &'static str| HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_static(value))]);
        assert_eq!(last_event_id(&id("7")).as_deref(), Some("7"));
        assert_eq!(last_event_id(&id("")), None);
        assert_eq!(last_event_id(&HeaderMap::new()), None);
    }
}
