//! `GET /`: one static page that shows how to send a first message, and receives it live.
//!
//! All of it is our own, in one file, and asks nobody else for anything; its content security policy says so to the browser.

use crate::http::{self, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use sha2::{Digest as _, Sha256};

const HTML: &str = include_str!("index.html");

/// What the page knows of where the HTTP API is.
const HERE: &str = "data-api=\"here\"";

/// The page and what a browser is told about it.
pub(crate) struct Page {
    html: Bytes,
    headers: [(HeaderName, HeaderValue); 3],
}

impl Page {
    /// Computes the policy that allows the page's own script and style, and nothing else. Where the HTTP API is not at its own address, the page
    /// does not say where: that is for the operator to know.
    pub(crate) fn new(is_api_here: bool) -> Self {
        let html = if is_api_here { HTML.to_owned() } else { HTML.replace(HERE, "data-api=\"elsewhere\"") };
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            hash_of("script"),
            hash_of("style"),
        );
        let policy = HeaderValue::try_from(policy).expect("a policy is a header value");
        Self {
            html: html.into(),
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
        let mut response = http::fresh(StatusCode::OK, "text/html; charset=UTF-8", self.html.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn html(is_api_here: bool) -> String {
        let body = Page::new(is_api_here).answer().into_body().into_whole().unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// Once, its curl commands were for an address where the API was not.
    #[test]
    fn the_page_knows_whether_the_api_is_where_it_is() {
        assert!(html(true).contains("<html lang=\"en\" data-api=\"here\">"));
        assert!(html(false).contains("<html lang=\"en\" data-api=\"elsewhere\">"));
    }

    #[test]
    fn what_is_shown_first_misses_nothing() {
        let place = |part: &str| HTML.find(part).unwrap();
        assert!(place("{ auth: { token } }") < place("socket.emit(\"join_channel\""));
    }
}
