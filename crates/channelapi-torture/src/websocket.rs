//! A WebSocket as a client sees it: masked on the way out, plain on the way in, whole text frames only.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::broken::broken;

/// The key of RFC 6455's example, and the answer it must get: no SHA-1 needed.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// In place of a length: it follows in 16 or 64 bits.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

const FRAME_MAX: usize = 4 << 20;
const HEAD_MAX: usize = 8 << 10;

/// Used bytes at the front of the buffer that are worth moving the rest for.
const COMPACT_ABOVE: usize = 64 << 10;

/// A receive buffer so small that whoever does not read holds up the server soon, and not the kernel.
pub(crate) const TIGHT_BUFFER: u32 = 4 << 10;

pub(crate) struct WebSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    used: usize,
}

enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    /// With its code, if it has one.
    Close(Option<u16>),
}

impl WebSocket {
    pub(crate) async fn connect(address: SocketAddr, tight: bool) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if tight {
            socket.set_recv_buffer_size(TIGHT_BUFFER)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, buffer: Vec::new(), used: 0 };
        socket.upgrade(&upgrade_request("EIO=4&transport=websocket", "")).await?;
        Ok(socket)
    }

    /// From an address of this machine that is not the usual one.
    pub(crate) async fn connect_from(from: Ipv4Addr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, buffer: Vec::new(), used: 0 };
        socket.upgrade(&upgrade_request("EIO=4&transport=websocket", "")).await?;
        Ok(socket)
    }

    /// Opens one with a query and header fields of its own. Returns the head of the answer, too.
    pub(crate) async fn open(address: SocketAddr, query: &str, headers: &str) -> Result<(Self, String)> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, buffer: Vec::new(), used: 0 };
        let head = socket.upgrade(&upgrade_request(query, headers)).await?;
        Ok((socket, head))
    }

    async fn upgrade(&mut self, request: &str) -> Result<String> {
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                ensure!(!head.starts_with("HTTP/1.1 503"), broken("the server takes no connections"));
                let accepted = head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT);
                ensure!(accepted, "the server did not upgrade: {head:?}");
                self.used = end + 4;
                return Ok(head);
            }
            ensure!(self.buffer.len() < HEAD_MAX, "the answer's head is longer than {HEAD_MAX} bytes");
            self.fill().await?;
        }
    }

    /// The next text; may be given up and called again.
    pub(crate) async fn receive(&mut self) -> Result<String> {
        loop {
            let Some((frame, length)) = decode(&self.buffer[self.used..])? else {
                self.fill().await?;
                continue;
            };
            self.used += length;
            match frame {
                Frame::Text(text) => return Ok(text),
                Frame::Ping(payload) => self.stream.write_all(&encode(PONG, &payload)).await?,
                Frame::Pong => {}
                Frame::Close(_) => bail!(broken("the server closed the connection")),
            }
        }
    }

    /// Reads on until the server ends the connection. Returns the code it closes with, if it says one.
    pub(crate) async fn close_code(&mut self) -> Result<Option<u16>> {
        loop {
            match decode(&self.buffer[self.used..])? {
                None if self.fill().await.is_err() => return Ok(None),
                None => {}
                Some((Frame::Close(code), _)) => return Ok(code),
                Some((_, length)) => self.used += length,
            }
        }
    }

    /// Sends bytes that need not be frames.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    pub(crate) async fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.stream.write_all(&encode(TEXT, text.as_bytes())).await?)
    }

    async fn fill(&mut self) -> Result<()> {
        if self.used == self.buffer.len() || self.used > COMPACT_ABOVE {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!(broken("the connection broke"));
        }
        Ok(())
    }
}

/// The head of a request to open a WebSocket, with more header fields, which are complete lines.
pub(crate) fn upgrade_request(query: &str, headers: &str) -> String {
    format!(
        "GET /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(0x80 | opcode, payload)
}

/// A frame of a client that begins with this byte.
///
/// The mask is zero: it keeps pages from writing chosen bytes through old proxies, and there are none of either here.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < LENGTH_16 => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | LENGTH_16);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | LENGTH_64);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The first frame and its length, if it is there as a whole.
fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    ensure!(
        first & 0xf0 == 0x80 && second & 0x80 == 0,
        "the server sent a fragmented, compressed or masked frame ({first:#04x} {second:#04x})"
    );
    let (header, length) = match *second {
        LENGTH_16 => match rest.first_chunk() {
            Some(length) => (4, u16::from_be_bytes(*length).into()),
            None => return Ok(None),
        },
        LENGTH_64 => match rest.first_chunk() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        length => (2, length.into()),
    };
    let length = usize::try_from(length).context("a frame beyond all memory")?;
    ensure!(length <= FRAME_MAX, "the server sent a frame of {length} bytes");
    let Some(payload) = bytes.get(header..header + length) else { return Ok(None) };
    let frame = match first & 0x0f {
        TEXT => Frame::Text(std::str::from_utf8(payload)?.to_owned()),
        PING => Frame::Ping(payload.to_vec()),
        PONG => Frame::Pong,
        CLOSE => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        opcode => bail!("the server sent a frame with opcode {opcode:#x}"),
    };
    Ok(Some((frame, header + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server would send it.
    fn plain(text: &str) -> Vec<u8> {
        let masked = encode(TEXT, text.as_bytes());
        let header = masked.len() - text.len() - 4;
        let mut frame = masked[..header].to_vec();
        frame[1] &= 0x7f;
        frame.extend(text.as_bytes());
        frame
    }

    #[test]
    fn frames_of_every_length_form_are_read_when_they_are_whole() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(length);
            let frame = plain(&text);
            assert!(decode(&frame[..frame.len() - 1]).unwrap().is_none(), "{length}");
            let Some((Frame::Text(read), used)) = decode(&frame).unwrap() else { panic!("{length}") };
            assert_eq!((read, used), (text, frame.len()));
        }
    }

    #[test]
    fn frames_that_no_server_may_send_are_refused() {
        for bytes in [
            &[0x01, 0x01, b'a'][..],
            &[0xc1, 0x00],
            &[0x81, 0x80, 0, 0, 0, 0],
            &[0x83, 0x00],
            &[0x81, 0x01, 0xff],
        ] {
            assert!(decode(bytes).is_err(), "{bytes:02x?}");
        }
    }
}
