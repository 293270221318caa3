//! The body of a request: read as a whole where there is one, and not there where none means anything.

use super::fields::{self, Fields};
use super::problem::{Code, Problem};
use crate::http::{self, BodyError, Received};
use crate::receiving::Sender;
use bytes::Bytes;
use channelapi_core::limits::{API_BODY_BYTES_MAX, API_DISCARD_BYTES_MAX};
use hyper::body::Body as _;
use hyper::header::HeaderMap;

/// A body as a whole.
pub(super) async fn read(headers: &HeaderMap, body: Received, sender: Sender) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(Code::TooLarge, format!("The body is larger than {API_BODY_BYTES_MAX} bytes."));
    if body.size_hint().lower() > API_BODY_BYTES_MAX as u64 {
        http::refuse_body(headers, body, API_DISCARD_BYTES_MAX).await;
        return Err(too_large());
    }
    http::read_body(body, API_BODY_BYTES_MAX, sender).await.map_err(|error| match error {
        BodyError::TooLarge => too_large(),
        BodyError::TooSlow => Problem::new(Code::BodyTimeout, "The body did not arrive in time."),
        BodyError::Broken => fields::invalid("The body could not be read."),
        BodyError::NoRoom => Problem::new(Code::Overloaded, "Too many large bodies are on their way."),
    })
}

/// Makes sure that a body says nothing: whoever sends something expects that it counts. Empty ones do, and objects without fields, which some
/// clients always send.
pub(super) async fn none(headers: &HeaderMap, body: Received, sender: Sender) -> Result<Bytes, Problem> {
    let body = read(headers, body, sender).await?;
    if !body.trim_ascii().is_empty() {
        Fields::parse(utf8(&body)?)?.finish()?;
    }
    Ok(body)
}

/// The text of a body.
pub(super) fn utf8(body: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|_| fields::invalid("The body is not UTF-8."))
}
