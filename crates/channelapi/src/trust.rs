//! Whom to trust where we are the client of TLS: the certificates of the system, or those of a file.
//!
//! Invariant: whatever is trusted, the name and the time of a certificate are looked at.

use crate::small_file;
use channelapi_core::limits::CA_FILE_BYTES_MAX;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, crypto,
};
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
    Tls(#[from] Error),
    /// The same of how certificates are judged.
    #[error(transparent)]
    Judge(#[from] VerifierBuilderError),
}

impl TrustError {
    /// Whether it is a file that somebody may be about to write.
    pub(crate) fn is_of_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }
}

/// Those whom we trust.
struct Trusted {
    roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

/// TLS as a client that trusts the certificates in this file, in PEM form, or else those of the system.
pub(crate) fn trusting(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let Trusted { roots, certificates } = match ca_file {
        Some(path) => of_file(path)?,
        None => of_system()?,
    };
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let judge = Arc::new(Judge { chains, certificates });
    Ok(Arc::new(config.dangerous().with_custom_certificate_verifier(judge).with_no_client_auth()))
}

/// Whether a certificate was refused for being that of an authority, whose certificates no server may have.
pub(crate) fn is_of_authority(fault: &CertificateError) -> bool {
    matches!(fault, CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity")
}

fn of_file(path: &Path) -> Result<Trusted, TrustError> {
    let failed =
        |error: &dyn std::fmt::Display| TrustError::File { path: path.to_owned(), reason: error.to_string() };
    let mut trusted = Trusted { roots: RootCertStore::empty(), certificates: Vec::new() };
    let (bytes, _) = small_file::read(path, CA_FILE_BYTES_MAX).map_err(|error| failed(&error))?;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| failed(&error))?;
        trusted.roots.add(certificate.clone()).map_err(|error| failed(&error))?;
        trusted.certificates.push(certificate);
    }
    if trusted.roots.is_empty() { Err(TrustError::Empty(path.to_owned())) } else { Ok(trusted) }
}

fn of_system() -> Result<Trusted, TrustError> {
    let mut roots = RootCertStore::empty();
    let certificates = rustls_native_certs::load_native_certs().certs;
    let (good, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if good == 0 { Err(TrustError::NobodyHere) } else { Ok(Trusted { roots, certificates }) }
}

/// Judges as everybody does, except for a server that signed its own certificate, and that of an authority, as openssl makes them: one that
/// we were given to trust is no less good in the hands of the server itself.
#[derive(Debug)]
struct Judge {
    chains: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chains.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // Its time was looked at before that, its name was not.
            Err(Error::InvalidCertificate(fault))
                if is_of_authority(&fault) && self.certificates.contains(certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
