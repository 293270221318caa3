//! What polling and WebSocket say to pages of other origins.

use crate::config::origins::Origins;
use crate::http::Headers;
use crate::origin::{self, NoOrigin, Origin};
use channelapi_protocol::engineio::RequestError;

/// Whether a request may connect, or what Engine.IO calls the reason why not.
pub(super) fn admit(allowed: &Origins, headers: &impl Headers) -> Result<Origin, RequestError> {
    origin::admit(allowed, headers).map_err(|no_origin| match no_origin {
        NoOrigin::Unclear => RequestError::BadRequest,
        NoOrigin::Foreign => RequestError::Forbidden,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderMap, HeaderValue, ORIGIN};

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
