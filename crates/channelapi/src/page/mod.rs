//! `GET /`: one static page that shows how to send a first message, and receives it live.
//!
//! All of it is our own, in one file, and asks nobody else for anything; its content security policy says so to the browser.

use crate::http::{self, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use sha2::{Digest as _, Sha256};

const HTML: &str = include_str!("index.html");

/// The page and what a browser is told about it.
pub(crate) struct Page {
    headers: [(HeaderName, HeaderValue); 3],
}

impl Page {
    /// Computes the policy that allows the page's own script and style, and nothing else.
    pub(crate) fn new() -> Self {
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash_of("script"),
            hash_of("style"),
        );
        let policy = HeaderValue::try_from(policy).expect("a policy is a header value");
        Self {
            headers: [
                (CONTENT_SECURITY_POLICY, policy),
                (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
                // The address of a page may say where a company's servers are.
                (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            ],
        }
    }

    /// The page.
    pub(crate) fn answer(&self) -> Response {
        let mut response = http::fresh(StatusCode::OK, "text/html; charset=UTF-8", HTML);
        response.headers_mut().extend(self.headers.iter().cloned());
        response
    }
}

/// The hash of the page's one element of this kind, as a source in a policy.
fn hash_of(element: &str) -> String {
    let (_, behind) = HTML.split_once(&format!("<{element}>")).expect("the page has such an element");
    let (content, _) = behind.split_once(&format!("</{element}>")).expect("the element ends");
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content)))
}
