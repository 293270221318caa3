//! TLS: which certificate the server shows, where it comes from, and what may be negotiated.
//!
//! `pair.rs` reads certificates, `certificates.rs` shows and replaces them, `acme/` gets them from an authority. What TLS
//! does to a connection is in the room `stream`.

mod acme;
mod certificates;
mod pair;
mod proofs;

pub(crate) use acme::{AcmeSettings, Challenge};
pub(crate) use certificates::Certificates;
pub(crate) use pair::{PairError, PairFiles};
pub(crate) use proofs::Proofs;

use acme::Acme;
use certificates::{ACME_PROTOCOL, WatchedFiles};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What is spoken over TLS.
const HTTP_PROTOCOL: &[u8] = b"http/1.1";

/// Where certificates come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// From files that somebody else looks after.
    Files(WatchedFiles),
    /// From an authority.
    Acme(Acme),
}

impl Source {
    /// Looks after the certificate, for as long as it is awaited. Files are looked at now and then.
    pub(crate) async fn keep_up(&self, interval: Duration) {
        match self {
            Self::Files(files) => files.watch(interval).await,
            Self::Acme(acme) => acme.keep_up().await,
        }
    }
}

/// TLS as it is set up.
#[derive(Debug)]
pub(crate) struct Tls {
    /// For the listener.
    pub(crate) config: Arc<ServerConfig>,
    /// What looks after the certificate.
    pub(crate) source: Arc<Source>,
    /// The certificate.
    pub(crate) certificates: Arc<Certificates>,
    /// What an authority may ask for on a plain port.
    pub(crate) proofs: Arc<Proofs>,
    /// What the operator should hear.
    pub(crate) warnings: Vec<String>,
}

impl Tls {
    /// Shows the certificate in these files.
    pub(crate) fn of_files(files: PairFiles) -> Result<Self, PairError> {
        let proofs = Arc::new(Proofs::default());
        let certificates = Arc::new(Certificates::new(proofs.clone()));
        let (watched, pair) = WatchedFiles::new(files, certificates.clone())?;
        let config = server_config(certificates.clone(), &[HTTP_PROTOCOL]);
        Ok(Self {
            config,
            source: Arc::new(Source::Files(watched)),
            certificates,
            proofs,
            warnings: pair.warnings,
        })
    }

    /// Gets certificates from an authority, and keeps them in `data_dir`.
    pub(crate) fn of_authority(settings: AcmeSettings, data_dir: &Path) -> anyhow::Result<Self> {
        let proofs = Arc::new(Proofs::default());
        let certificates = Arc::new(Certificates::new(proofs.clone()));
        let protocols: &[&[u8]] = match settings.challenge {
            Challenge::TlsAlpn => &[HTTP_PROTOCOL, ACME_PROTOCOL],
            Challenge::Http => &[HTTP_PROTOCOL],
        };
        let config = server_config(certificates.clone(), protocols);
        let acme = Acme::new(settings, data_dir, certificates.clone(), proofs.clone())?;
        Ok(Self { config, source: Arc::new(Source::Acme(acme)), certificates, proofs, warnings: Vec::new() })
    }
}

/// TLS 1.2 and 1.3 with what rustls holds to be safe, and nothing that is kept for clients that are away.
fn server_config(certificates: Arc<Certificates>, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites for both versions");
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Who comes back brings a ticket, encrypted with a key that is changed every six hours.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().expect("the operating system has random numbers");
    Arc::new(config)
}
