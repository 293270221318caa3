//! TLS: which certificate the server shows, where it comes from, and what may be negotiated.
//!
//! `pair.rs` reads certificates, `chain.rs` judges those of one file, `certificates.rs` shows and replaces them, `acme/` gets them from an authority, `source.rs`
//! knows from where they are. What TLS does to a connection is in the room `stream`.

mod acme;
mod certificates;
mod chain;
mod pair;
mod proofs;
mod source;
mod validity;

pub(crate) use acme::{AcmeSettings, Challenge};
pub(crate) use certificates::Certificates;
pub(crate) use pair::PairFiles;
pub(crate) use proofs::Proofs;
pub(crate) use source::{Sources, Wanted};

use certificates::ACME_PROTOCOL;
use pair::PairError;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What is spoken over TLS.
const HTTP_PROTOCOL: &[u8] = b"http/1.1";

/// TLS as it is set up.
#[derive(Debug)]
pub(crate) struct Tls {
    /// For the listener.
    pub(crate) config: Arc<ServerConfig>,
    /// What looks after the certificate.
    pub(crate) sources: Arc<Sources>,
    /// The certificate.
    pub(crate) certificates: Arc<Certificates>,
    /// What an authority may ask for on a plain port.
    pub(crate) proofs: Arc<Proofs>,
    /// What the operator should hear.
    pub(crate) warnings: Vec<String>,
}

impl Tls {
    /// Shows the certificate that is wanted. Files are looked at every `interval`; what an authority gives is kept in
    /// `data_dir`.
    pub(crate) fn new(wanted: Wanted, interval: Duration, data_dir: &Path) -> anyhow::Result<Self> {
        let proofs = Arc::new(Proofs::default());
        let certificates = Arc::new(Certificates::new(proofs.clone()));
        let config = server_config(certificates.clone());
        let (sources, warnings) =
            Sources::new(wanted, interval, data_dir, certificates.clone(), proofs.clone())?;
        Ok(Self { config, sources: Arc::new(sources), certificates, proofs, warnings })
    }
}

/// Whether an error is of a pair that time may mend, or whoever renews its files, without a change of the configuration.
pub(crate) fn may_pass(error: &anyhow::Error) -> bool {
    error.downcast_ref::<PairError>().is_some_and(PairError::may_pass)
}

/// TLS 1.2 and 1.3 with what rustls holds to be safe, and nothing that is kept for clients that are away.
fn server_config(certificates: Arc<Certificates>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites for both versions");
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
    // The authority's is agreed on only while there is a proof: without one there is no certificate for who asks for it.
    config.alpn_protocols = vec![HTTP_PROTOCOL.to_vec(), ACME_PROTOCOL.to_vec()];
    // Who comes back brings a ticket, encrypted with a key that is changed every six hours.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().expect("the operating system has random numbers");
    Arc::new(config)
}
