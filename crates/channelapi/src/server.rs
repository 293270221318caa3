//! Wires the rooms together and runs them: the product's server, and the one for the official suites.

mod answers;
mod front;
mod going;
mod readings;
#[cfg(test)]
mod sizes;

use crate::admission::{Admission, Limits, Memory};
use crate::api::{Api, Publishing};
use crate::auth::{KeyRing, is_key_in_query};
use crate::banner;
use crate::config::Config;
use crate::config::keys::{Reach, ResolvedKeys, resolve};
use crate::config::origins::Origins;
use crate::config::value::Value;
use crate::cores::Cores;
use crate::drain::Signals;
use crate::forms::Forms;
use crate::gateway::conformance::{Echo, SuiteEvents};
use crate::gateway::{ChannelEvents, Gateway, Settings, SocketIo, Upgrade};
use crate::health::Ready;
use crate::http::{self, Answering, Attempt, Head, Peer, Request, Response};
use crate::identity::{self, Identity, Issuers};
use crate::listener::{Bound, Entry, HttpConnections, Leaving, Listener, Pace};
use crate::live::Live;
use crate::logging::Verbosity;
use crate::metrics::{self, RequestRefused};
use crate::page::Page;
use crate::reload::{Part, Reloader, Reread, Used};
use crate::tls::Certificates;
use crate::{custody, drain, health, listener, reload, watch};
use answers::{key_in_url, no_metrics, not_found};
use channelapi_core::broker::{EmbeddedBroker, StoreSettings, carry_answers};
use channelapi_core::clock::{Clock, millis_of};
use channelapi_core::hub::{self, Hub, Readiness};
use channelapi_core::limits::FENCED_DRAIN_TIMEOUT;
use channelapi_core::state::{DataDirectory, DataDirectoryError};
use front::Front;
use going::{going, keep_up};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use rustix::process::{Resource, Signal, getrlimit};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// What is configured cannot be used. (`EX_CONFIG`: starting again would end the same way.)
const EXIT_CONFIG: u8 = 78;

/// The data directory is not ours now: another process has it, or another version wrote what is in it. (`EX_TEMPFAIL` of sysexits.h: trying
/// later may help.)
const EXIT_NOT_OURS: u8 = 75;

/// The disk failed. (`EX_IOERR`: restarting alone may not help.)
const EXIT_IO: u8 = 74;

/// An end that is not success: what to say, and the exit code.
pub(crate) struct Failure {
    pub(crate) error: anyhow::Error,
    pub(crate) code: u8,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), code: 1 }
    }
}

/// The product's server.
struct Server {
    cores: Arc<Cores>,
    hub: Arc<Hub>,
    gateway: Arc<Gateway>,
    admission: Arc<Admission>,
    api: Api,
    page: Page,
    /// None without TLS.
    certificates: Option<Arc<Certificates>>,
}

/// The server as one listener shows it.
struct Face {
    server: Arc<Server>,
    /// Socket.IO and the page.
    is_for_clients: bool,
    /// The HTTP API.
    is_for_publishers: bool,
}

impl listener::Service for Face {
    type Call = Publishing;
    type Upgrade = Upgrade;

    fn pace(&self, path: &str) -> Pace {
        match path {
            _ if is_below(path, SOCKET_IO) => Pace::Held,
            _ if path.ends_with("/stream") => Pace::Endless,
            _ => Pace::Brief,
        }
    }

    fn recognize(&self, head: &Head<'_>, body: &[u8]) -> Option<Publishing> {
        if self.is_for_publishers { self.server.api.recognize(head, body) } else { None }
    }

