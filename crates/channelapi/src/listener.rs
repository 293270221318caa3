//! Accepts connections and serves HTTP/1.1 on them, with a limit on everything a stranger can make us wait for or keep.

use crate::http::{Request, Response, Socket};
use crate::metrics::ConnectionRefused;
use channelapi_core::limits::{ACCEPT_BACKLOG, HTTP_HEADER_BYTES_MAX, HTTP_HEADERS_MAX};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Type};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{debug, warn};

/// How long to wait after the system refused us a connection for want of something, usually file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens a listening socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    // A restarted server must not wait for connections of its predecessor to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Answers requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one.
    fn serve(self: Arc<Self>, request: Request) -> impl Future<Output = Response> + Send;
}

/// How long the last answers may take to reach the network when everything else is done.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_millis(250);

/// The HTTP connections that are open.
pub(crate) struct HttpConnections {
    /// Each connection holds a receiver as long as it lives.
    stop: watch::Sender<()>,
    /// So does each request, until it is answered.
    requests: Arc<watch::Sender<()>>,
}

impl HttpConnections {
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

/// Accepts connections until `stopping` is ready. The listening socket is closed then.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<impl Service>,
    stopping: impl Future<Output = ()>,
) -> HttpConnections {
    let connections =
        HttpConnections { stop: watch::Sender::new(()), requests: Arc::new(watch::Sender::new(())) };
    let mut stopping = std::pin::pin!(stopping);
    loop {
        tokio::select! {
            () = &mut stopping => return connections,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve_one(stream, service.clone(), &connections),
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    ConnectionRefused::FileDescriptors.count();
                    warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn serve_one(stream: TcpStream, service: Arc<impl Service>, connections: &HttpConnections) {
    // Packets are small and must leave at once.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection was gone before it was served");
        return;
    }
    let mut stop = connections.stop.subscribe();
    let requests = connections.requests.clone();
    let (socket, progress) = Socket::new(stream);
    let watched = progress.clone();
    let answer = service_fn(move |request| {
        let service = service.clone();
        let progress = progress.clone();
        let under_way = requests.subscribe();
        async move {
            progress.begin();
            let response = service.serve(request).await;
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
        .serve_connection(TokioIo::new(socket), answer)
        .with_upgrades();
    tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = watched.stalled() => return,
            _ = stop.changed() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = watched.stalled() => return,
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, "an HTTP connection broke");
        }
    });
}

/// Whether only the connection that was to be accepted is gone.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
