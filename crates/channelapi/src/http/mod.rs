//! What all HTTP is made of here: the socket under a connection, who is at its other end, requests, answers, and reading a body.

mod body;
mod peer;
mod socket;

pub(crate) use body::Body;
pub(crate) use peer::Peer;
pub(crate) use socket::Socket;

use crate::metrics::HttpTimeout;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue, RETRY_AFTER};

/// A request as it comes from the network.
pub(crate) type Request = hyper::Request<Incoming>;

/// An answer.
pub(crate) type Response = hyper::Response<Body>;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

/// As many headers as our answers have.
const HEADERS_ABOUT: usize = 6;

/// An answer that no cache may keep.
pub(crate) fn fresh(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS_ABOUT);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// JSON.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    fresh(status, "application/json; charset=UTF-8", body)
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
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    use hyper::body::Body as _;
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let reading = Limited::new(body, limit).collect();
    let timeout = channelapi_core::limits::HTTP_BODY_TIMEOUT;
    match tokio::time::timeout(timeout, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => {
            HttpTimeout::Body.count();
            Err(BodyError::TooSlow)
        }
    }
}

/// Says no to a request that comes with a body. Closed with a part of it unread, a connection would take the answer with it; a client
/// that asks before it sends a body needs no such care.
pub(crate) async fn refuse_body(headers: &HeaderMap, body: Incoming, limit: usize) {
    if !headers.contains_key(EXPECT) {
        discard_body(body, limit).await;
    }
}

/// Reads up to `limit` bytes of a body that nobody wants, for a moment.
async fn discard_body(mut body: Incoming, limit: usize) {
    let reading = async {
        let mut left = limit;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    _ = tokio::time::timeout(channelapi_core::limits::HTTP_DISCARD_TIMEOUT, reading).await;
}
