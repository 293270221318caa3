//! Who may publish: the bearer of the API key.

use crate::config::secret::Secret;
use crate::metrics::RequestRefused;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

/// Whether a request carries the key, raw as in the seed contract or behind `Bearer`.
pub(crate) fn is_authorized(headers: &HeaderMap, key: &Secret) -> bool {
    let Some(presented) = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes) else {
        return false;
    };
    // Both are compared, whatever the first says: the time taken tells nothing about either.
    key.matches(presented) | key.matches(bearer(presented).unwrap_or_default())
}

/// Whether a request carries the key in any of the places where version 1 of the API takes it.
pub(crate) fn is_authorized_v1(headers: &HeaderMap, key: &Secret) -> bool {
    let presented = headers.get(API_KEY).map(HeaderValue::as_bytes);
    is_authorized(headers, key) | key.matches(presented.unwrap_or_default())
}

/// Counts a request that carries no key that is good.
pub(crate) fn count_refused(headers: &HeaderMap) {
    let has_key = headers.contains_key(AUTHORIZATION) || headers.contains_key(API_KEY);
    if has_key { RequestRefused::WrongKey.count() } else { RequestRefused::NoKey.count() }
}

/// The header that many HTTP clients have a field for.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What stands behind `Bearer`, whose case does not matter (RFC 9110 §11.1).
fn bearer(presented: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = presented.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_taken_raw_and_as_bearer() {
        let key = Secret::new("a-key-of-sixteen-bytes");
        let check = |value: &'static str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(is_authorized(&headers, &key), expected, "{value}");
        };
        check("a-key-of-sixteen-bytes", true);
        check("Bearer a-key-of-sixteen-bytes", true);
        check("bearer a-key-of-sixteen-bytes", true);
        check("Bearer", false);
        check("Bearer ", false);
        check("", false);
        check("a-key-of-sixteen-byteS", false);
        check("Basic a-key-of-sixteen-bytes", false);
        check("Bearer Bearer a-key-of-sixteen-bytes", false);
        assert!(!is_authorized(&HeaderMap::new(), &key));
    }

    #[test]
    fn version_1_takes_it_in_a_header_of_its_own_too() {
        let key = Secret::new("a-key-of-sixteen-bytes");
        let check = |name: HeaderName, value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert_eq!(is_authorized_v1(&headers, &key), expected, "{value}");
        };
        check(API_KEY, "a-key-of-sixteen-bytes", true);
        check(AUTHORIZATION, "Bearer a-key-of-sixteen-bytes", true);
        check(API_KEY, "Bearer a-key-of-sixteen-bytes", false);
        check(API_KEY, "", false);
        check(AUTHORIZATION, "", false);
        assert!(!is_authorized_v1(&HeaderMap::new(), &key));
    }
}
