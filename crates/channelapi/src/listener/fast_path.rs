//! The short way for requests with an answer that is known as a whole: publications, which are made all the time, the openings of
//! WebSockets, polls, and whatever else is brief.
//!
//! A request takes it if it is here as a whole with nothing behind it, and its head can be understood in one way only. At the first one
//! that does not, the connection is hyper's, with everything that was read.
//!
//! Invariants:
//! - Nothing is refused here. What is no plain request is hyper's; what is wrong with one is found behind [`Service::serve`], the same as
//!   for hyper.
//! - A connection that idles, or waits for an answer, has no buffer.

use super::entry::make_room;
use super::service::{Leaving, Pace, Service};
use super::serving::{Serving, has_changed};
use crate::admission::SocketPass;
use crate::http::{
    Head, Headers as _, Parsed, Peer, Progress, Received, Request, Response, Socket, Wire, headers_room,
    to_wire,
};
use crate::receiving::{NoRoom, Receiving};
use crate::stream::with_read_buffer;
use bytes::Bytes;
use channelapi_core::limits::HTTP_HEADER_BYTES_MAX;
use hyper::header::UPGRADE;
use std::cmp;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tracing::debug;

/// How long a request may take to arrive here. The rest of its time, it is waited for by hyper.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of the bodies that are waited for here.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// In how many pieces a request may arrive. With each it is read again from its beginning.
const PIECES_MAX: usize = 16;

/// A connection on the fast path.
pub(super) struct FastPath<'a, S> {
    reader: Reader<'a, S>,
    progress: &'a Progress,
    pass: SocketPass,
}

/// What becomes of a connection.
pub(super) enum End<U> {
    /// Nothing.
    Closed,
    /// It is hyper's.
    Other(Socket, SocketPass),
    /// It leaves HTTP.
    Upgraded(U, Leaving),
}

impl<'a, S: Service> FastPath<'a, S> {
    pub(super) fn new(
        serving: &'a Serving<S>,
        socket: Socket,
        progress: &'a Progress,
        pass: SocketPass,
    ) -> Self {
        Self {
            reader: Reader { serving, socket, begun: Vec::new(), receiving: Receiving::default() },
            progress,
            pass,
        }
    }

