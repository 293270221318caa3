//! What all HTTP is made of here: the socket under a connection, who is at its other end, requests, answers, and reading a body.

mod answer;
mod attempt;
mod body;
mod head;
mod headers;
mod heads;
mod peer;
mod receipt;
mod received;
mod socket;
mod untaken;

pub(crate) use answer::{Answer, Answering, Wire, to_wire};
pub(crate) use attempt::Attempt;
pub(crate) use body::Body;
pub(crate) use head::{Head, Parsed, headers_room};
pub(crate) use headers::{Headers, as_text};
pub(crate) use heads::may_leave;
pub(crate) use peer::Peer;
pub(crate) use receipt::{Concerned, Receipt};
pub(crate) use received::{Received, Unread};
pub(crate) use socket::{Progress, Socket, upgraded};
pub(crate) use untaken::UntakenAnswers;

use crate::metrics::HttpTimeout;
use crate::receiving::{NoRoom, ReceivingFrom, Sender};
use bytes::Bytes;
use channelapi_core::limits::{HTTP_BODY_RATE_MIN, HTTP_BODY_TIMEOUT, HTTP_DISCARD_TIMEOUT};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::Body as HttpBody;
use hyper::header::{EXPECT, HeaderMap, HeaderValue, RETRY_AFTER};
use std::error::Error;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A request as it comes from the network. Boxed, because it goes through many hands, and each of their futures has room for it.
pub(crate) type Request = Box<hyper::Request<Received>>;

/// An answer.
pub(crate) type Response = hyper::Response<Body>;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

/// An answer that no cache may keep.
pub(crate) fn fresh(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    Answer::fresh(status, content_type, body).into()
}

/// What JSON is called outside of version 1 of the API.
pub(crate) const JSON: &str = "application/json; charset=UTF-8";

/// JSON.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    fresh(status, JSON, body)
}

/// An answer to somebody who is welcome after so many seconds.
pub(crate) fn try_later(status: StatusCode, message: &str, seconds: &'static str) -> Response {
    let mut response = json(status, format!(r#"{{"success": false, "message": "{message}"}}"#));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    response
}

/// Why a request's body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is larger than allowed. Known from its announced length, before a byte of it was read, if it has one.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// The connection broke.
    Broken,
    /// Too much is held of other bodies that have not arrived.
    NoRoom,
}

/// Reads a body of at most `limit` bytes. It must arrive in time: what has arrived buys time for the rest.
pub(crate) async fn read_body<B>(body: B, limit: usize, sender: Sender) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let began = Instant::now();
    let received = AtomicU64::new(0);
    let mut reading = pin!(take_whole(Limited::new(body, limit), sender.receive(), &received));
    loop {
        let due = body_due(began, received.load(Ordering::Relaxed));
        match timeout_at(due, reading.as_mut()).await {
            Ok(taken) => return taken,
            // More has arrived meanwhile.
            Err(_) if body_due(began, received.load(Ordering::Relaxed)) > due => {}
            Err(_) => {
                HttpTimeout::Body.count();
                return Err(BodyError::TooSlow);
            }
        }
    }
}

/// Takes all of a body, and notes how much has arrived.
async fn take_whole<B>(
    body: Limited<B>,
    mut receiving: ReceivingFrom,
    received: &AtomicU64,
) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let mut body = pin!(body);
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() { BodyError::TooLarge } else { BodyError::Broken }
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
        // What is here as a whole waits for nothing.
        if body.is_end_stream() {
            break;
        }
        let here = first.len().max(rest.len());
        received.store(here as u64, Ordering::Relaxed);
        receiving.hold(here.max(rest.capacity())).map_err(|NoRoom| BodyError::NoRoom)?;
    }
    Ok(if rest.is_empty() { first } else { rest.into() })
}

/// When the rest of a body must be here, of which so many bytes are.
fn body_due(began: Instant, received: u64) -> Instant {
    began + HTTP_BODY_TIMEOUT + Duration::from_millis(received * 1000 / HTTP_BODY_RATE_MIN)
}

/// Says no to a request that comes with a body. Closed with a part of it unread, a connection would take the answer with it; a client
/// that asks before it sends a body needs no such care.
pub(crate) async fn refuse_body(headers: &HeaderMap, body: Received, limit: usize) {
    if !headers.contains_key(EXPECT) {
        discard_body(body, limit).await;
    }
}

/// What became of a body that nobody wants.
enum Discarded {
    /// It was read to its end, or broke off.
    Over,
    /// There is more of it than is read.
    TooLarge,
    /// Its rest did not arrive at once.
    TooSlow,
}

/// Reads up to `limit` bytes of a body that nobody wants, for a moment.
async fn discard_body(mut body: Received, limit: usize) -> Discarded {
    let reading = async {
        let mut left = limit;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return Discarded::TooLarge,
            }
        }
        Discarded::Over
    };
    tokio::time::timeout(HTTP_DISCARD_TIMEOUT, reading).await.unwrap_or(Discarded::TooSlow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};
    use tokio::time::Interval;

    /// Pieces of a body, one each second.
    struct Dripping {
        pieces: usize,
        piece: usize,
        drops: Interval,
    }

    impl HttpBody for Dripping {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.pieces == 0 {
                return Poll::Ready(None);
            }
            ready!(self.drops.poll_tick(cx));
            self.pieces -= 1;
            Poll::Ready(Some(Ok(Frame::data(vec![b'x'; self.piece].into()))))
        }
    }

    /// What becomes of a body in such pieces, and after how many seconds.
    async fn read(pieces: usize, piece: usize) -> (Result<usize, BodyError>, u64) {
        let began = Instant::now();
        let drops = tokio::time::interval(Duration::from_secs(1));
        let read = read_body(Dripping { pieces, piece, drops }, 1 << 20, Sender::Stranger).await;
        (read.map(|body| body.len()), began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_arrives_has_time_and_one_that_trickles_in_has_none() {
        assert_eq!(read(64, 16 << 10).await, (Ok(1 << 20), 63), "a slow line");
        assert_eq!(read(1000, 1).await, (Err(BodyError::TooSlow), 10), "a byte each second");
        assert_eq!(read(1000, 8 << 10).await, (Err(BodyError::TooSlow), 20), "half of what it must be");
        assert_eq!(read(65, 16 << 10).await.0, Err(BodyError::TooLarge));
    }
}
