//! A certificate for a server under test, and what its clients need to believe it.

use std::sync::Arc;

use anyhow::Result;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::stream::SERVER_NAME;

/// Made anew for each server, and gone with it.
pub(crate) struct Certificate {
    folder: TempDir,
    /// Believes this certificate and no other. Every handshake is a whole one: nobody comes back.
    pub(crate) clients: Arc<ClientConfig>,
}

impl Certificate {
    pub(crate) fn make() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("certificate.pem"), made.cert.pem())?;
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { folder, clients: Arc::new(config) })
    }

    /// What tells channelapi to use it.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let path = |file: &str| self.folder.path().join(file).display().to_string();
        vec![("CHANNELAPI_TLS_CERT", path("certificate.pem")), ("CHANNELAPI_TLS_KEY", path("key.pem"))]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::ServerConnection;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::stream::Stream;

    /// A server that says back what it is told, once.
    fn echo(certificate: &Certificate, mut stream: std::net::TcpStream) -> Result<()> {
        let path = |file: &str| certificate.folder.path().join(file);
        let chain = vec![CertificateDer::from_pem_file(path("certificate.pem"))?];
        let key = PrivateKeyDer::from_pem_file(path("key.pem"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut tls = ServerConnection::new(Arc::new(config.with_single_cert(chain, key)?))?;
        let mut stream = rustls::Stream::new(&mut tls, &mut stream);
        let mut heard = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut heard)?;
        Ok(std::io::Write::write_all(&mut stream, &heard)?)
    }

    #[tokio::test]
    async fn what_is_said_through_tls_comes_back() {
        let certificate = Arc::new(Certificate::make().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn({
            let certificate = certificate.clone();
            async move {
                let stream = listener.accept().await.unwrap().0.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                tokio::task::spawn_blocking(move || echo(&certificate, stream)).await.unwrap()
            }
        });
        let speaking = async {
            let mut stream = Stream::connect(address, Some(&certificate.clients)).await.unwrap();
            stream.write(b"hello").await.unwrap();
            let mut heard = Vec::new();
            let take = |bytes: &[u8]| {
                heard.extend_from_slice(bytes);
                Ok(())
            };
            stream.read(take).await.unwrap();
            heard
        };
        assert_eq!(timeout(Duration::from_secs(20), speaking).await.unwrap(), b"hello");
        server.await.unwrap().unwrap();
    }
}
