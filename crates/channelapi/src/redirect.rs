//! The plain port beside HTTPS: it sends browsers on, and shows an authority what it asks for. It serves nothing else.

use crate::http::{self, Answering, Head, Peer, Request, Response};
use crate::listener::{Leaving, Pace, Service};
use crate::metrics::RequestRefused;
use crate::tls::Proofs;
use hyper::header::{CACHE_CONTROL, HOST, HeaderValue, LOCATION};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode};
use std::convert::Infallible;
use std::sync::Arc;

/// Where an authority asks for a proof.
const PROOFS_PATH: &str = "/.well-known/acme-challenge/";

/// The port of HTTPS that need not be named.
const HTTPS_PORT: u16 = 443;

/// Sends everybody on to HTTPS.
pub(crate) struct Redirect {
    /// Where HTTPS is.
    pub(crate) port: u16,
    /// What an authority may ask for.
    pub(crate) proofs: Arc<Proofs>,
}

impl Service for Redirect {
    type Call = Infallible;
    type Upgrade = Infallible;

    fn pace(&self, _: &str) -> Pace {
        Pace::Brief
    }

    fn recognize(&self, _: &Head<'_>, _: &[u8]) -> Option<Infallible> {
        None
    }

    fn call(&self, call: Infallible) -> Answering<'_> {
        match call {}
    }

    fn upgrade(&self, _: &Head<'_>, _: Peer) -> Option<(Response, Option<Infallible>)> {
        None
    }

    async fn take_over(upgrade: Infallible, _: Leaving) {
        match upgrade {}
    }

    async fn serve(self: Arc<Self>, request: Request, _peer: Peer) -> Response {
        if let Some(token) = request.uri().path().strip_prefix(PROOFS_PATH) {
            let Some(text) = self.proofs.text(token) else {
                RequestRefused::NotFound.count();
                return http::empty(StatusCode::NOT_FOUND);
            };
            return http::fresh(StatusCode::OK, "text/plain", text);
        }
        // Whoever sends data or a key without encryption must notice, and not be led on silently.
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            RequestRefused::Plain.count();
            let body = r#"{"success": false, "message": "This port only leads to HTTPS. Use https://, and replace a key that was sent here."}"#;
            return http::json(StatusCode::FORBIDDEN, body);
        }
        // One in the target goes before the header (RFC 9112 §3.2.2).
        let named = request.uri().authority().map(Authority::as_str);
        let host = named.or_else(|| request.headers().get(HOST).and_then(|host| host.to_str().ok()));
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let Some(location) = host.and_then(|host| location(host, self.port, target)) else {
            RequestRefused::Invalid.count();
            return http::empty(StatusCode::BAD_REQUEST);
        };
        let mut response = http::empty(StatusCode::PERMANENT_REDIRECT);
        response.headers_mut().insert(LOCATION, location);
        // Anybody may have said which host it leads to.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// The same place, with HTTPS. `None` if it is none: `*`, or a host alone, is no path.
fn location(host: &str, port: u16, target: &str) -> Option<HeaderValue> {
    // No host has a user (RFC 9110 §7.2).
    if !target.starts_with('/') || host.contains('@') {
        return None;
    }
    let authority: Authority = host.parse().ok()?;
    let host = authority.host();
    let port = if port == HTTPS_PORT { String::new() } else { format!(":{port}") };
    HeaderValue::try_from(format!("https://{host}{port}{target}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_is_found_with_https() {
        let check = |host: &str, port, target: &str, expected: Option<&str>| {
            let location = location(host, port, target);
            assert_eq!(location.as_ref().and_then(|location| location.to_str().ok()), expected, "{host}");
        };
        check("push.example.com", 443, "/", Some("https://push.example.com/"));
        check("push.example.com:80", 443, "/a?b=c", Some("https://push.example.com/a?b=c"));
        check("push.example.com", 8443, "/", Some("https://push.example.com:8443/"));
        check("[2001:db8::1]:80", 443, "/", Some("https://[2001:db8::1]/"));
        for host in [
            "user:pass@push.example.com",
            "push.example.com:99@evil.example",
            "",
            "a b",
            "a/b",
            "a\r\nSet-Cookie: x",
            "a?b",
        ] {
            check(host, 443, "/", None);
        }
        // Once, `*` was behind the port.
        for target in ["*", "", "a", "?a"] {
            check("push.example.com", 8443, target, None);
        }
    }
}
