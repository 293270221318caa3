//! Whom to trust where we are the client of TLS: the certificates of the system, or those of a file.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore, crypto};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The file cannot be read, or is no PEM.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is nothing in the file.
    #[error("{path}: there is no certificate in it", path = .0.display())]
    Empty(PathBuf),
    /// The system trusts nobody.
    #[error(
        "this system has no certificates to trust; install its package ca-certificates, or name a file with the one to trust"
    )]
    NobodyHere,
    /// The TLS library refuses its own defaults.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// TLS as a client that trusts the certificates in this file, in PEM form, or else those of the system.
pub(crate) fn trusting(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let roots = match ca_file {
        Some(path) => of_file(path)?,
        None => of_system()?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn of_file(path: &Path) -> Result<RootCertStore, TrustError> {
    let failed =
        |error: &dyn std::fmt::Display| TrustError::File { path: path.to_owned(), reason: error.to_string() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() { Err(TrustError::Empty(path.to_owned())) } else { Ok(roots) }
}

fn of_system() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if good == 0 { Err(TrustError::NobodyHere) } else { Ok(roots) }
}
