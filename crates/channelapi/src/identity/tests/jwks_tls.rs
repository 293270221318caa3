//! Keys over TLS: from a provider that shows who it is, and from everybody who cannot.

use super::*;
use crate::config::jwt::JwksUrl;
use crate::config::value::Value as _;
use crate::identity::fetch::{FetchError, get};
use crate::identity::jwks::Times;
use crate::trust::trusting;
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// An authority, whose certificate is in a file.
struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// TLS for a server that has a certificate for this name, good until the end of a year.
    fn certified(&self, name: &str, until_year: i32) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

/// A provider, with TLS or without, that answers every request with this key.
struct Provider {
    port: u16,
    _server: JoinSet<()>,
    /// What it was asked.
    heard: Arc<parking_lot::Mutex<String>>,
}

impl Provider {
    async fn start(tls: Option<Arc<ServerConfig>>, signer: &Signer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let body = json!({"keys": [signer.jwk("1")]}).to_string();
        let heard = Arc::<parking_lot::Mutex<String>>::default();
        let hearing = heard.clone();
        let mut server = JoinSet::new();
        server.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                match &tls {
                    // Whoever does not trust us hangs up.
                    Some(tls) => {
                        if let Ok(socket) = TlsAcceptor::from(tls.clone()).accept(socket).await {
                            answer(socket, &body, &hearing).await;
                        }
                    }
                    None => answer(socket, &body, &hearing).await,
                }
            }
        });
        Self { port, _server: server, heard }
    }

    fn url(&self, host: &str) -> JwksUrl {
        JwksUrl::parse(&format!("https://{host}:{}/jwks.json", self.port)).unwrap()
    }
}

async fn answer(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    body: &str,
    heard: &parking_lot::Mutex<String>,
) {
    let mut bytes = [0; 4096];
    let count = socket.read(&mut bytes).await.unwrap_or(0);
    heard.lock().push_str(&String::from_utf8_lossy(&bytes[..count]));
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    _ = socket.write_all(answer.as_bytes()).await;
    _ = socket.shutdown().await;
}

async fn fetched(url: &JwksUrl, trusted: &Authority) -> Result<Bytes, FetchError> {
    let tls = trusting(Some(&trusted.file())).unwrap();
    tokio::time::timeout(Duration::from_secs(30), get(url, Some(&tls))).await.expect("an answer in time")
}

/// Nothing comes from there, and TLS is the reason.
async fn check_refused(url: &JwksUrl, trusted: &Authority, reason: &str) {
    match fetched(url, trusted).await {
        Err(FetchError::Tls(error)) => assert!(error.to_string().contains(reason), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_come_from_a_provider_whose_certificate_is_good() {
    let (signer, authority) = (Signer::new("ES256"), Authority::new("ours"));
    for name in ["localhost", "127.0.0.1"] {
        let provider = Provider::start(Some(authority.certified(name, 2200)), &signer).await;
        let keys = KeySource::JwksUrl { url: provider.url(name), ca_file: Some(authority.file()) };
        let times = Times { timeout: Duration::from_secs(30), ..Times::default() };
        let (issuers, _keeper) = kept_up(Issuers::set_up_with(&[issuer(keys)], times));
        let token = signer.sign_with(&json!({"kid": "1"}), &claims());
        assert!(verify(&issuers, &token).await.is_ok());
        assert!(provider.heard.lock().starts_with("GET /jwks.json HTTP/1.1\r\n"));
    }
}

/// The issuers, with somebody who fetches their keys.
fn kept_up(issuers: Issuers) -> (Arc<Issuers>, JoinSet<()>) {
    let issuers = Arc::new(issuers);
    let mut keeper = JoinSet::new();
    let kept = issuers.clone();
    keeper.spawn(async move { kept.keep_up().await });
    (issuers, keeper)
}

#[tokio::test]
async fn another_authority_in_the_same_file_is_believed_after_a_reload() {
    let (signer, first, second) = (Signer::new("ES256"), Authority::new("first"), Authority::new("second"));
    let provider = Provider::start(Some(second.certified("localhost", 2200)), &signer).await;
    let keys = KeySource::JwksUrl { url: provider.url("localhost"), ca_file: Some(first.file()) };
    let settings = [issuer(keys)];
    let token = signer.sign_with(&json!({"kid": "1"}), &claims());

    let (before, _keeper) = kept_up(Issuers::set_up(&settings, None).unwrap());
    assert_eq!(verify(&before, &token).await.err(), Some(Refused::Unavailable));
    let (still, _keeper) = kept_up(Issuers::set_up(&settings, Some(&before)).unwrap());
    assert_eq!(verify(&still, &token).await.err(), Some(Refused::Unavailable));
    std::fs::copy(second.file(), first.file()).unwrap();
    let (after, _keeper) = kept_up(Issuers::set_up(&settings, Some(&still)).unwrap());
    assert!(verify(&after, &token).await.is_ok());
}

#[tokio::test]
async fn nothing_comes_from_a_provider_that_cannot_show_who_it_is() {
    let (signer, ours, theirs) = (Signer::new("ES256"), Authority::new("ours"), Authority::new("theirs"));
    for (certified, reason) in [
        (ours.certified("login.example", 2200), "not valid for name"),
        (ours.certified("127.0.0.1", 2200), "not valid for name"),
        (theirs.certified("localhost", 2200), "UnknownIssuer"),
        (ours.certified("localhost", 2020), "expired"),
    ] {
        let provider = Provider::start(Some(certified), &signer).await;
        check_refused(&provider.url("localhost"), &ours, reason).await;
        assert_eq!(*provider.heard.lock(), "", "it was not even asked");
    }
}

#[tokio::test]
async fn an_address_with_https_is_never_asked_without_tls() {
    let (signer, ours) = (Signer::new("ES256"), Authority::new("ours"));
    let provider = Provider::start(None, &signer).await;
    check_refused(&provider.url("localhost"), &ours, "").await;
    let without = get(&provider.url("localhost"), None).await;
    assert!(matches!(without, Err(FetchError::Tls(_))), "{without:?}");
    assert!(!provider.heard.lock().contains("GET"));
}

#[test]
fn an_issuer_whose_authority_cannot_be_read_is_not_set_up() {
    let url = JwksUrl::parse("https://localhost/jwks.json").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (file, reason) in
        [(directory.path().join("none.pem"), "none.pem: "), (empty, "there is no certificate in it")]
    {
        let keys = KeySource::JwksUrl { url: url.clone(), ca_file: Some(file) };
        let Err(error) = Issuers::set_up(&[issuer(keys)], None) else { panic!("{reason}") };
        assert!(error.to_string().contains(reason), "{error}");
    }
}