    fn call(&self, publishing: Publishing) -> Answering<'_> {
        self.server.api.publish(publishing)
    }

    fn upgrade(&self, head: &Head<'_>, peer: Peer) -> Option<(Response, Option<Upgrade>)> {
        let is_ours = self.is_for_clients && is_below(head.path, SOCKET_IO);
        if is_ours { self.server.gateway.upgrade(head, peer.counted_as_client()) } else { None }
    }

    async fn take_over(upgrade: Upgrade, Leaving { stream, answer, sent }: Leaving) {
        upgrade.begin(stream, answer, &sent).await;
    }

    async fn serve(self: Arc<Self>, request: Request, peer: Peer) -> Response {
        let Self { server, is_for_clients, is_for_publishers } = &*self;
        let path = request.uri().path();
        if *is_for_clients && is_below(path, SOCKET_IO) {
            return server.gateway.serve(request, peer.counted_as_client()).await;
        }
        if *is_for_publishers && Api::answers(path) {
            let address = if Api::takes_tokens(path) { peer.counted_as_client() } else { peer.counted_as() };
            // Boxed, because clients that poll would hold room for it.
            return Box::pin(server.call(request, address)).await;
        }
        match (path, request.method()) {
            ("/", &Method::GET | &Method::HEAD) if *is_for_clients => server.page.answer(),
            ("/healthz" | "/readyz", _) if is_key_in_query(request.uri().query()) => key_in_url(),
            ("/healthz", &Method::GET | &Method::HEAD) => {
                let head = request.into_parts().0;
                let is_known =
                    is_from_near(&head, peer) || (*is_for_publishers && server.may_read_all(&head));
                health::alive(is_known.then(|| server.details()))
            }
            ("/metrics", &Method::GET | &Method::HEAD) if *is_for_publishers => {
                server.metrics(&request.into_parts().0)
            }
            ("/readyz", &Method::GET | &Method::HEAD) => health::ready(server.readiness()),
            _ => {
                RequestRefused::NotFound.count();
                not_found(*is_for_clients)
            }
        }
    }
}

impl Server {
    /// Answers a request to the API. A stream may be opened with a token, so strangers may try only so many.
    async fn call(&self, mut request: Request, address: Option<IpAddr>) -> Response {
        let may_guess = Api::takes_tokens(request.uri().path());
        if may_guess && !self.admission.may_present_token(address) {
            return self.api.refuse_attempts(request.headers());
        }
        // What waits for a stream takes as much as what waits for any other client.
        if may_guess && self.admission.is_short_of_memory() {
            return self.api.refuse_for_memory(request.headers());
        }
        let attempt = may_guess.then(Attempt::default);
        if let Some(attempt) = &attempt {
            request.extensions_mut().insert(attempt.clone());
        }
        let response = self.api.serve(request, address).await;
        if let Some(token) = attempt.as_ref().and_then(Attempt::failed) {
            self.admission.failed_token_of(address, token);
        }
        response
    }

    fn may_read_all(&self, head: &Parts) -> bool {
        self.api.admit_reader(head).is_ok()
    }

    fn details(&self) -> health::Details {
        health::Details { connections: self.gateway.connections(), channels: self.hub.active_channels() }
    }

    /// Whether this node should get work.
    fn readiness(&self) -> Ready {
        match self.hub.readiness() {
            _ if self.admission.is_draining() => Ready::Stopping,
            Readiness::CannotStore => Ready::CannotStore,
            Readiness::Ready if self.admission.is_short_of_memory() => Ready::ShortOfMemory,
            Readiness::Ready if self.lacks_certificate() => Ready::NoCertificate,
            Readiness::Ready => Ready::Yes,
        }
    }

    /// Whether it speaks TLS without a certificate that clients would take.
    fn lacks_certificate(&self) -> bool {
        let now = SystemTime::now();
        self.certificates.as_ref().is_some_and(|certificates| !certificates.has_one_at(now))
    }

    /// The metrics, for whoever has a key that may read everywhere: they tell how much a node has to do and what it refuses.
    fn metrics(&self, head: &Parts) -> Response {
        if let Err(denied) = self.api.admit_reader(head) {
            return no_metrics(denied);
        }
        http::fresh(StatusCode::OK, metrics::CONTENT_TYPE, metrics::page(&self.readings()))
    }
}

