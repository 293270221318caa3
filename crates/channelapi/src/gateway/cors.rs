//! What polling and WebSocket say to pages of other origins.

use crate::config::origins::Origins;
use crate::http::{self, Headers, Response};
use crate::origin::{self, NoOrigin, Origin};
use channelapi_protocol::engineio::RequestError;
use hyper::StatusCode;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap, HeaderValue,
};

/// Whether a request may connect, or what Engine.IO calls the reason why not.
pub(super) fn admit(allowed: &Origins, headers: &impl Headers) -> Result<Origin, RequestError> {
    origin::admit(allowed, headers).map_err(|no_origin| match no_origin {
        NoOrigin::Unclear => RequestError::BadRequest,
        NoOrigin::Foreign => RequestError::Forbidden,
    })
}

/// The answer to a browser that asks before it sends.
pub(super) fn preflight(headers: &HeaderMap) -> Response {
    let mut response = http::empty(StatusCode::NO_CONTENT);
    let allow = response.headers_mut();
    allow.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let wanted = wanted.cloned().unwrap_or(HeaderValue::from_static("content-type"));
    allow.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    allow.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::ORIGIN;

    #[test]
    fn a_page_is_refused_in_the_words_of_engine_io() {
        let allowed = Origins::Only(vec!["https://good.com".to_owned()]);
        let refusal_of = |origin: &'static [u8]| {
            let origin = HeaderValue::from_bytes(origin).unwrap();
            admit(&allowed, &HeaderMap::from_iter([(ORIGIN, origin)])).err()
        };
        assert_eq!(refusal_of(b"https://good.com"), None);
        assert_eq!(refusal_of(b"https://evil.com"), Some(RequestError::Forbidden));
        assert_eq!(refusal_of(b"https://good.com\xFF"), Some(RequestError::BadRequest));
    }
}
