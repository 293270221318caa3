//! Fetching a JWKS: one request to one address that the operator wrote down.
//!
//! Invariants: no redirect is followed, the answer has a limit, and whoever calls gives up in time.

use crate::config::jwt::JwksUrl;
use bytes::Bytes;
use channelapi_core::limits::{JWKS_BYTES_MAX, JWKS_HEAD_BYTES_MAX};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Nobody is there.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// Whoever is there is not who it should be, or speaks no TLS.
    #[error("no secure connection: {0}")]
    Tls(std::io::Error),
    /// It is not HTTP.
    #[error("no answer: {0}")]
    Http(hyper::Error),
    /// The answer is not what was asked for.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// The answer is somewhere else.
    #[error("the answer is {0}, and redirects are not followed: write down the final address")]
    Redirect(StatusCode),
    /// The answer is compressed although nobody asked for that.
    #[error("the answer is compressed")]
    Encoded,
    /// The answer is too large.
    #[error("the answer is larger than {JWKS_BYTES_MAX} bytes, or broke off: {0}")]
    Body(String),
}

/// The body behind an address. Whoever drops this ends it.
pub(super) async fn get(url: &JwksUrl, tls: Option<&Arc<ClientConfig>>) -> Result<Bytes, FetchError> {
    let socket = TcpStream::connect((&*url.host, url.port)).await.map_err(FetchError::Connect)?;
    if !url.is_secure {
        return ask(url, socket).await;
    }
    let nobody = || FetchError::Tls(std::io::Error::other("nobody to trust is known"));
    let tls = tls.ok_or_else(nobody)?;
    let name = ServerName::try_from(url.host.clone())
        .map_err(|error| FetchError::Tls(std::io::Error::other(error.to_string())))?;
    let socket = TlsConnector::from(tls.clone()).connect(name, socket).await.map_err(FetchError::Tls)?;
    ask(url, socket).await
}

async fn ask(
    url: &JwksUrl,
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Bytes, FetchError> {
    let mut settings = http1::Builder::new();
    settings.max_buf_size(JWKS_HEAD_BYTES_MAX);
    let (mut sender, connection) =
        settings.handshake::<_, Empty<Bytes>>(TokioIo::new(socket)).await.map_err(FetchError::Http)?;
    // Carries the bytes, and ends with us.
    let mut carrier = JoinSet::new();
    carrier.spawn(async move { _ = connection.await });
    let request = Request::get(&*url.path)
        .header(HOST, &*url.authority)
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(CONNECTION, "close")
        .header(USER_AGENT, concat!("channelapi/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .expect("the parts of an address that was read are good");
    let answer = sender.send_request(request).await.map_err(FetchError::Http)?;
    match answer.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => return Err(FetchError::Redirect(status)),
        status => return Err(FetchError::Status(status)),
    }
    if answer.headers().contains_key(CONTENT_ENCODING) {
        return Err(FetchError::Encoded);
    }
    if answer.body().size_hint().lower() > JWKS_BYTES_MAX as u64 {
        return Err(FetchError::Body("it says so itself".into()));
    }
    let body = Limited::new(answer.into_body(), JWKS_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| FetchError::Body(error.to_string()))?.to_bytes())
}
