//! Accepts connections and serves HTTP/1.1 on them, with a limit on everything a stranger can make us wait for or keep.
//!
//! `bind.rs` opens the sockets; `proxy.rs` reads what a proxy says about a connection, and `peer.rs` finds out who sent a request.

mod bind;
mod peer;
mod place;
mod proxy;
mod spare;

pub(crate) use bind::Bound;
pub(crate) use place::Place;

use crate::admission::{Admission, SocketPass};
use crate::config::proxies::TrustedProxies;
use crate::cores::{self, Cores};
use crate::http::{Peer, Request, Response, Socket};
use crate::metrics::{ConnectionRefused, HttpRefused, HttpTimeout};
use crate::stream::{Stream, TlsStream, Travelling};
use channelapi_core::limits::{
    HTTP_HEADER_BYTES_MAX, HTTP_HEADER_TIMEOUT, HTTP_HEADERS_MAX, PROXY_HEADER_TIMEOUT, TLS_HANDSHAKE_TIMEOUT,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use peer::Arrival;
use rustls::ServerConfig;
use spare::Spare;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{debug, warn};

/// How long to wait after the system refused us a connection for want of something, usually file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are accepted before those that are here get a turn.
const ACCEPTS_PER_TURN: u32 = 16;

/// Answers requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one.
    fn serve(self: Arc<Self>, request: Request, peer: Peer) -> impl Future<Output = Response> + Send;
}

/// How long the last answers may take to reach the network when everything else is done.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_millis(250);

/// The HTTP connections that are open, of all listeners.
pub(crate) struct HttpConnections {
    /// Says who may have one.
    admission: Arc<Admission>,
    /// Where they are served.
    cores: Arc<Cores>,
    /// Each connection holds a receiver as long as it lives.
    stop: watch::Sender<()>,
    /// So does each request, until it is answered.
    requests: Arc<watch::Sender<()>>,
}

impl HttpConnections {
    /// None yet.
    pub(crate) fn new(admission: Arc<Admission>, cores: Arc<Cores>) -> Self {
        Self { admission, cores, stop: watch::Sender::default(), requests: Arc::default() }
    }

    /// Requests that are not answered yet.
    pub(crate) fn requests(&self) -> usize {
        self.requests.receiver_count()
    }

    /// Waits until the requests under way are answered, and closes the connections. One that has sent no whole request head
    /// is not waited for.
    pub(crate) async fn finish(&self) {
        self.stop.send_replace(());
        self.requests.closed().await;
        _ = tokio::time::timeout(LAST_ANSWERS_TIMEOUT, self.stop.closed()).await;
    }
}

/// A listening socket, and what holds for its connections.
#[derive(Debug)]
pub(crate) struct Listener {
    bound: Bound,
    entry: Arc<Entry>,
}

/// How connections come in.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Proxies whose word about the address of a client counts.
    pub(crate) trusted_proxies: Option<TrustedProxies>,
    /// Whether these begin each connection with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// What is spoken below HTTP, if it is not spoken in the clear.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// The only protocol that is spoken over TLS.
const HTTP_PROTOCOL: &[u8] = b"http/1.1";

impl Listener {
    /// A listener that [`Listener::serve`] makes use of. Until then the kernel keeps those who connect waiting.
    pub(crate) fn new(bound: Bound, entry: Entry) -> Self {
        Self { bound, entry: Arc::new(entry) }
    }

    /// Where it is found.
    pub(crate) fn place(&self) -> io::Result<Place> {
        self.bound.place(self.entry.tls.is_some())
    }

