//! How whoever wants a stream hears that there is none.
//!
//! An `EventSource` comes back by itself, with the place where it was, when a stream ends or a connection breaks. Any status but 200
//! ends it for good (WHATWG HTML, "Server-sent events"), and its page hears nothing any more. So what passes by itself is no status
//! for it: it gets a stream without anything on it.

use super::super::super::sse;
use super::super::problem::Problem;
use super::{EVENT_STREAM, Streams, permission};
use crate::http::{self, Headers as _, Response};
use crate::spread::about;
use channelapi_core::limits::STREAM_RETRY;
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

impl Streams {
    /// The answer to a request for a stream that is refused. Counts it.
    pub(in super::super) fn refusal(
        &self,
        problem: Problem,
        headers: &HeaderMap,
        request_id: &HeaderValue,
    ) -> Response {
        // A page that may not read the answer cannot tell it from any other: a token that is over, say, from a lost network.
        let permission = permission(&self.origins.load(), headers).ok();
        let mut response =
            if problem.retry_after().is_some() && is_event_source(headers) && permission.is_some() {
                problem.count();
                come_again()
            } else {
                problem.answer(request_id).into()
            };
        if let Some(permission) = permission {
            permission.allow(response.headers_mut());
        }
        response
    }
}

/// A stream that says when to ask again, and ends. Many are refused at once, by a server that stops for one, and come again at other times.
fn come_again() -> Response {
    http::fresh(StatusCode::OK, EVENT_STREAM, sse::retry(about(STREAM_RETRY)))
}

/// Whether somebody asks who wants events and nothing else, as browsers do. Whoever takes anything can read a problem, too.
fn is_event_source(headers: &HeaderMap) -> bool {
    let named = |range: &[u8]| {
        let name = range.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(EVENT_STREAM.as_bytes())
    };
    headers.all(&ACCEPT).any(|value| value.split(|byte| *byte == b',').any(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_event_streams_is_known_by_that() {
        let check = |accept: &'static str, expected| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(is_event_source(&headers), expected, "{accept}");
        };
        check("text/event-stream", true);
        check("application/json, Text/Event-Stream;q=0.9", true);
        check("*/*", false);
        check("text/*", false);
        check("text/event-streams", false);
        assert!(!is_event_source(&HeaderMap::new()));
    }
}