/// Where the clients of Socket.IO connect.
const SOCKET_IO: &str = "/socket.io";

/// Whether a path is `root`, with or without a slash behind it.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| matches!(rest, "" | "/"))
}

/// Whether a neighbour asks on its own behalf: a proxy that nobody named still says that it asks for somebody else.
fn is_from_near(head: &Parts, peer: Peer) -> bool {
    let is_forwarded = ["x-forwarded-for", "forwarded"].iter().any(|name| head.headers.contains_key(*name));
    matches!(peer, Peer::Neighbour | Peer::Proxy) && !is_forwarded
}

/// Finds the keys to run with, and says what is to be said of them.
fn known_keys(config: &Config, reach: Reach) -> Result<ResolvedKeys, Failure> {
    let keys =
        resolve(config, reach).map_err(|error| Failure { code: error.exit_code(), error: error.into() })?;
    for warning in &keys.warnings {
        warn!("{warning}");
    }
    for key in &config.auth_keys {
        let (name, scopes) = (key.name.as_str(), key.scopes.show());
        let channels = key.channels.as_ref().map_or_else(|| "*".to_owned(), Value::show);
        info!(name, scopes, channels, "an API key of the configuration file counts");
    }
    Ok(keys)
}

/// The parts that change when the configuration is read again.
fn changeable(
    verbosity: Verbosity,
    origins: Live<Origins>,
    limits: Live<Limits>,
    ring: KeyRing,
    identity: Arc<Identity>,
    log: Arc<EmbeddedBroker>,
    api: &Api,
) -> Vec<Box<dyn Part>> {
    vec![
        Used::part(&["http.cors_origins"], origins, |config| config.http.cors_origins.clone()),
        Used::part(&["limits."], limits, move |config| limits_of(config, &log)),
        Box::new(verbosity),
        Box::new(identity::Reloading(identity)),
        // Almost last, because it may make a key: not if another part refuses.
        Box::new(ring),
        api.reloading(),
    ]
}

impl Server {
    /// Ends clients and event streams whenever what they came with is revoked.
    async fn keep_revoked_out(self: Arc<Self>) {
        tokio::join!(self.gateway.clone().keep_revoked_out(self.hub.clone()), self.api.keep_revoked_out());
    }
}

/// The limits that were set, for a process with as many file descriptors as this one may have, of which its log comes first.
fn limits_of(config: &Config, log: &EmbeddedBroker) -> Limits {
    let files = metrics::max_files().unwrap_or(u64::MAX);
    let limits = Limits::of(&config.limits, files, log.files_max());
    for warning in limits.shortfalls(&config.limits, files, Memory::find().limit(0)) {
        warn!("{warning}");
    }
    limits
}

/// How the log is kept on this machine.
fn store_settings(config: &Config) -> StoreSettings {
    let memory = Memory::find().limit(config.limits.memory.bytes() as u64).unwrap_or(u64::MAX);
    let settings = config.store_settings().within(memory);
    // Files that may not grow are left early enough for the largest message, and for the seal.
    let file_bytes_max = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    StoreSettings { segment_bytes: settings.segment_bytes.min(file_bytes_max / 2), ..settings }
}

