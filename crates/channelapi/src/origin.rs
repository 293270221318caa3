//! Which pages may come in from a browser, at whatever door: polling, WebSocket or event stream.
//!
//! Browsers send no cookie or other credential that we would listen to: a page needs a token, so any page may connect unless
//! the operator names some. A list is exact: scheme, host and port, nothing is guessed from a part of an origin.

use crate::config::origins::Origins;
use crate::http::{self, Headers, Response};
use hyper::StatusCode;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};

/// What an admitted request's answer says about its origin.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Nothing: it is no page of another origin.
    None,
    /// Any page may read this.
    Any,
    /// This page may read this, with its credentials.
    Named(HeaderValue),
}

/// Why a page may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoOrigin {
    /// It sent several origins, or one that is no text.
    Unclear,
    /// Its origin is not among those that may.
    Foreign,
}

/// Whether a request may come in. What is no page of another origin at all sends none, and may.
pub(crate) fn admit(allowed: &Origins, headers: &impl Headers) -> Result<Origin, NoOrigin> {
    let mut origins = headers.all(&ORIGIN);
    let Some(origin) = origins.next() else {
        return Ok(Origin::None);
    };
    // A browser sends one. Of several, whoever stands in front of us may have looked at another one than we would.
    let origin = http::as_text(origin).filter(|_| origins.next().is_none()).ok_or(NoOrigin::Unclear)?;
    match allowed {
        Origins::Any => Ok(Origin::Any),
        Origins::Only(_) if allowed.allows(origin.as_bytes()) => {
            HeaderValue::from_str(origin).map(Origin::Named).map_err(|_| NoOrigin::Unclear)
        }
        Origins::Only(_) => Err(NoOrigin::Foreign),
    }
}

/// The answer to a browser that asks before it sends with these methods: any headers are fine. `usual` are those that it gets to know if
/// it names none. Which origin may read the answer is said by [`Origin::allow`].
pub(crate) fn preflight(headers: &HeaderMap, methods: &'static str, usual: &'static str) -> Response {
    let mut response = http::empty(StatusCode::NO_CONTENT);
    let allow = response.headers_mut();
    allow.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let wanted = wanted.cloned().unwrap_or(HeaderValue::from_static(usual));
    allow.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    allow.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

impl Origin {
    /// Adds the headers that let a browser read the answer.
    pub(crate) fn allow(&self, headers: &mut HeaderMap) {
        match self {
            Self::None => {}
            Self::Any => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Self::Named(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                headers.insert(VARY, HeaderValue::from_static("Origin"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(allowed: &Origins, origin: &[u8]) -> Result<HeaderMap, NoOrigin> {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_bytes(origin).unwrap());
        let mut answer = HeaderMap::new();
        admit(allowed, &headers)?.allow(&mut answer);
        Ok(answer)
    }

    #[test]
    fn a_list_is_exact() {
        let allowed = Origins::Only(vec!["https://good.com".to_owned()]);
        let answer = answer_to(&allowed, b"https://good.com").unwrap();
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://good.com");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        for other in [
            "https://good.com.evil.com",
            "https://evilgood.com",
            "http://good.com",
            "https://good.com:8443",
            "null",
            "https://GOOD.com",
        ] {
            assert_eq!(answer_to(&allowed, other.as_bytes()), Err(NoOrigin::Foreign), "{other}");
        }
        assert_eq!(answer_to(&allowed, b"https://good.com\xFF"), Err(NoOrigin::Unclear));
        let mut answer = HeaderMap::new();
        admit(&allowed, &HeaderMap::new()).unwrap().allow(&mut answer);
        assert!(answer.is_empty(), "no origin, no page");
    }

    #[test]
    fn two_origins_are_none() {
        let allowed = Origins::Only(vec!["https://good.com".to_owned()]);
        let mut headers = HeaderMap::new();
        for origin in ["https://good.com", "https://evil.com"] {
            headers.append(ORIGIN, HeaderValue::from_static(origin));
        }
        assert_eq!(admit(&allowed, &headers).err(), Some(NoOrigin::Unclear));
        assert_eq!(admit(&Origins::Any, &headers).err(), Some(NoOrigin::Unclear));
    }

    #[test]
    fn any_page_never_comes_with_credentials() {
        let answer = answer_to(&Origins::Any, b"https://anywhere.example").unwrap();
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
