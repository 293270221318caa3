//! The socket under an HTTP connection, and the deadlines of a client that says nothing.
//!
//! hyper has one deadline for both the head of a request and the silence before it. A head that trickles in is an attack and
//! gets little time; a publisher that keeps its connection for the next publication is welcome to.

use super::heads::Heads;
use super::untaken::Untaken;
use crate::metrics::{HttpRefused, HttpTimeout, InvariantViolated, RestEnded};
use crate::stream::Stream;
use crate::waiting::Owner;
use bytes::Bytes;
use channelapi_core::limits::{
    HTTP_HEADER_TIMEOUT, HTTP_IDLE_TIMEOUT, HTTP_WRITE_RATE_MIN, HTTP_WRITE_TIMEOUT, STREAM_STALL_TIMEOUT,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tracing::error;

/// A connection that notes when its client speaks.
pub(crate) struct Socket {
    stream: Stream,
    /// What was read of it already, and not understood.
    unread: Bytes,
    /// Of requests that somebody reads who takes some heads for good that could be read in two ways. Boxed, because most connections never
    /// come to that.
    heads: Option<Box<Heads>>,
    /// It was counted what broke the rules of TLS.
    is_broken: bool,
    /// Whose it is.
    owner: Owner,
    progress: Arc<Progress>,
}

/// Where an HTTP connection stands.
#[derive(Debug)]
pub(crate) struct Progress {
    stage: Mutex<Stage>,
    /// Who waits for the end of its rest, or of its patience.
    waiting: Mutex<Option<Waker>>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing has arrived, since then. A new connection must send a head at once.
    New(Instant),
    /// Between two requests, since then; so many bytes of the answer to the first are not sent yet.
    Idle(Instant, usize),
    /// It rested, and is to go in favour of others, unless a request comes first.
    Leaving(RestEnded),
    /// In the head of a request, since then.
    Head(Instant),
    /// An answer waits for a client that does not take it. Boxed, because most connections never come to that.
    Blocked(Box<Blocked>),
    /// A request is being answered; whoever does that has deadlines of its own.
    Busy,
    /// The answer is a stream, of which the client took something then. It is never silent, so who takes nothing is gone.
    Stream(Instant),
}

/// An answer that waits for a client.
#[derive(Debug)]
struct Blocked {
    since: Instant,
    /// Bytes that were taken meanwhile.
    taken: u64,
    answer: Untaken,
}

impl Socket {
    /// Wraps a connection that was just accepted.
    pub(crate) fn new(stream: Stream, owner: Owner) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::at(Stage::New(Instant::now())));
        let socket = Self {
            stream,
            unread: Bytes::new(),
            heads: None,
            is_broken: false,
            owner,
            progress: progress.clone(),
        };
        (socket, progress)
    }

    /// Puts back what was read, for somebody else to read it again, who takes some heads for good that could be read in two ways: it
    /// does not come to that.
    pub(crate) fn hand_over(&mut self, mut bytes: Vec<u8>) {
        debug_assert!(self.unread.is_empty(), "it is read before anything else");
        if !bytes.is_empty() {
            // What is put back is the beginning of a head, and what follows goes on with it.
            self.progress.received();
        }
        self.heads.insert(Box::default()).check(&mut bytes);
        self.unread = bytes.into();
    }

    /// Whether something has arrived, also if nobody was told yet.
    pub(crate) fn has_arrived(&self) -> bool {
        self.stream.has_arrived()
    }

    /// The bare connection, when HTTP is done with it, and what was put back into it.
    pub(crate) fn into_stream(self) -> (Stream, Bytes) {
        (self.stream, self.unread)
    }
}

/// The bare socket of an upgraded request, and what its client sent behind the request. `None` if the client was gone before it was
/// told.
pub(crate) async fn upgraded(upgrade: OnUpgrade) -> Option<(Stream, Bytes)> {
    let upgraded = upgrade.await.ok()?;
    let Ok(parts) = upgraded.downcast::<TokioIo<Socket>>() else {
        error!("an upgraded connection is not the kind of socket that was accepted");
        InvariantViolated::UpgradedSocket.count();
        return None;
    };
    let (stream, unread) = parts.io.into_inner().into_stream();
    let sent = if unread.is_empty() { parts.read_buf } else { [parts.read_buf, unread].concat().into() };
    Some((stream, sent))
}