/// Runs the server until it is told to stop. `reread` reads the configuration as it is then.
#[allow(clippy::too_many_lines, reason = "one story, told from the start to the end")]
pub(crate) async fn run(
    config: Config,
    verbosity: Verbosity,
    reread: Reread,
    cores: Arc<Cores>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let signals = Signals::hear()?;
    // One that comes while the server starts is heard when it has.
    let hangups = reload::hangups()?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    if config.redis.host.is_some() || config.redis.port.is_some() {
        warn!(
            "Redis is not used by this version: everything is kept in {}, and several servers do not share their channels",
            config.data_dir.display()
        );
    }
    let directory = DataDirectory::open(&config.data_dir).map_err(|error| {
        let code = if matches!(error, DataDirectoryError::InUse(_)) { EXIT_NOT_OURS } else { 1 };
        Failure { error: error.into(), code }
    })?;
    for warning in custody::warnings(directory.path()) {
        warn!("{warning}");
    }
    let reach = Reach::of(&config);
    let keys = known_keys(&config, reach)?;
    let ring = KeyRing::new(&keys, reach, config.data_dir.clone());
    let origins = Live::new(config.http.cors_origins.clone());

    let issuers = Issuers::set_up(&config.jwt, None).map_err(|error| Failure {
        code: if error.may_pass() { 1 } else { EXIT_CONFIG },
        error: error.into(),
    })?;
    let front = Front::open(&config)?;
    // Taken, so that a write beyond the largest file that this process may have (`LimitFSIZE`) fails, and does not end it.
    let _too_large = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
    let clock = Clock::system();
    let node = hub::Settings {
        cores: cores.runtimes(),
        policies: config.policies(),
        store: store_settings(&config),
    };
    let hub = Hub::start(&directory, clock.clone(), node, Arc::new(Forms)).map_err(|error| {
        let code = if error.is_of_another_version() { EXIT_NOT_OURS } else { 1 };
        Failure { error: error.into(), code }
    })?;
    let hub = Arc::new(hub);
    for core in cores.runtimes() {
        core.spawn(carry_answers());
    }
    let settings = Settings::new(
        millis_of(config.socketio.ping_interval),
        millis_of(config.socketio.ping_timeout),
        config.socketio.max_payload.bytes(),
        origins.clone(),
    );
    let identity = Arc::new(Identity::new(hub.clone(), issuers));
    let events = ChannelEvents::new(hub.clone(), identity.clone());
    let socketio = SocketIo::new(events, config.socketio.connect_timeout);
    let admission = Admission::new(limits_of(&config, &hub.broker), clock.clone());
    let gateway = Gateway::new(settings, Box::new(socketio), clock, admission.clone());
    let api = Api::new(hub.clone(), identity.clone(), ring.clone(), origins.clone(), admission.clone());
    let readers = vec![gateway.clone(), api.readers()];
    let watched = Arc::new((admission.clone(), readers, hub.clone(), config.socketio.ping_interval));
    let watch = tokio::spawn(going("watching over memory", watched, |watched| {
        let (admission, readers, hub, ping_interval) = (*watched).clone();
        watch::watch(admission, readers, Arc::new(http::UntakenAnswers), hub, ping_interval)
    }));
    let upkeep = tokio::spawn(keep_up(hub.clone(), identity.clone()));
    let heartbeats = tokio::spawn(going("sending pings", gateway.clone(), Gateway::keep_time));
    let mut parts: Vec<_> = front.reloading().into_iter().collect();
    parts.extend(changeable(
        verbosity,
        origins,
        admission.live_limits(),
        ring,
        identity,
        hub.broker.clone(),
        &api,
    ));
    let reloading = tokio::spawn(Reloader::new(&config, reread, parts).run(hangups));
    let server = Arc::new(Server {
        cores: cores.clone(),
        hub: hub.clone(),
        gateway: gateway.clone(),
        admission: admission.clone(),
        api,
        page: Page::new(config.internal.port.is_none() && config.internal.unix.is_none()),
        certificates: front.certificates(),
    });
    let revoking = tokio::spawn(going("ending what is revoked", server.clone(), Server::keep_revoked_out));

    let stopping = signals.started();
    banner::announce(&config, &keys, &front.places()?, started.elapsed());
    let stopping = async {
        let told = async {
            stopping.await;
            admission.begin_drain();
            // A load balancer notices meanwhile, and sends nothing more.
            tokio::time::sleep(config.drain.delay).await;
        };
        tokio::select! {
            () = told => {}
            () = hub.fenced() => error!("nothing more can be stored: stopping"),
        }
    };
    let requests = HttpConnections::new(admission.clone(), cores);
    tokio::select! {
        () = stopping => {}
        never = front.serve(&server, &requests) => match never {},
    }
    let time = hub.fence().map_or(config.drain.timeout, |_| config.drain.timeout.min(FENCED_DRAIN_TIMEOUT));
    let streams = || admission.streams();
    drain::drain(&[gateway], server.api.begin_drain(), streams, requests, time, hub.fenced()).await;
    hub.tokens.flush().await;
    hub.consumers.flush().await;
    [heartbeats, watch, revoking].iter().for_each(tokio::task::JoinHandle::abort);
    [upkeep, reloading].iter().for_each(tokio::task::JoinHandle::abort);
    if let Some(fence) = hub.fence() {
        let error = anyhow::anyhow!("{}: {fence}", config.data_dir.display());
        return Err(Failure { error, code: EXIT_IO });
    }
    info!("stopped");
    Ok(())
}

