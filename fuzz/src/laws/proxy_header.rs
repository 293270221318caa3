//! What a proxy says, before anything else, about a connection.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use crate::server::proxy_header as read_header;

/// What both versions have behind the bytes that tell them apart, at most: `PROXY_HEADER_BYTES_MAX` and a length.
const HEADER_BYTES_MAX: usize = 16 + 4096;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The input is a header, and what follows it.
///
/// - Nothing behind the header is taken, and nothing of it changes what the header says; nor does it matter in which pieces it arrives.
/// - A header that is cut off says nothing, and one that is taken is not longer than its limit.
/// - The address is the one that is written there.
pub fn proxy_header(data: &[u8]) -> bool {
    let (said, taken) = read(data, usize::MAX);
    assert_eq!(read(data, 1), (said, taken), "byte by byte");
    assert!(taken <= HEADER_BYTES_MAX, "{taken} bytes were taken");
    let Some(client) = said else { return false };
    let header = &data[..taken];
    assert_eq!(read(header, 3), (said, taken), "what follows it counts");
    assert_eq!(read(&[header, b"GET / HTTP/1.1\r\n"].concat(), 5), (said, taken), "what follows it counts");
    for length in [0, taken / 2, taken - 1] {
        assert_eq!(read(&header[..length], usize::MAX).0, None, "cut off after {length} bytes");
    }
    assert_eq!(client, written(header));
    true
}

/// What is said, if anything, and how many bytes were taken for it, when they come in pieces.
fn read(data: &[u8], piece: usize) -> (Option<Option<IpAddr>>, usize) {
    let mut stream = Pieces { rest: data, piece };
    let said = {
        let mut reading = pin!(read_header(&mut stream));
        match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(said) => said.ok(),
            Poll::Pending => panic!("everything is there"),
        }
    };
    (said, data.len() - stream.rest.len())
}

/// The address in a header that was taken.
fn written(header: &[u8]) -> Option<IpAddr> {
    let Some(binary) = header.strip_prefix(SIGNATURE) else {
        let line = std::str::from_utf8(header).expect("a line is text");
        let mut words = line.trim_end().split(' ');
        assert_eq!(words.next(), Some("PROXY"));
        return match words.next() {
            Some("TCP4") => words.next().and_then(|word| word.parse().ok()).filter(IpAddr::is_ipv4),
            Some("TCP6") => words.next().and_then(|word| word.parse().ok()).filter(IpAddr::is_ipv6),
            _ => None,
        };
    };
    // The version and the command, the family, a length of two bytes, and the addresses.
    let address = &binary[4..];
    match (binary[0], binary[1] >> 4) {
        (0x21, 1) => Some(<[u8; 4]>::try_from(&address[..4]).expect("four bytes").into()),
        (0x21, 2) => Some(<[u8; 16]>::try_from(&address[..16]).expect("sixteen bytes").into()),
        _ => None,
    }
}

/// Bytes that come in pieces of this size, and then end.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.rest.len().min(self.piece).min(buffer.remaining());
        let (piece, rest) = self.rest.split_at(length);
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}
