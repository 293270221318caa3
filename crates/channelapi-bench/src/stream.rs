//! What a client's bytes travel through: bare TCP, or TLS. Neither keeps a buffer while it is idle.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

/// The name in the certificate of a server under test.
pub(crate) const SERVER_NAME: &str = "localhost";

thread_local! {
    /// Where every client of the thread reads into: an idle one owns no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 << 10].into());
}

/// One connection.
pub(crate) enum Stream {
    Plain(TcpStream),
    Secure(Box<Secure>),
}

/// One connection with TLS.
pub(crate) struct Secure {
    tcp: TcpStream,
    tls: ClientConnection,
}

impl Stream {
    /// Connects, with TLS if there is a configuration for it.
    pub(crate) async fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let tcp = connect(address).await.context("cannot connect")?;
        let Some(config) = tls else { return Ok(Self::Plain(tcp)) };
        let tls = ClientConnection::new(config.clone(), ServerName::try_from(SERVER_NAME)?)?;
        let mut secure = Box::new(Secure { tcp, tls });
        secure.shake_hands().await.context("the TLS handshake failed")?;
        Ok(Self::Secure(secure))
    }

    pub(crate) fn into_tcp(self) -> TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Secure(secure) => secure.tcp,
        }
    }

    /// Waits for bytes and hands them over once.
    pub(crate) async fn read(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self {
            Self::Plain(tcp) => read(tcp, take).await,
            Self::Secure(secure) => loop {
                let plain = secure.read().await?;
                // A record may be about the connection itself.
                if !plain.is_empty() {
                    return take(&plain);
                }
            },
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Plain(tcp) => Ok(tcp.write_all(bytes).await?),
            Self::Secure(secure) => {
                io::Write::write_all(&mut secure.tls.writer(), bytes)?;
                secure.flush().await
            }
        }
    }
}

impl Secure {
    async fn shake_hands(&mut self) -> Result<()> {
        self.flush().await?;
        while self.tls.is_handshaking() {
            let early = self.read().await?;
            if !early.is_empty() {
                bail!("the server sent data before it was asked for any");
            }
        }
        Ok(())
    }

    /// Waits for records and returns the data in them.
    async fn read(&mut self) -> Result<Vec<u8>> {
        let (tls, mut plain) = (&mut self.tls, Vec::new());
        let decrypt = |mut records: &[u8]| {
            while !records.is_empty() {
                tls.read_tls(&mut records)?;
                tls.process_new_packets()?;
                match io::Read::read_to_end(&mut tls.reader(), &mut plain) {
                    // That was all there is.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(_) => bail!("the server closed the connection"),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        };
        read(&self.tcp, decrypt).await?;
        self.flush().await?;
        Ok(plain)
    }

    async fn flush(&mut self) -> Result<()> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records)?;
        }
        Ok(self.tcp.write_all(&records).await?)
    }
}

/// Waits for bytes and hands them over once.
async fn read(stream: &TcpStream, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    loop {
        stream.readable().await?;
        let outcome = SCRATCH.with_borrow_mut(|scratch| match stream.try_read(scratch) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => take(&scratch[..count]).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        });
        if outcome? {
            return Ok(());
        }
    }
}

/// Connects from a loopback address of its own, as clients on the internet would: nothing that a server keeps per address is shared,
/// and there is no end of ports.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // 127.1.0.1 and up: as many as any run needs before they begin anew.
    let number = 0x7f01_0001 + NEXT.fetch_add(1, Ordering::Relaxed) % 0x00e0_0000;
    let socket = TcpSocket::new_v4()?;
    if address.ip().is_loopback() && address.is_ipv4() {
        socket.bind((Ipv4Addr::from_bits(number), 0).into())?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
