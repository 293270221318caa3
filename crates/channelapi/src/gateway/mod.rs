//! Where clients connect: Engine.IO on HTTP and WebSocket, with an [`Application`] on top.
//!
//! - `polling.rs` and `websocket.rs` are the two transports, `connection/` is one client on either of them.
//! - `outbox.rs` is the way out to one client, `heartbeats.rs` the one timer for all, `leaving.rs` the other one for those who are put out.
//! - `socketio.rs` is Socket.IO on top, and `events.rs` the events of clients on top of that.
//! - `requests/` is what clients ask for, read and checked.
//! - `doors.rs` are the ways into channels: `join.rs` for the event `join_channel`, `handshake.rs` for clients that bring their tokens
//!   and come back to where they were, with a `pid.rs`, and `sessions.rs` of those that are here. `acks.rs` notes what clients confirm.
//!   `grants.rs` is what their JWTs have opened and until when, and `refresh.rs` takes new ones.

mod acks;
pub(crate) mod conformance;
mod connection;
mod cors;
mod disconnect;
mod doors;
mod events;
pub(crate) mod frames;
mod grants;
mod handshake;
mod heartbeats;
mod join;
mod leaving;
mod namespaces;
mod outbox;
mod pid;
mod polling;
mod queue;
mod random;
mod refresh;
mod requests;
mod revoked;
mod sessions;
#[cfg(test)]
mod sizes;
mod socketio;
mod websocket;

pub(crate) use connection::application::Application;
pub(crate) use events::ChannelEvents;
pub(crate) use socketio::SocketIo;
pub(crate) use websocket::Upgrade;

use crate::admission::{Admission, SessionPass};
use crate::config::origins::Origins;
use crate::cores;
use crate::http::{self, Head, Request, Response};
use crate::live::Live;
use crate::metrics::{HandshakeRefused, OPENED};
use crate::origin;
use crate::spread::Guest;
use crate::waiting::{Reader, Readers};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use channelapi_core::clock::Clock;
use channelapi_core::delivery::Subscriber as _;
use channelapi_core::limits::FANOUT_CHUNK;
use channelapi_core::model::ConnectionId;
use channelapi_protocol::engineio::{self, Open, RequestError, Timing, Transport};
use connection::Connection;
use heartbeats::{Entry, Wheel};
use hyper::{Method, StatusCode, Version};
use leaving::Leaving;
use parking_lot::Mutex;
use slab::Slab;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What can be set.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The heartbeat.
    pub(crate) timing: Timing,
    /// Bytes a client may send at once, on either transport.
    pub(crate) max_payload: usize,
    /// Which pages may connect.
    pub(crate) origins: Live<Origins>,
}

impl Settings {
    /// Settings with a heartbeat that the gateway's timer can keep.
    pub(crate) fn new(
        ping_interval: u64,
        ping_timeout: u64,
        max_payload: usize,
        origins: Live<Origins>,
    ) -> Self {
        // A twenty-fifth of the interval is late enough to be cheap and early enough not to matter.
        let lateness = (ping_interval / 25).clamp(10, 1_000);
        Self { timing: Timing { ping_interval, ping_timeout, lateness }, max_payload, origins }
    }
}

/// All clients of one path.
pub(crate) struct Gateway {
    settings: Settings,
    application: Box<dyn Application>,
    clock: Clock,
    admission: Arc<Admission>,
    connections: Mutex<Connections>,
    /// The sessions that opened by polling.
    sessions: Mutex<HashMap<Box<str>, Arc<Connection>>>,
    wheel: Mutex<Wheel>,
    leaving: Leaving,
}

#[derive(Default)]
struct Connections {
    all: Slab<Arc<Connection>>,
    /// Makes ids unique though places in the slab are used again.
    opened: u32,
    is_draining: bool,
}