impl Socket {
    /// Only TLS knows data that are not valid. Whoever reads again learns of it again.
    fn note_broken(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData && !self.is_broken {
            HttpRefused::Tls.count();
            self.is_broken = true;
        }
    }

    fn note(&self, written: Poll<io::Result<usize>>, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.progress.sent(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.progress.blocked(cx, self.owner),
        }
        written
    }
}

impl Progress {
    fn at(stage: Stage) -> Self {
        Self { stage: Mutex::new(stage), waiting: Mutex::default() }
    }

    /// A request has arrived.
    pub(crate) fn begin(&self) {
        *self.stage.lock() = Stage::Busy;
    }

    /// It is answered with so many bytes, more or less, which are to be sent now.
    pub(crate) fn end(&self, bytes: usize) {
        *self.stage.lock() = Stage::Idle(Instant::now(), bytes);
    }

    /// It is answered with a stream.
    pub(crate) fn stream(&self) {
        *self.stage.lock() = Stage::Stream(Instant::now());
    }

    /// Whether a request has begun to arrive, is being answered, or its client has not taken the whole answer yet.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Head(_) | Stage::Busy | Stage::Blocked(_))
    }

    /// Whether the answer before, if there is one, has left as a whole, as far as that is counted.
    pub(crate) fn has_left(&self) -> bool {
        match *self.stage.lock() {
            Stage::Busy | Stage::Blocked(_) => false,
            Stage::Idle(_, left) => left == 0,
            Stage::New(_) | Stage::Leaving(_) | Stage::Head(_) | Stage::Stream(_) => true,
        }
    }

    /// Whether a request is being answered.
    pub(crate) fn is_answering(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Busy)
    }

    /// How long it has rested, if nothing is asked.
    pub(crate) fn rests_for(&self) -> Option<Duration> {
        match *self.stage.lock() {
            Stage::Idle(since, _) => Some(since.elapsed()),
            _ => None,
        }
    }

    /// Ends it if it still rests, and says whether it does. It goes on if a request has arrived when it learns it.
    pub(crate) fn end_rest(&self, reason: RestEnded) -> bool {
        {
            let mut stage = self.stage.lock();
            if !matches!(*stage, Stage::Idle(..)) {
                return false;
            }
            *stage = Stage::Leaving(reason);
        }
        let waiting = self.waiting.lock().take();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        true
    }

    /// Whether it was told to go, and no request has come since.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Leaving(_))
    }

    /// Ready when it is to go in favour of others.
    fn poll_leaving(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting.lock();
        if matches!(*self.stage.lock(), Stage::Leaving(_)) {
            return Poll::Ready(());
        }
        if !waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ready when the client has been silent, or slow with the head of a request, for too long, or rests and must go. Counts it.
    pub(crate) async fn stalled(&self) {
        loop {
            let now = Instant::now();
            let (look_at, timeout) = match &*self.stage.lock() {
                Stage::Leaving(reason) => return reason.count(),
                Stage::Idle(since, _) => (*since + HTTP_IDLE_TIMEOUT, HttpTimeout::Idle),
                Stage::New(since) | Stage::Head(since) => (*since + HTTP_HEADER_TIMEOUT, HttpTimeout::Head),
                Stage::Busy => (now + HTTP_HEADER_TIMEOUT, HttpTimeout::Head),
                Stage::Blocked(blocked) => {
                    let earned = Duration::from_secs(blocked.taken / HTTP_WRITE_RATE_MIN);
                    (blocked.since + HTTP_WRITE_TIMEOUT + earned, HttpTimeout::Answer)
                }
                Stage::Stream(since) => (*since + STREAM_STALL_TIMEOUT, HttpTimeout::Answer),
            };
            if look_at <= now {
                timeout.count();
                return;
            }
            // A head that begins meanwhile is due no earlier than one header timeout from now.
            let mut sleep = pin!(tokio::time::sleep_until(look_at.min(now + HTTP_HEADER_TIMEOUT)));
            poll_fn(
                |cx| if self.poll_leaving(cx).is_ready() { Poll::Ready(()) } else { sleep.as_mut().poll(cx) },
            )
            .await;
        }
    }

    /// Something has arrived.
    fn received(&self) {
        let mut stage = self.stage.lock();
        match *stage {
            Stage::New(since) => *stage = Stage::Head(since),
            Stage::Idle(..) | Stage::Leaving(_) => *stage = Stage::Head(Instant::now()),
            Stage::Head(_) | Stage::Blocked(_) | Stage::Busy | Stage::Stream(_) => {}
        }
    }

    fn sent(&self, bytes: usize) {
        match &mut *self.stage.lock() {
            Stage::Stream(since) => *since = Instant::now(),
            Stage::Blocked(blocked) => {
                blocked.taken += bytes as u64;
                blocked.answer.taken(bytes);
            }
            Stage::Idle(_, left) => *left = left.saturating_sub(bytes),
            Stage::New(_) | Stage::Leaving(_) | Stage::Head(_) | Stage::Busy => {}
        }
    }

    /// The client does not take what is written.
    fn blocked(&self, cx: &Context<'_>, owner: Owner) {
        let mut stage = self.stage.lock();
        if let Stage::Idle(_, left) = *stage {
            let (since, answer) = (Instant::now(), Untaken::new(left, owner));
            *stage = Stage::Blocked(Box::new(Blocked { since, taken: 0, answer }));
        }
        if let Stage::Blocked(blocked) = &*stage {
            blocked.answer.wait(cx);
        }
    }

    /// An error if the answer was given up that waits for its client.
    fn check(&self) -> io::Result<()> {
        match &*self.stage.lock() {
            Stage::Blocked(blocked) => blocked.answer.check(),
            _ => Ok(()),
        }
    }

    /// Everything was taken that was written so far.
    fn flushed(&self) {
        let mut stage = self.stage.lock();
        if let Stage::Blocked(blocked) = &*stage {
            let left = blocked.answer.left();
            *stage = Stage::Idle(Instant::now(), left);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let length = buffer.remaining().min(self.unread.len());
            buffer.put_slice(&self.unread.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        read.inspect_err(|error| self.note_broken(error))?;
        let arrived = &mut buffer.filled_mut()[before..];
        if arrived.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.progress.received();
        if let Some(heads) = &mut self.heads {
            heads.check(arrived);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.progress.check()?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.progress.check()?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match flushed {
            // With TLS, the rest of a record may wait for the client although all was written.
            Poll::Pending => self.progress.blocked(cx, self.owner),
            Poll::Ready(Ok(())) => self.progress.flushed(),
            Poll::Ready(Err(_)) => {}
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;
    use hyper::StatusCode;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use std::convert::Infallible;
    use std::task::Waker;
    use tokio::io::AsyncWriteExt as _;

    async fn stalls_within(progress: &Progress, time: Duration) -> bool {
        tokio::time::timeout(time, progress.stalled()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_requests_is_longer_than_within_a_head() {
        let second = Duration::from_secs(1);
        let almost = |time: Duration| time.saturating_sub(second);
        let progress = Progress::at(Stage::New(Instant::now()));
        assert!(!stalls_within(&progress, almost(HTTP_HEADER_TIMEOUT)).await);
        assert!(stalls_within(&progress, 2 * second).await, "a new connection sends nothing");

        progress.begin();
        assert!(!stalls_within(&progress, 10 * HTTP_IDLE_TIMEOUT).await, "a held poll");
        progress.end(0);
        assert!(!stalls_within(&progress, almost(HTTP_IDLE_TIMEOUT)).await, "a kept connection");
        assert!(!progress.is_busy());
        progress.received();
        progress.received();
        assert!(progress.is_busy(), "a stop waits for the rest of a request");
        assert!(!stalls_within(&progress, almost(HTTP_HEADER_TIMEOUT)).await);
        progress.received();
        assert!(stalls_within(&progress, 2 * second).await, "each byte of a head does not buy time");
        progress.end(0);
        assert!(
            stalls_within(&progress, HTTP_IDLE_TIMEOUT + HTTP_HEADER_TIMEOUT).await,
            "an idle connection"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_rests_goes_when_told_and_whoever_asks_is_answered() {
        let counted = || metrics::counted("channelapi_http_rests_ended_total{reason=\"address\"}");
        let (before, second) = (counted(), Duration::from_secs(1));
        let progress = Progress::at(Stage::Busy);
        assert!(progress.rests_for().is_none() && !progress.end_rest(RestEnded::Address));
        progress.end(0);
        tokio::time::advance(second).await;
        assert_eq!(progress.rests_for(), Some(second));
        let (told, _) = tokio::join!(
            async {
                tokio::time::sleep(second).await;
                progress.end_rest(RestEnded::Address)
            },
            tokio::time::timeout(2 * second, progress.stalled()),
        );
        assert!(told && counted() == before + 1, "it need not be looked for");
        assert!(progress.is_leaving());
        progress.received();
        assert!(
            progress.is_busy() && !progress.is_leaving() && !stalls_within(&progress, second).await,
            "its request came before"
        );
        assert_eq!(counted(), before + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_whoever_takes_some_of_it() {
        let second = Duration::from_secs(1);
        let progress = Progress::at(Stage::Idle(Instant::now(), 0));
        assert!(!progress.is_busy());
        progress.blocked(&Context::from_waker(Waker::noop()), Owner::NOBODY);
        assert!(progress.is_busy(), "a stop must not cut the answer off");
        assert!(!stalls_within(&progress, HTTP_WRITE_TIMEOUT.saturating_sub(second)).await);
        progress.sent(10 * usize::try_from(HTTP_WRITE_RATE_MIN).unwrap());
        progress.blocked(&Context::from_waker(Waker::noop()), Owner::NOBODY);
        assert!(
            !stalls_within(&progress, 10 * second).await,
            "it has taken its time, and ten seconds' worth"
        );
        assert!(
            stalls_within(&progress, 2 * second + HTTP_HEADER_TIMEOUT).await,
            "one byte at a time is not enough"
        );
        progress.flushed();
        assert!(!progress.is_busy());
        assert!(!stalls_within(&progress, HTTP_IDLE_TIMEOUT.saturating_sub(second)).await);
    }

    /// No client can do this: the socket under a connection of ours is always a [`Socket`].
    #[tokio::test]
    async fn an_upgraded_connection_that_is_no_socket_of_ours_is_counted() {
        let counted =
            || metrics::counted("channelapi_invariant_violations_total{invariant=\"upgraded_socket\"}");
        let before = counted();
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
        let (told, outcome) = tokio::sync::oneshot::channel();
        let told = Mutex::new(Some(told));
        let answer = service_fn(|mut request| {
            let (told, upgrade) = (told.lock().take().unwrap(), hyper::upgrade::on(&mut request));
            tokio::spawn(async move { told.send(upgraded(upgrade).await.is_some()) });
            let mut response = hyper::Response::new(String::new());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            async { Ok::<_, Infallible>(response) }
        });
        http1::Builder::new().serve_connection(TokioIo::new(server), answer).with_upgrades().await.unwrap();
        assert!(!outcome.await.unwrap());
        assert_eq!(counted(), before + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_lasts_as_long_as_somebody_takes_it() {
        let second = Duration::from_secs(1);
        let progress = Progress::at(Stage::Busy);
        progress.stream();
        for _ in 0..3 {
            assert!(!stalls_within(&progress, STREAM_STALL_TIMEOUT.saturating_sub(second)).await);
            progress.sent(1);
        }
        assert!(stalls_within(&progress, STREAM_STALL_TIMEOUT + second).await);
    }
}
