//! Serves HTTP/1.1 on one connection: first the fast path, and behind it hyper, which knows everything.

use super::entry::make_room;
use super::fast_path::{End, FastPath};
use super::service::Service;
use super::serving::{Serving, has_changed};
use crate::admission::{Rests, SocketPass};
use crate::http::{self, Progress, Receipt, Request, Response, Socket, Unread};
use crate::metrics::{HttpRefused, RestEnded};
use crate::stream::Stream;
use channelapi_core::limits::{HTTP_HEADER_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_TARGET_BYTES_MAX};
use hyper::body::Body as _;
use hyper::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tracing::debug;

impl<S: Service> Serving<S> {
    /// Serves a connection until it ends, or `stop` changes and what was begun is answered.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, in every connection")]
    pub(super) fn serve(
        self,
        stream: Stream,
        mut pass: SocketPass,
        stop: watch::Receiver<()>,
    ) -> impl Future<Output = ()> + Send {
        async move {
            let (socket, progress) = Socket::new(stream, pass.owner());
            pass.may_rest(progress.clone());
            let end = {
                let mut waiting = stop.clone();
                let mut fast = pin!(FastPath::new(&self, socket, &progress, pass).run(&stop));
                let mut stalled = pin!(progress.stalled());
                let mut stopped = pin!(waiting.changed());
                poll_fn(|cx| {
                    // What has arrived is read before anything else: whoever has spoken keeps its place.
                    if let Poll::Ready(end) = fast.as_mut().poll(cx) {
                        return Poll::Ready(end);
                    }
                    // Nobody else is waited for by who is being answered, and when he is, this goes on.
                    if progress.is_answering() {
                        return Poll::Pending;
                    }
                    let is_stopping = has_changed(&stop) || stopped.as_mut().poll(cx).is_ready();
                    if is_stopping && !progress.is_busy() {
                        return Poll::Ready(End::Closed);
                    }
                    stalled.as_mut().poll(cx).map(|()| End::Closed)
                })
                .await
            };
            // Boxed, so that the many that never come here do not hold room for it.
            match end {
                End::Closed => {}
                End::Upgraded(upgrade, leaving) => {
                    drop(stop);
                    Box::pin(S::take_over(upgrade, leaving)).await;
                }
                End::Other(socket, pass) => {
                    Box::pin(self.serve_with_hyper(socket, progress, pass, stop)).await;
                }
            }
        }
    }

    async fn serve_with_hyper(
        self,
        socket: Socket,
        progress: Arc<Progress>,
        pass: SocketPass,
        mut stop: watch::Receiver<()>,
    ) {
        let Self { service, entry, arrival, requests } = self;
        let pass = Arc::new(pass);
        let speaks = pass.clone();
        let watched = progress.clone();
        let unread = Unread::default();
        // A stream has been answered when its client has taken the end of it, which is behind the end of its body.
        let streaming = &OnceLock::new();
        // Of the last answer, until another request shows that it has left.
        let receipt = &Mutex::new(None::<Box<Receipt>>);
        let answer = service_fn(move |request| {
            let service = service.clone();
            let progress = progress.clone();
            let under_way = requests.subscribe();
            speaks.has_spoken();
            // Before anything of its body is read.
            progress.begin();
            let request = unread.watch(request);
            if let Some(receipt) = &mut *receipt.lock() {
                receipt.written();
            }
            let peer = arrival.peer(request.headers(), entry.trusted_proxies.as_ref());
            let unread = unread.clone();
            let may_leave =
                request.headers().get_all(UPGRADE).iter().any(|line| http::may_leave(line.as_bytes()));
            async move {
                let refusal = refusal_of(&request, may_leave);
                let is_refused = refusal.is_some();
                let mut response = match refusal {
                    None => service.serve(request, peer).await,
                    Some(refusal) => {
                        drop(request);
                        refusal
                    }
                };
                // Nobody looked at what the client of one that may leave sent behind it.
                if is_refused || may_leave && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    end_behind(&mut response);
                }
                // What is refused is so at once: its body may never come.
                if is_refused {
                    unread.give_up();
                } else {
                    unread.discard().await;
                }
                *receipt.lock() = response.body_mut().take_receipt();
                if response.body().is_stream() {
                    progress.stream();
                    _ = streaming.set(under_way);
                } else {
                    let bytes = response.body().size_hint().exact();
                    progress.end(bytes.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)));
                    drop(under_way);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .max_headers(HTTP_HEADERS_MAX)
            .max_buf_size(HTTP_HEADER_BYTES_MAX)
            // Most answers have a few hundred bytes: copying them behind their head is cheaper than a vectored write.
            .writev(false)
            // Whoever comes here after the stop is answered once.
            .keep_alive(!has_changed(&stop))
            .serve_connection(TokioIo::new(socket), answer)
            .with_upgrades();
        let mut connection = pin!(connection);
        // A client that has all of its answer is not gone because it asks for nothing else.
        let rested = || {
            let has_left = watched.has_left();
            receipt.lock().iter_mut().filter(|_| has_left).for_each(|receipt| receipt.written());
        };
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = watched.stalled() => return rested(),
            () = pass.evicted() => {
                rested();
                let error = make_room();
                debug!(%error, "a connection did not begin as it must");
                return;
            }
            _ = stop.changed() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = watched.stalled() => return rested(),
                }
            }
        };
        rested();
        if let Err(error) = ended {
            count_refused(&error);
            debug!(%error, "an HTTP connection broke");
        }
    }
}

impl Rests for Progress {
    fn rests_for(&self) -> Option<Duration> {
        self.rests_for()
    }

    fn end_rest(&self, reason: RestEnded) -> bool {
        self.end_rest(reason)
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving()
    }
}

/// Refuses, and counts, what two readers could take for requests to two hosts (RFC 9112 §3.2), what wants to leave HTTP before it has arrived as
/// a whole (RFC 9110 §7.8), and what asks at too great length. No other request is read behind it.
fn refusal_of(request: &Request, may_leave: bool) -> Option<Response> {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let has_several_hosts = request.headers().get_all(HOST).iter().nth(1).is_some();
    // With other methods nobody leaves, whatever a proxy writes into all that it passes on.
    let leaves_early = may_leave && request.method() == Method::GET && !request.body().is_end_stream();
    let (refused, status) = if has_several_hosts || leaves_early {
        (HttpRefused::Malformed, StatusCode::BAD_REQUEST)
    } else if target.len() > HTTP_TARGET_BYTES_MAX {
        (HttpRefused::TooLarge, StatusCode::URI_TOO_LONG)
    } else {
        return None;
    };
    refused.count();
    Some(http::empty(status))
}

/// No other request is read from the connection. What else it says there, such as that `Upgrade` is for the next one, stays (RFC 9110 §7.8).
fn end_behind(response: &mut Response) {
    response.headers_mut().append(CONNECTION, HeaderValue::from_static("close"));
}

/// Counts what was refused before it was a request; what is wrong with a body is found in `Received`. Such a connection was told
/// why, as far as it speaks HTTP/1.
fn count_refused(error: &hyper::Error) {
    if error.is_parse_too_large() {
        HttpRefused::TooLarge.count();
    } else if error.is_parse_version_h2() {
        HttpRefused::Http2.count();
    } else if error.is_parse() {
        HttpRefused::Malformed.count();
    }
}