impl Gateway {
    /// A gateway without clients. [`Gateway::keep_time`] must run beside it.
    pub(crate) fn new(
        settings: Settings,
        application: Box<dyn Application>,
        clock: Clock,
        admission: Arc<Admission>,
    ) -> Arc<Self> {
        let Timing { ping_interval, ping_timeout, lateness } = settings.timing;
        let wheel = Wheel::new(clock.monotonic_millis(), lateness, ping_interval.max(ping_timeout));
        Arc::new(Self {
            settings,
            application,
            clock,
            admission,
            connections: Mutex::default(),
            sessions: Mutex::default(),
            wheel: Mutex::new(wheel),
            leaving: Leaving::default(),
        })
    }

    /// Answers one request of a client, who counts as `address` if it is a stranger.
    pub(crate) async fn serve(self: &Arc<Self>, request: Request, address: Option<IpAddr>) -> Response {
        let origin = match cors::admit(&self.settings.origins.load(), request.headers()) {
            Ok(origin) => origin,
            Err(error) => return refuse(error),
        };
        let mut response = if request.method() == Method::OPTIONS {
            origin::preflight(request.headers(), "GET, POST", "content-type")
        } else {
            self.answer(request, address).await.unwrap_or_else(refuse)
        };
        origin.allow(response.headers_mut());
        response
    }

    async fn answer(
        self: &Arc<Self>,
        mut request: Request,
        address: Option<IpAddr>,
    ) -> Result<Response, RequestError> {
        let query = engineio::Request::parse(request.uri().query().unwrap_or_default())?;
        let transport = query.transport;
        let arrival = match self.arrival(&query, request.method(), address)? {
            Ok(arrival) => arrival,
            Err(refusal) => return Ok(turn_away(refusal)),
        };
        match (transport, arrival) {
            (Transport::WebSocket, arrival) => {
                if request.method() != Method::GET || request.version() != Version::HTTP_11 {
                    return Err(RequestError::BadRequest);
                }
                let (response, upgrade) = websocket::accept(request.headers(), arrival)?;
                let upgraded = hyper::upgrade::on(&mut *request);
                tokio::spawn(async move {
                    match http::upgraded(upgraded).await {
                        Some((stream, sent)) => upgrade.begin(stream, Vec::new(), &sent).await,
                        None => upgrade.lost(),
                    }
                });
                Ok(response)
            }
            (Transport::Polling, Arrival::Again(session)) => polling::serve(session, request).await,
            (Transport::Polling, Arrival::New(_, pass)) => Ok(polling::open(self, pass)),
        }
    }

    /// Answers a GET request to open a WebSocket on a socket that the caller has, and says what to do with it behind a 101. `None` if the
    /// request is for something else; then nothing has been done.
    pub(crate) fn upgrade(
        self: &Arc<Self>,
        head: &Head<'_>,
        address: Option<IpAddr>,
    ) -> Option<(Response, Option<Upgrade>)> {
        let query = engineio::Request::parse(head.query.unwrap_or_default()).ok()?;
        if query.transport != Transport::WebSocket {
            return None;
        }
        let origin = match cors::admit(&self.settings.origins.load(), head) {
            Ok(origin) => origin,
            Err(error) => return Some((refuse(error), None)),
        };
        let answer = self.arrival(&query, &Method::GET, address).and_then(|arrival| match arrival {
            Ok(arrival) => {
                websocket::accept(head, arrival).map(|(response, upgrade)| (response, Some(upgrade)))
            }
            Err(refusal) => Ok((turn_away(refusal), None)),
        });
        let (mut response, upgrade) = answer.unwrap_or_else(|error| (refuse(error), None));
        origin.allow(response.headers_mut());
        Some((response, upgrade))
    }

