//! Accepts connections and serves HTTP/1.1 on them, with a limit on everything a stranger can make us wait for or keep.
//!
//! - `bind.rs` opens the sockets, `entry.rs` is what comes before HTTP, `proxy.rs` what a proxy says about a connection.
//! - `serve.rs` is HTTP on one connection (with what is in `serving.rs`), `fast_path.rs` the short way through it. `peer.rs` finds out who sent a request, and
//!   `service.rs` is who answers it.

mod bind;
mod entry;
mod fast_path;
mod peer;
mod place;
mod proxy;
mod serve;
mod service;
mod serving;
mod spare;

pub(crate) use bind::Bound;
pub(crate) use entry::Entry;
pub(crate) use place::Place;
pub(crate) use service::{Leaving, Pace, Service};

use crate::admission::Admission;
use crate::cores::{self, Cores};
use crate::metrics::ConnectionRefused;
use crate::stream::{Stream, Travelling};
use channelapi_core::limits::LAST_ANSWERS_TIMEOUT;
use peer::Arrival;
use serving::Serving;
use spare::Spare;
use std::convert::Infallible;
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

    /// Waits until the requests under way are answered, and closes the connections. The rest of a request that has begun to arrive is
    /// waited for, but not for as long as usual.
    pub(crate) async fn finish(&self) {
        self.stop.send_replace(());
        loop {
            self.requests.closed().await;
            let closed = tokio::time::timeout(LAST_ANSWERS_TIMEOUT, self.stop.closed()).await;
            if closed.is_ok() || self.requests() == 0 {
                return;
            }
        }
    }
}

/// A listening socket, and what holds for its connections.
#[derive(Debug)]
pub(crate) struct Listener {
    bound: Bound,
    entry: Arc<Entry>,
}

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
        let arrival = Arrival::of(from, entry.trusted_proxies.as_ref());
        let direct = arrival.address();
        let is_introduced = entry.is_introduced(arrival);
        let admitted = if is_introduced {
            connections.admission.admit_unannounced()
        } else {
            connections.admission.admit_socket(direct)
        };
        let mut pass = match admitted {
            Ok(pass) => pass,
            Err(refusal) => {
                refusal.count();
                // With TLS it would take a handshake to say something.
                if entry.tls.is_none() {
                    send_away(stream, is_too_much(refusal));
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
                    ConnectionRefused::FileDescriptors.count();
                    debug!(%error, "a connection cannot be watched on its core");
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
                    if (is_introduced || arrival.address() != direct)
                        && let Err(refusal) = pass.count_for(arrival.address())
                    {
                        refusal.count();
                        if entry.tls.is_none() {
                            send_away(stream, is_too_much(refusal));
                        }
                        return;
                    }
                    Serving { service, entry, arrival, requests }.serve(stream, pass, stop).await;
                }
                Err(error) => debug!(%error, "a connection did not begin as it must"),
            }
        });
    }
}

/// Bytes of a connection while it waits.
#[cfg(test)]
pub(crate) fn connection_bytes<S: Service>() -> usize {
    future_bytes(|(serving, stream, pass, stop)| Serving::<S>::serve(serving, stream, pass, stop))
}

/// Bytes of what a function returns that is to be waited for.
#[cfg(test)]
pub(crate) fn future_bytes<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}

/// Whether somebody is refused for what its address has or does, and not for what the server lacks.
fn is_too_much(refusal: ConnectionRefused) -> bool {
    !matches!(refusal, ConnectionRefused::Node | ConnectionRefused::Memory)
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

/// Whether only the connection that was to be accepted is gone.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