/// The server that the official suites of the public repository talk to.
struct ConformanceServer {
    echo: Arc<Gateway>,
    suite: Arc<Gateway>,
}

impl ConformanceServer {
    fn gateway(&self, path: &str) -> Option<&Arc<Gateway>> {
        let gateways = [("/engine.io", &self.echo), (SOCKET_IO, &self.suite)];
        gateways.into_iter().find_map(|(root, gateway)| is_below(path, root).then_some(gateway))
    }
}

impl listener::Service for ConformanceServer {
    type Call = Infallible;
    type Upgrade = Upgrade;

    fn pace(&self, _: &str) -> Pace {
        Pace::Held
    }

    fn recognize(&self, _: &Head<'_>, _: &[u8]) -> Option<Infallible> {
        None
    }

    fn call(&self, call: Infallible) -> Answering<'_> {
        match call {}
    }

    fn upgrade(&self, head: &Head<'_>, _: Peer) -> Option<(Response, Option<Upgrade>)> {
        self.gateway(head.path)?.upgrade(head, None)
    }

    async fn take_over(upgrade: Upgrade, Leaving { stream, answer, sent }: Leaving) {
        upgrade.begin(stream, answer, &sent).await;
    }

    async fn serve(self: Arc<Self>, request: Request, _peer: Peer) -> Response {
        match self.gateway(request.uri().path()) {
            Some(gateway) => gateway.serve(request, None).await,
            None => not_found(true),
        }
    }
}

/// Runs the server for the official suites, with the settings they expect, but for how long a pong may take.
pub(crate) async fn run_conformance(
    address: SocketAddr,
    ping_timeout: Duration,
    cores: Arc<Cores>,
) -> Result<(), Failure> {
    let listener = Listener::new(Bound::tcp(address, "--")?, Entry::default());
    let place = listener.place()?;
    let stopping = Signals::hear()?.started();
    let clock = Clock::system();
    let settings = Settings::new(300, millis_of(ping_timeout), 1_000_000, Live::new(Origins::Any));
    let admission = Admission::unlimited(clock.clone());
    let echo = Gateway::new(settings.clone(), Box::new(Echo), clock.clone(), admission.clone());
    let suite = SocketIo::new(SuiteEvents, Duration::from_secs(1));
    let suite = Gateway::new(settings, Box::new(suite), clock, admission.clone());
    let heartbeats = [&echo, &suite].map(|gateway| tokio::spawn(gateway.clone().keep_time()));
    let server = Arc::new(ConformanceServer { echo: echo.clone(), suite: suite.clone() });
    println!(
        "conformance server on {}: /engine.io/ echoes, /socket.io/ is the suites' application",
        place.url()
    );
    let requests = HttpConnections::new(admission, cores);
    tokio::select! {
        () = stopping => {}
        never = listener.serve(server, &requests) => match never {},
    }
    let time = Duration::from_secs(1);
    drain::drain(&[echo, suite], Vec::new(), || 0, requests, time, std::future::pending()).await;
    heartbeats.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}