    /// Who is there: a session, or somebody who may have one.
    fn arrival(
        self: &Arc<Self>,
        query: &engineio::Request<'_>,
        method: &Method,
        address: Option<IpAddr>,
    ) -> Result<Result<Arrival, HandshakeRefused>, RequestError> {
        if let Some(sid) = query.sid {
            return match self.session(sid) {
                Some(session) => Ok(Ok(Arrival::Again(session))),
                None if self.admission.unknown_session(address) => Err(RequestError::UnknownSession),
                None => Ok(Err(HandshakeRefused::UnknownSessionRate)),
            };
        }
        if method != Method::GET {
            return Err(RequestError::BadHandshakeMethod);
        }
        if !query.is_version_4 {
            return Err(RequestError::UnsupportedVersion);
        }
        if self.connections.lock().is_draining {
            return Ok(Err(HandshakeRefused::Draining));
        }
        Ok(self.admission.admit_session(address).map(|pass| Arrival::New(self.clone(), pass)))
    }

    /// Takes no new connections, and says who is here.
    pub(crate) fn begin_drain(&self) -> Vec<Arc<dyn Guest>> {
        let mut connections = self.connections.lock();
        connections.is_draining = true;
        connections.all.iter().map(|(_, connection)| connection.clone() as Arc<dyn Guest>).collect()
    }

    /// Connections that have not ended, counting those whose last packets are on their way.
    pub(crate) fn connections(&self) -> usize {
        self.connections.lock().all.len()
    }

    /// Looks after the heartbeats of all connections, and after whoever is put out, until it is dropped.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        tokio::join!(self.turn_wheel(), self.keep_seeing_out());
    }

    async fn turn_wheel(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.settings.timing.lateness));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let now = self.now();
            while let Some(due) = self.due(now) {
                let (since, entries) = due;
                for (count, entry) in entries.into_iter().enumerate() {
                    if count % FANOUT_CHUNK == FANOUT_CHUNK - 1 {
                        tokio::task::yield_now().await;
                    }
                    self.look_at(entry, since);
                }
            }
        }
    }

    fn due(&self, now: u64) -> Option<(u64, Vec<Entry>)> {
        self.wheel.lock().due(now)
    }

    /// Looks at a connection whose entry is due, and has been since `since`.
    fn look_at(&self, entry: Entry, since: u64) {
        let Some(connection) = self.connection(entry.connection()) else {
            return;
        };
        let now = self.now();
        if !entry.is_heartbeat() {
            return connection.check_deadline(now, since);
        }
        if let Some(next) = connection.beat(now) {
            self.wheel.lock().schedule(entry, next);
        }
    }

    /// Sees to it that a connection is looked at for a deadline, unless it will be before. Says when that is.
    fn look_before(&self, connection: ConnectionId, at: u64, other: u64) -> u64 {
        self.wheel.lock().schedule_before(Entry::deadline(connection), at, other)
    }

    fn now(&self) -> u64 {
        self.clock.monotonic_millis()
    }

    fn connection(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        let connections = self.connections.lock();
        connections.all.get(place_of(id)).filter(|connection| connection.id() == id).cloned()
    }

    fn session(&self, sid: &str) -> Option<Arc<Connection>> {
        self.sessions.lock().get(sid).cloned()
    }

    /// Registers a new connection, tells its client, behind what is left of an `answer`, and the application. `None` while the gateway
    /// drains, or if there are 16 million.
    fn open(
        self: &Arc<Self>,
        sid: &str,
        may_upgrade: bool,
        pass: SessionPass,
        mut answer: Vec<u8>,
        make: impl FnOnce(ConnectionId, Arc<Self>, SessionPass) -> Connection,
    ) -> Option<Arc<Connection>> {
        let connection = {
            let mut connections = self.connections.lock();
            if connections.is_draining {
                HandshakeRefused::Draining.count();
                return None;
            }
            connections.opened = connections.opened.wrapping_add(1);
            // The highest bit is for the event streams of the API, which are subscribers too.
            let opened = connections.opened & (u32::MAX >> 1);
            let place = connections.all.vacant_entry();
            if place.key() >= 1 << PLACE_BITS {
                HandshakeRefused::Node.count();
                return None;
            }
            let number = u64::from(opened) << PLACE_BITS | place.key() as u64;
            let id = ConnectionId::new(number, cores::here());
            place.insert(Arc::new(make(id, self.clone(), pass))).clone()
        };
        OPENED.count();
        let Timing { ping_interval, ping_timeout, .. } = self.settings.timing;
        let max_payload = self.settings.max_payload;
        let open = Open { sid, may_upgrade, ping_interval, ping_timeout, max_payload };
        engineio::Frame::write_text(&[open.encode().as_bytes()], &mut answer);
        // It is the first, so there is room for it.
        _ = connection.deliver(&answer.into(), usize::MAX);
        let entry = Entry::heartbeat(connection.id());
        self.wheel.lock().schedule(entry, self.now() + ping_interval);
        self.application.opened(&connection);
        Some(connection)
    }

    fn forget_if_over(&self, connection: &Connection) {
        if !connection.is_over() {
            return;
        }
        if let Some(sid) = connection.sid() {
            self.sessions.lock().remove(sid);
        }
        let mut connections = self.connections.lock();
        let place = place_of(connection.id());
        if connections.all.get(place).is_some_and(|known| known.id() == connection.id()) {
            connections.all.remove(place);
        }
    }
}

