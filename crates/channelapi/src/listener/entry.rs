//! What comes before HTTP on a connection: who it is, and TLS.

use super::peer::Arrival;
use super::proxy;
use crate::admission::SocketPass;
use crate::config::proxies::TrustedProxies;
use crate::metrics::ConnectionRefused;
use crate::stream::{Stream, TlsStream};
use channelapi_core::limits::{PROXY_HEADER_TIMEOUT, TLS_HANDSHAKE_TIMEOUT};
use rustls::ServerConfig;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Once};
use tracing::warn;

/// How connections come in.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Proxies whose word about the address of a client counts.
    pub(crate) trusted_proxies: Option<TrustedProxies>,
    /// Whether these begin each connection with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// What is spoken below HTTP, if it is not spoken in the clear.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// The only protocol that is spoken over TLS.
const HTTP_PROTOCOL: &[u8] = b"http/1.1";

impl Entry {
    /// What comes before HTTP, if anything does. Whoever says nothing, or does not come to an end with it, may have to make room for
    /// others.
    pub(super) async fn enter(
        &self,
        stream: Stream,
        from: Option<IpAddr>,
        pass: &mut SocketPass,
    ) -> io::Result<(Stream, Arrival)> {
        let arrival = Arrival::of(from, self.trusted_proxies.as_ref());
        if self.tls.is_none() && !self.is_introduced(arrival) {
            return Ok((stream, arrival));
        }
        self.first_byte(&stream, arrival, pass).await?;
        pass.begin();
        tokio::select! {
            biased;
            // Boxed, because those who come without would hold room for it.
            entered = Box::pin(self.introduced(stream, arrival)) => entered,
            () = pass.evicted() => Err(make_room()),
        }
    }

    /// Whether a connection begins with a PROXY header.
    pub(super) fn is_introduced(&self, arrival: Arrival) -> bool {
        self.proxy_protocol && arrival == Arrival::Proxied
    }

    /// Waits for the first byte.
    async fn first_byte(&self, stream: &Stream, arrival: Arrival, pass: &SocketPass) -> io::Result<()> {
        let timeout = async {
            if self.is_introduced(arrival) {
                tokio::time::sleep(PROXY_HEADER_TIMEOUT).await;
                ConnectionRefused::Proxy.count();
            } else {
                tokio::time::sleep(TLS_HANDSHAKE_TIMEOUT).await;
                ConnectionRefused::Tls.count();
            }
        };
        tokio::select! {
            biased;
            arrived = stream.first_byte() => arrived,
            // Its first byte may be here although nobody was told yet.
            () = pass.evicted() => if stream.has_arrived() { Ok(()) } else { Err(make_room()) },
            () = timeout => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Who it is, and TLS.
    async fn introduced(&self, mut stream: Stream, mut arrival: Arrival) -> io::Result<(Stream, Arrival)> {
        let trusted = self.trusted_proxies.as_ref();
        if self.is_introduced(arrival) {
            let header = proxy::read_header(&mut stream).await;
            let client = header.inspect_err(|error| {
                ConnectionRefused::Proxy.count();
                tell_of_missing_header(error);
            })?;
            arrival = client.map_or(Arrival::Unannounced, |client| Arrival::announced(client, trusted));
        }
        match (stream, &self.tls) {
            (Stream::Tcp(socket), Some(config)) => {
                let stream = TlsStream::accept(socket, config.clone()).await;
                let stream = stream.inspect_err(|_| ConnectionRefused::Tls.count())?;
                if stream.protocol().is_some_and(|protocol| protocol != HTTP_PROTOCOL) {
                    // An authority has seen the certificate that it asked for.
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Ok((Stream::Tls(stream), arrival))
            }
            (stream, _) => Ok((stream, arrival)),
        }
    }
}

/// Says in the log, once, that a trusted proxy sends no header that can be read: nothing that it passes on is answered.
fn tell_of_missing_header(error: &io::Error) {
    static TOLD: Once = Once::new();
    // Balancers only look whether somebody listens.
    if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
        return;
    }
    TOLD.call_once(|| {
        warn!(
            %error,
            "a connection from http.trusted_proxies was closed, because it did not begin with a PROXY header as http.proxy_protocol wants it; \
             channelapi_connections_refused_total counts others"
        );
    });
}

/// A connection has to go, because others want to come in.
pub(super) fn make_room() -> io::Error {
    ConnectionRefused::Handshakes.count();
    io::Error::new(io::ErrorKind::ConnectionAborted, "it had to make room")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value as _;
    use crate::http::Peer;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    /// Once, what a proxy passed on without saying for whom counted as its own words.
    #[tokio::test]
    async fn a_connection_is_for_whom_its_proxy_says() {
        let entry = Entry {
            trusted_proxies: Some(TrustedProxies::parse("unix, 10.0.0.1").unwrap()),
            proxy_protocol: true,
            tls: None,
        };
        let check = async |header: &[u8], expected: Arrival| {
            let (server, mut proxy) = UnixStream::pair().unwrap();
            proxy.write_all(header).await.unwrap();
            let (_, arrival) = entry.introduced(Stream::Unix(server), Arrival::Proxied).await.unwrap();
            assert_eq!(arrival, expected, "{header:?}");
        };
        let client = Arrival::Direct(Peer::Stranger("203.0.113.7".parse().unwrap()));
        check(b"PROXY TCP4 203.0.113.7 10.0.0.9 4711 443\r\n", client).await;
        check(b"PROXY TCP4 10.0.0.1 10.0.0.9 4711 443\r\n", Arrival::Proxied).await;
        check(b"PROXY UNKNOWN\r\n", Arrival::Unannounced).await;
        check(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", Arrival::Unannounced).await;
    }
}