    /// Answers requests until one comes that is not for us. Once `stop` has changed, an answer is the last.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, in every connection")]
    pub(super) fn run(
        mut self,
        stop: &'a watch::Receiver<()>,
    ) -> impl Future<Output = End<S::Upgrade>> + Send + 'a {
        async move {
            let mut read = self.read_first().await;
            loop {
                match read {
                    Read::Part => {
                        self.pass.begin();
                        read = self.read_rest().await;
                        continue;
                    }
                    Read::Whole(asked, is_last) => {
                        if self.serve(asked, is_last, stop).await.is_err() {
                            return End::Closed;
                        }
                        if !self.reader.begun.is_empty() {
                            return self.other();
                        }
                    }
                    Read::Leaving(upgrade, answer, sent) => {
                        self.pass.has_spoken();
                        let (stream, _) = self.reader.socket.into_stream();
                        return End::Upgraded(upgrade, Leaving { stream, answer, sent });
                    }
                    Read::Refused(response) => {
                        self.pass.has_spoken();
                        // Only a stream is no bytes yet, and none answers such a request.
                        if let Some(answer) = to_wire(*response, true) {
                            // Whoever hears no refusal is gone. Boxed, because every connection would have room for it.
                            _ = Box::pin(self.answer_last(&answer)).await;
                        }
                        return End::Closed;
                    }
                    Read::Other => {
                        self.pass.begin();
                        return self.other();
                    }
                    Read::End => return End::Closed,
                }
                read = self.reader.read().await;
            }
        }
    }

    fn other(self) -> End<S::Upgrade> {
        let Reader { mut socket, begun, .. } = self.reader;
        socket.hand_over(begun);
        End::Other(socket, self.pass)
    }

    /// Answers a request. Fails when the connection ends with it.
    async fn serve(&mut self, asked: Asked<S>, is_last: bool, stop: &watch::Receiver<()>) -> io::Result<()> {
        let Serving { service, requests, .. } = self.reader.serving;
        let under_way = requests.subscribe();
        self.pass.has_spoken();
        self.progress.begin();
        let is_last = || is_last || has_changed(stop);
        let mut receipt = None;
        let wire = match asked {
            Asked::Call(call) => {
                let answer = service.call(call).await;
                Some(answer.into_wire(is_last()))
            }
            Asked::Request(request, peer, pace) => {
                let mut serving = Box::pin(service.clone().serve(request, peer));
                let response = poll_fn(|cx| match serving.as_mut().poll(cx) {
                    Poll::Ready(response) => Poll::Ready(Some(response)),
                    Poll::Pending if pace == Pace::Held => self.reader.poll_gone(cx).map(|()| None),
                    Poll::Pending => Poll::Pending,
                });
                let mut response = response.await.ok_or(io::ErrorKind::ConnectionAborted)?;
                receipt = response.body_mut().take_receipt();
                to_wire(response, is_last())
            }
        };
        // What is brief is known as a whole.
        let wire = wire.ok_or(io::ErrorKind::Unsupported)?;
        let is_last = is_last();
        // A stop waits for what is done, and only a moment for who takes the answer.
        drop(under_way);
        self.answer(&wire).await?;
        if let Some(receipt) = &mut receipt {
            receipt.written();
        }
        if is_last {
            self.reader.socket.shutdown().await?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// The same, and ends our side behind it.
    async fn answer_last(&mut self, wire: &Wire) -> io::Result<()> {
        self.answer(wire).await?;
        self.reader.socket.shutdown().await
    }

    /// Writes an answer, for as long as its client takes it.
    async fn answer(&mut self, wire: &Wire) -> io::Result<()> {
        self.progress.end(wire.len());
        match wire.as_one() {
            Some(bytes) => self.reader.socket.write_all(bytes).await?,
            // Boxed, because every connection would have room for it.
            None => Box::pin(wire.write_to(&mut self.reader.socket)).await?,
        }
        self.reader.socket.flush().await
    }

    /// Reads for the first time. Whoever says nothing may have to make room for others.
    async fn read_first(&mut self) -> Read<S> {
        let Self { reader, pass, .. } = self;
        tokio::select! {
            biased;
            read = reader.read() => return read,
            () = pass.evicted() => {}
        }
        if pass.has_begun() || !reader.socket.has_arrived() {
            return made_room();
        }
        // Its first byte is here, although nobody was told yet.
        reader.read().await
    }

    /// Reads on for a moment, in which most requests arrive that come in pieces.
    async fn read_rest(&mut self) -> Read<S> {
        let Self { reader, pass, .. } = self;
        let whole = async {
            for _ in 0..PIECES_MAX {
                match reader.read().await {
                    Read::Part => {}
                    read => return read,
                }
            }
            Read::Other
        };
        tokio::select! {
            biased;
            read = whole => read,
            () = tokio::time::sleep(ARRIVAL_TIMEOUT) => Read::Other,
            () = pass.evicted() => made_room(),
        }
    }
}

fn made_room<S: Service>() -> Read<S> {
    let error = make_room();
    debug!(%error, "a connection did not begin as it must");
    Read::End
}

/// Reads requests.
struct Reader<'a, S> {
    serving: &'a Serving<S>,
    socket: Socket,
    /// What has arrived of a request that is not here as a whole, or not for us.
    begun: Vec<u8>,
    receiving: Receiving,
}

/// A request.
enum Asked<S: Service> {
    /// It was recognized.
    Call(S::Call),
    /// Another one, who sent it, and when it is answered.
    Request(Request, Peer, Pace),
}

/// What was read.
enum Read<S: Service> {
    /// A request that is here as a whole, and whether it is the last.
    Whole(Asked<S>, bool),
    /// A request to leave HTTP that is granted, with the bytes of the answer, and what came behind it.
    Leaving(S::Upgrade, Vec<u8>, Vec<u8>),
    /// One that is not, with its answer. Nothing is read behind it: a proxy may believe that the client left HTTP, and let through whatever
    /// it sends.
    Refused(Box<Response>),
    /// What may be a part of a request. It is in [`Reader::begun`].
    Part,
    /// What is not for us. It is in [`Reader::begun`].
    Other,
    /// Nothing: the client has gone.
    End,
}