/// Whose request it is.
enum Arrival {
    /// Somebody's who wants a session.
    New(Arc<Gateway>, SessionPass),
    /// A session's.
    Again(Arc<Connection>),
}

/// The answer to a client that is welcome later.
fn turn_away(refusal: HandshakeRefused) -> Response {
    refusal.count();
    let (status, message, seconds) = match refusal {
        HandshakeRefused::UnknownSessionRate => {
            (StatusCode::TOO_MANY_REQUESTS, "Too many requests with unknown sessions.", "10")
        }
        HandshakeRefused::TokenRate => {
            (StatusCode::TOO_MANY_REQUESTS, "Too many tokens that are not good.", "10")
        }
        HandshakeRefused::Address => {
            (StatusCode::TOO_MANY_REQUESTS, "Too many connections from this address.", "10")
        }
        HandshakeRefused::Memory => (StatusCode::SERVICE_UNAVAILABLE, "The server is short of memory.", "5"),
        HandshakeRefused::Draining => (StatusCode::SERVICE_UNAVAILABLE, "The server is stopping.", "1"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "The server is full.", "5"),
    };
    http::try_later(status, message, seconds)
}

/// Bits of a connection's number that say where it stands in the slab.
const PLACE_BITS: u32 = 24;

/// Where a connection stands in the slab.
fn place_of(id: ConnectionId) -> usize {
    usize::try_from(id.number() & ((1 << PLACE_BITS) - 1)).expect("24 bits fit")
}

/// A new secret for one session, or a new public name: 128 random bits as 22 URL-safe characters.
fn random_id() -> Box<str> {
    URL_SAFE_NO_PAD.encode(random::random_bytes::<16>()).into()
}

/// The answer to a request that cannot be served.
fn refuse(error: RequestError) -> Response {
    match error {
        RequestError::UnknownSession => HandshakeRefused::UnknownSession.count(),
        RequestError::Forbidden => HandshakeRefused::Origin.count(),
        RequestError::UnknownTransport
        | RequestError::BadHandshakeMethod
        | RequestError::BadRequest
        | RequestError::WebSocketVersion
        | RequestError::UnsupportedVersion => HandshakeRefused::BadRequest.count(),
    }
    let status = StatusCode::from_u16(error.status()).expect("it is a status");
    let mut response = http::json(status, error.to_json());
    if error == RequestError::WebSocketVersion {
        websocket::name_version(response.headers_mut());
    }
    response
}

impl Readers for Gateway {
    fn readers(&self) -> Vec<Arc<dyn Reader>> {
        let connections = self.connections.lock();
        connections.all.iter().map(|(_, connection)| connection.clone() as Arc<dyn Reader>).collect()
    }
}
