//! One kept-alive HTTP/1.1 connection, with one request at a time on its way.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::broken::broken;

/// Longest answer taken; a page of history is the longest there is.
const RESPONSE_MAX: usize = 64 << 20;

pub(crate) struct Http {
    stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Complete lines.
    pub(crate) headers: &'a str,
    pub(crate) body: &'a str,
}

pub(crate) struct Response {
    pub(crate) status: u16,
    /// The status line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address, buffer: Vec::new() })
    }

    /// From an address of this machine that is not the usual one.
    pub(crate) async fn connect_from(from: Ipv4Addr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address, buffer: Vec::new() })
    }

    pub(crate) async fn exchange(&mut self, request: &Request<'_>) -> Result<Response> {
        self.send(request).await?;
        self.response().await
    }

    pub(crate) async fn send(&mut self, request: &Request<'_>) -> Result<()> {
        let Request { method, path, headers, body } = request;
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        Ok(self.stream.write_all(text.as_bytes()).await?)
    }

    /// The head of an answer that has no end. It stays where it is.
    pub(crate) async fn begun(&mut self) -> Result<()> {
        while !self.buffer.windows(4).any(|window| window == b"\r\n\r\n") {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
        let status = status(&self.buffer)?;
        ensure!(status == 200, "the answer is {status}");
        Ok(())
    }

    /// May be given up and called again.
    pub(crate) async fn response(&mut self) -> Result<Response> {
        loop {
            if let Some(response) = Response::take(&mut self.buffer)? {
                return Ok(response);
            }
            ensure!(self.buffer.len() < RESPONSE_MAX, "the answer is longer than {RESPONSE_MAX} bytes");
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!(broken("the server closed the connection"));
            }
        }
    }
}

impl Response {
    /// Takes a whole answer from the front of what was received.
    pub(crate) fn take(buffer: &mut Vec<u8>) -> Result<Option<Self>> {
        let Some((head, total)) = extent(buffer)?.filter(|(_, total)| buffer.len() >= *total) else {
            return Ok(None);
        };
        let status = status(&buffer[..head])?;
        let head = String::from_utf8(buffer[..head].to_vec())?;
        let body = String::from_utf8(buffer[head.len()..total].to_vec())?;
        buffer.drain(..total);
        Ok(Some(Self { status, head, body }))
    }

    /// The value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Where the head ends and where the whole answer does, once the head is here.
fn extent(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    if head.starts_with("HTTP/1.1 204") {
        return Ok(Some((end + 4, end + 4))); // It never has a body.
    }
    let length: usize = length.with_context(|| format!("no Content-Length in {head:?}"))?.parse()?;
    Ok(Some((end + 4, end + 4 + length)))
}

fn status(head: &[u8]) -> Result<u16> {
    let line = std::str::from_utf8(head)?.lines().next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    Ok(status.with_context(|| format!("unusable status line {line:?}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_measured_by_their_head() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(extent(answer).unwrap(), Some((answer.len() - 2, answer.len())));
        assert_eq!(extent(&answer[..20]).unwrap(), None);
        assert_eq!(status(answer).unwrap(), 503);
        assert!(extent(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(status(b"SSH-2.0").is_err());
    }
}
