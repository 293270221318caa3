//! A way through TLS for those who speak none: whatever comes to it goes to the server encrypted, and back. So the honest, and attacks that
//! are about what is inside, are the same with TLS as without it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::server::Server;

/// Who the server is.
const NAME: &str = "abuse.test";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// What a configuration says so that there is one.
pub(super) const CONFIGURATION: &str =
    "[log]\nlevel = \"trace\"\n[tls]\ncert = \"certificate.pem\"\nkey = \"key.pem\"\n";

pub(super) struct Tunnel {
    /// Where it begins.
    pub(super) address: SocketAddr,
    /// Where it ends, and TLS is spoken.
    server: SocketAddr,
    connector: TlsConnector,
    task: AbortHandle,
}

impl Tunnel {
    /// To a server that has yet to be started, which gets its certificate here.
    pub(super) async fn open(server: &Server) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        fs::write(server.folder().join(CERTIFICATE), made.cert.pem())?;
        fs::write(server.folder().join(KEY), made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, server) = (listener.local_addr()?, server.address);
        let task = tokio::spawn(carry_all(listener, server, connector.clone())).abort_handle();
        Ok(Self { address, server, connector, task })
    }

    /// Where to connect without shaking hands.
    pub(super) fn end(&self) -> SocketAddr {
        self.server
    }

    /// How clients know the server.
    pub(super) fn clients(&self) -> Arc<ClientConfig> {
        self.connector.config().clone()
    }

    /// A connection on which that was done.
    pub(super) async fn shake_hands(&self) -> Result<TlsStream<TcpStream>> {
        enter(self.server, &self.connector).await
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn enter(server: SocketAddr, connector: &TlsConnector) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    connector.connect(ServerName::try_from(NAME)?, stream).await.context("no handshake")
}

async fn carry_all(listener: TcpListener, server: SocketAddr, connector: TlsConnector) {
    let mut carried = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let connector = connector.clone();
        carried.spawn(async move {
            // Whoever came sees what becomes of it.
            let _ = carry(stream, server, &connector).await;
        });
        while carried.try_join_next().is_some() {}
    }
}

async fn carry(mut plain: TcpStream, server: SocketAddr, connector: &TlsConnector) -> Result<()> {
    plain.set_nodelay(true)?;
    let mut secure = enter(server, connector).await?;
    copy_bidirectional(&mut plain, &mut secure).await?;
    Ok(())
}
