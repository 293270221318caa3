//! The PROXY protocol, versions 1 and 2: a trusted proxy says, before anything else, for whom a connection is.
//!
//! Invariant: not a byte behind the header is taken. It belongs to TLS or HTTP.

use channelapi_core::limits::{PROXY_HEADER_BYTES_MAX, PROXY_HEADER_TIMEOUT};
use ppp::{v1, v2};
use std::io;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What every header is at least as long as, and by which the versions are told apart.
const PREFIX_BYTES: usize = v2::PROTOCOL_PREFIX.len();

/// What version 2 has in front of the addresses.
const FIXED_BYTES: usize = PREFIX_BYTES + 4;

/// The longest line of version 1.
const LINE_BYTES_MAX: usize = 107;

/// Reads the header, and returns the address of the client, if the connection is not the proxy's own.
pub(super) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    match tokio::time::timeout(PROXY_HEADER_TIMEOUT, read(stream)).await {
        Ok(client) => client,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The same, however long it takes.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut header = vec![0; PREFIX_BYTES];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(FIXED_BYTES, 0);
        stream.read_exact(&mut header[PREFIX_BYTES..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[FIXED_BYTES - 2], header[FIXED_BYTES - 1]]));
        if rest > PROXY_HEADER_BYTES_MAX {
            return Err(malformed("a PROXY header is too long"));
        }
        header.resize(FIXED_BYTES + rest, 0);
        stream.read_exact(&mut header[FIXED_BYTES..]).await?;
        return binary(&header);
    }
    if !header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        return Err(malformed("a trusted proxy sent no PROXY header"));
    }
    // The end of a line is found by looking at each byte, and what follows it must stay where it is.
    while !header.ends_with(b"\n") {
        if header.len() == LINE_BYTES_MAX {
            return Err(malformed("a PROXY header is too long"));
        }
        header.push(stream.read_u8().await?);
    }
    text(&header)
}

fn binary(header: &[u8]) -> io::Result<Option<IpAddr>> {
    let header = v2::Header::try_from(header).map_err(|_| malformed("a PROXY header is malformed"))?;
    let client = match header.addresses {
        v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    Ok(client.filter(|_| header.command == v2::Command::Proxy))
}

fn text(header: &[u8]) -> io::Result<Option<IpAddr>> {
    let header = v1::Header::try_from(header).map_err(|_| malformed("a PROXY header is malformed"))?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Unknown => None,
    })
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    const REST: &[u8] = b"GET / HTTP/1.1\r\n";

    /// What is read of `sent`, which `REST` follows; it must be left alone.
    async fn read_of(sent: &[u8]) -> io::Result<Option<IpAddr>> {
        let (mut server, mut client) = UnixStream::pair().unwrap();
        client.write_all(sent).await.unwrap();
        client.write_all(REST).await.unwrap();
        let address = read(&mut server).await?;
        let mut rest = vec![0; REST.len()];
        server.read_exact(&mut rest).await.unwrap();
        assert_eq!(rest, REST);
        Ok(address)
    }

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, body].concat()
    }

    #[tokio::test]
    async fn both_versions_give_the_address_of_the_client() {
        let check = async |sent: &[u8], expected: Option<&str>| {
            let address = read_of(sent).await.unwrap();
            assert_eq!(address, expected.map(|address| address.parse().unwrap()), "{sent:?}");
        };
        check(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n", Some("203.0.113.7")).await;
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", Some("2001:db8::7")).await;
        check(b"PROXY UNKNOWN\r\n", None).await;
        check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None).await;
        let ipv4 = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 187];
        check(&version_2(1, 0x11, &ipv4), Some("203.0.113.7")).await;
        let more = [&ipv4[..], &[4, 0, 3, 1, 2, 3]].concat();
        check(&version_2(1, 0x11, &more), Some("203.0.113.7")).await;
        let mut ipv6 = [0; 36];
        ipv6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        ipv6[15] = 7;
        check(&version_2(1, 0x21, &ipv6), Some("2001:db8::7")).await;
        // A proxy that looks whether we live.
        check(&version_2(0, 0, &[]), None).await;
        check(&version_2(0, 0x11, &ipv4), None).await;
        check(&version_2(1, 0x31, &[b'/'; 216]), None).await;
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let too_long = [&b"PROXY TCP4 "[..], &[b'1'; 200], b"\r\n"].concat();
        for sent in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n"[..],
            b"PROXY TCP4 203.0.113.7\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
            b"PROXY TCP4 203.0.113.300 10.0.0.1 4711 443\r\n",
            b"PROXY TCP5 203.0.113.7 10.0.0.1 4711 443\r\n",
            b"PROXYTCP4 203.0.113.7 10.0.0.1 4711 443\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
            &too_long,
            &version_2(1, 0x11, &[1, 2, 3]),
            &version_2(2, 0x11, &[0; 12]),
            &version_2(1, 0x51, &[0; 12]),
            &[v2::PROTOCOL_PREFIX, &[0x11, 0x11, 0, 0]].concat(),
            &[v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff]].concat(),
        ] {
            let error = read_of(sent).await.expect_err(&format!("{sent:?}"));
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_come_is_not_awaited_for_long() {
        let (mut server, mut client) = UnixStream::pair().unwrap();
        client.write_all(b"PROXY TCP4 203.").await.unwrap();
        let error = read_header(&mut server).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