    /// Accepts connections until it is dropped, which closes the listening socket.
    pub(crate) async fn serve(self, service: Arc<impl Service>, connections: &HttpConnections) -> Infallible {
        let mut spare = Spare::new();
        let mut accepted = 0_u32;
        loop {
            accepted = accepted.wrapping_add(1);
            if accepted.is_multiple_of(ACCEPTS_PER_TURN) {
                // Those who were accepted have perhaps said something by now; otherwise they would count as silent.
                tokio::task::yield_now().await;
            }
            match self.bound.accept().await {
                Ok((stream, from)) => self.serve_one(stream, from, service.clone(), connections),
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) if Spare::is_needed_for(&error) && spare.shed(&self.bound).await => {}
                Err(error) => {
                    warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve_one(
        &self,
        stream: Stream,
        from: Option<IpAddr>,
        service: Arc<impl Service>,
        connections: &HttpConnections,
    ) {
        let entry = self.entry.clone();
        let direct = Arrival::of(from, entry.trusted_proxies.as_ref()).address();
        let mut pass = match connections.admission.admit_socket(direct) {
            Ok(pass) => pass,
            Err(refusal) => {
                refusal.count();
                // With TLS it would take a handshake to say something.
                if entry.tls.is_none() {
                    send_away(stream, refusal != ConnectionRefused::Node);
                }
                return;
            }
        };
        let requests = connections.requests.clone();
        let mut stop = connections.stop.subscribe();
        let core = connections.cores.choose();
        let stream = if core == cores::here() { Ok(Travelling::Stays(stream)) } else { stream.leave() };
        connections.cores.spawn(core, async move {
            let stream = match stream.and_then(Travelling::arrive) {
                Ok(stream) => stream,
                Err(error) => {
                    debug!(%error, "a connection was gone before it was served");
                    return;
                }
            };
            let entered = tokio::select! {
                biased;
                entered = entry.enter(stream, from, &mut pass) => entered,
                _ = stop.changed() => return,
            };
            match entered {
                Ok((stream, arrival)) => {
                    if arrival.address() != direct
                        && let Err(refusal) = pass.count_for(arrival.address())
                    {
                        refusal.count();
                        return;
                    }
                    serve_http(stream, arrival, entry, service, stop, requests, pass).await;
                }
                Err(error) => debug!(%error, "a connection did not begin as it must"),
            }
        });
    }
}

/// Tells a client that nobody has time for that it may come back, and closes. It costs one system call, and never waits.
fn send_away(stream: Stream, is_too_much: bool) {
    let answer: &[u8] = if is_too_much {
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    } else {
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    };
    let (_, write) = stream.into_split();
    // Its buffer is empty; if the client is gone, so be it.
    _ = write.try_write(answer);
}

impl Entry {
    /// What comes before HTTP. Whoever says nothing, or does not come to an end with it, may have to make room for others.
    async fn enter(
        &self,
        stream: Stream,
        from: Option<IpAddr>,
        pass: &mut SocketPass,
    ) -> io::Result<(Stream, Arrival)> {
        self.first_byte(&stream, from, pass).await?;
        pass.has_begun();
        tokio::select! {
            biased;
            entered = self.introduced(stream, from) => entered,
            () = pass.evicted() => Err(make_room()),
        }
    }

    /// Waits for the first byte.
    async fn first_byte(&self, stream: &Stream, from: Option<IpAddr>, pass: &SocketPass) -> io::Result<()> {
        let timeout = async {
            if self.proxy_protocol && Arrival::of(from, self.trusted_proxies.as_ref()) == Arrival::Proxied {
                tokio::time::sleep(PROXY_HEADER_TIMEOUT).await;
                ConnectionRefused::Proxy.count();
            } else if self.tls.is_some() {
                tokio::time::sleep(TLS_HANDSHAKE_TIMEOUT).await;
                ConnectionRefused::Tls.count();
            } else {
                tokio::time::sleep(HTTP_HEADER_TIMEOUT).await;
                HttpTimeout::Head.count();
            }
        };
        tokio::select! {
            biased;
            arrived = stream.first_byte() => arrived,
            // Its first byte may be here although nobody was told yet.
            () = pass.evicted() => if stream.has_arrived() { Ok(()) } else { Err(make_room()) },
            () = timeout => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Who it is, and TLS.
    async fn introduced(&self, mut stream: Stream, from: Option<IpAddr>) -> io::Result<(Stream, Arrival)> {
        let trusted = self.trusted_proxies.as_ref();
        let mut arrival = Arrival::of(from, trusted);
        if self.proxy_protocol && arrival == Arrival::Proxied {
            let header = proxy::read_header(&mut stream).await;
            if let Some(client) = header.inspect_err(|_| ConnectionRefused::Proxy.count())? {
                arrival = Arrival::announced(client, trusted);
            }
        }
        match (stream, &self.tls) {
            (Stream::Tcp(socket), Some(config)) => {
                let stream = TlsStream::accept(socket, config.clone()).await;
                let stream = stream.inspect_err(|_| ConnectionRefused::Tls.count())?;
                if stream.protocol().is_some_and(|protocol| protocol != HTTP_PROTOCOL) {
                    // An authority has seen the certificate that it asked for.
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Ok((Stream::Tls(stream), arrival))
            }
            (stream, _) => Ok((stream, arrival)),
        }
    }
}

/// A connection has to go, because others want to come in.
fn make_room() -> io::Error {
    ConnectionRefused::Handshakes.count();
    io::Error::new(io::ErrorKind::ConnectionAborted, "it had to make room")
}

async fn serve_http(
    stream: Stream,
    arrival: Arrival,
    entry: Arc<Entry>,
    service: Arc<impl Service>,
    mut stop: watch::Receiver<()>,
    requests: Arc<watch::Sender<()>>,
    pass: SocketPass,
) {
    let pass = Arc::new(pass);
    let speaks = pass.clone();
    let (socket, progress) = Socket::new(stream);
    let watched = progress.clone();
    let answer = service_fn(move |request: Request| {
        let service = service.clone();
        let progress = progress.clone();
        let under_way = requests.subscribe();
        speaks.has_spoken();
        let peer = arrival.peer(request.headers(), entry.trusted_proxies.as_ref());
        async move {
            progress.begin();
            let response = service.serve(request, peer).await;
            if response.body().is_stream() {
                progress.stream();
            } else {
                progress.end();
            }
            drop(under_way);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .max_headers(HTTP_HEADERS_MAX)
        .max_buf_size(HTTP_HEADER_BYTES_MAX)
        // Most answers have a few hundred bytes: copying them behind their head is cheaper than a vectored write.
        .writev(false)
        .serve_connection(TokioIo::new(socket), answer)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        // What has arrived is read before anything else: whoever has spoken keeps its place.
        biased;
        ended = connection.as_mut() => ended,
        () = watched.stalled() => return,
        () = pass.evicted() => {
            let error = make_room();
            debug!(%error, "a connection did not begin as it must");
            return;
        }
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = watched.stalled() => return,
            }
        }
    };
    if let Err(error) = ended {
        count_refused(&error);
        debug!(%error, "an HTTP connection broke");
    }
}

/// Counts what was refused before it was a request. Such a connection was told why, as far as it speaks HTTP/1.
fn count_refused(error: &hyper::Error) {
    if error.is_parse_too_large() {
        HttpRefused::TooLarge.count();
    } else if error.is_parse_version_h2() {
        HttpRefused::Http2.count();
    } else if error.is_parse() {
        HttpRefused::Malformed.count();
    }
}

/// Whether only the connection that was to be accepted is gone.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