impl<S: Service> Reader<'_, S> {
    async fn read(&mut self) -> Read<S> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read<S>> {
        with_read_buffer(|buffer| {
            let mut unread = ReadBuf::new(buffer);
            let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut unread));
            let bytes = unread.filled();
            if read.is_err() || bytes.is_empty() {
                // What a client began and gave up may mean something to whoever it was for.
                return Poll::Ready(if self.begun.is_empty() { Read::End } else { Read::Other });
            }
            if !self.begun.is_empty() {
                self.begun.extend_from_slice(bytes);
                let begun = std::mem::take(&mut self.begun);
                let read = self.recognize(&begun);
                return Poll::Ready(self.keep(read, begun));
            }
            let read = self.recognize(bytes);
            let is_kept = matches!(read, Read::Part | Read::Other);
            Poll::Ready(if is_kept { self.keep(read, bytes.to_vec()) } else { read })
        })
    }

    /// Keeps what has arrived of a request that is not here as a whole, or not for us. Where there is no room to wait for the rest of a large
    /// one, it is not for us.
    fn keep(&mut self, read: Read<S>, begun: Vec<u8>) -> Read<S> {
        let is_kept = matches!(read, Read::Part | Read::Other);
        let is_part = matches!(read, Read::Part);
        let held = self.receiving.hold(if is_part { begun.capacity() } else { 0 });
        if is_kept {
            self.begun = begun;
        }
        if is_part && held == Err(NoRoom) { Read::Other } else { read }
    }

    /// Ready when the client has gone. What it sends meanwhile is in [`Reader::begun`]; of somebody who sends more than a head, or
    /// more than there is room for, we do not learn it.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        with_read_buffer(|buffer| {
            while let room @ 1.. = HTTP_HEADER_BYTES_MAX.saturating_sub(self.begun.len()) {
                let room = room.min(buffer.len());
                let mut unread = ReadBuf::new(&mut buffer[..room]);
                let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut unread));
                if read.is_err() || unread.filled().is_empty() {
                    return Poll::Ready(());
                }
                self.begun.extend_from_slice(unread.filled());
                if self.receiving.hold(self.begun.capacity()) == Err(NoRoom) {
                    break;
                }
            }
            Poll::Pending
        })
    }

    /// What a request is that is here as a whole.
    fn whole(&self, head: Head<'_>, body: &[u8], pace: Pace) -> Read<S> {
        let Serving { service, entry, arrival, .. } = self.serving;
        if head.method == "POST"
            && let Some(call) = service.recognize(&head, body)
        {
            return Read::Whole(Asked::Call(call), head.is_last);
        }
        let peer = arrival.peer(&head, entry.trusted_proxies.as_ref());
        let Some(request) = head.to_request() else { return Read::Other };
        let request = request.map(|()| Received::whole(Bytes::copy_from_slice(body)));
        Read::Whole(Asked::Request(Box::new(request), peer, pace), head.is_last)
    }

    /// What the bytes are that have arrived.
    fn recognize(&self, bytes: &[u8]) -> Read<S> {
        let Serving { service, entry, arrival, .. } = self.serving;
        let mut room = headers_room();
        let head = match Head::parse(bytes, &mut room) {
            Parsed::Head(head) if head.bytes <= HTTP_HEADER_BYTES_MAX => head,
            Parsed::Partial if bytes.len() < HTTP_HEADER_BYTES_MAX => return Read::Part,
            Parsed::Head(_) | Parsed::Partial | Parsed::Other => return Read::Other,
        };
        let behind = &bytes[head.bytes..];
        let is_upgrade = head.has(&UPGRADE);
        match head.method {
            "GET" if is_upgrade && head.body_bytes == 0 && !head.is_last => {
                let peer = arrival.peer(&head, entry.trusted_proxies.as_ref());
                let Some((response, upgrade)) = service.upgrade(&head, peer) else { return Read::Other };
                let Some(upgrade) = upgrade else { return Read::Refused(Box::new(response)) };
                // Only a stream has no bytes yet, and none answers such a request.
                let Some(answer) = to_wire(response, false) else { return Read::End };
                Read::Leaving(upgrade, answer.into_vec(), behind.to_vec())
            }
            "GET" | "POST" | "PUT" | "DELETE" if !is_upgrade => {
                match (service.pace(head.path), behind.len().cmp(&head.body_bytes)) {
                    (pace @ (Pace::Brief | Pace::Held), cmp::Ordering::Equal) => {
                        self.whole(head, behind, pace)
                    }
                    // Of a held one hyper says at once that it has begun: two of them may exclude each other.
                    (Pace::Brief, cmp::Ordering::Less) if head.body_bytes <= BODY_BYTES_MAX => Read::Part,
                    _ => Read::Other,
                }
            }
            _ => Read::Other,
        }
    }
}
