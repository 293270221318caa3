//! The backend's side: one kept-alive HTTP/1.1 connection that asks for tokens and publishes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::pusher;

/// A page of history has 256 KiB of data, and as much again around it.
const RESPONSE_MAX: usize = 1 << 20;

/// A connection that was quiet for longer is replaced: some servers close it then (µWebSockets after 10 seconds).
const QUIET_MAX: Duration = Duration::from_secs(5);

/// What a server expects of those who publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// The seed contract, and for what only channelapi knows version 1 of its API.
    Contract,
    /// Pusher's API. Channels need no token.
    Pusher,
}

/// A backend with the server's key. Channel names must be plain ASCII words: they go into the path as they are.
pub(crate) struct Publisher {
    stream: TcpStream,
    address: SocketAddr,
    auth_key: String,
    api: Api,
    buffer: Vec<u8>,
    used_at: Instant,
    /// The server has said that it takes no more on this connection.
    is_over: bool,
}

impl Publisher {
    pub(crate) async fn connect(address: SocketAddr, auth_key: &str, api: Api) -> Result<Self> {
        let (stream, auth_key) = (connect(address).await?, auth_key.to_owned());
        let used_at = Instant::now();
        Ok(Self { stream, address, auth_key, api, buffer: Vec::new(), used_at, is_over: false })
    }

    /// The token that opens the channel; its name where there are none.
    pub(crate) async fn token(&mut self, channel: &str) -> Result<String> {
        if self.api == Api::Pusher {
            return Ok(channel.to_owned());
        }
        let answer = self.post(&format!("/channel/{channel}"), "").await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        answer["token"].as_str().map(str::to_owned).with_context(|| format!("no token in {answer}"))
    }

    /// Publishes JSON; returns when the server has answered.
    pub(crate) async fn publish(&mut self, channel: &str, data: &str) -> Result<()> {
        let (path, body) = match self.api {
            Api::Contract => (format!("/message/{channel}"), format!("{{\"message\":{data}}}")),
            Api::Pusher => pusher::publication(channel, data, &self.auth_key)?,
        };
        self.post(&path, &body).await.map(drop)
    }

    /// Publishes JSON for whoever is connected right now; returns when the server has answered.
    pub(crate) async fn publish_volatile(&mut self, channel: &str, data: &str) -> Result<()> {
        ensure!(self.api == Api::Contract, "only channelapi can be told not to store a publication");
        let body = format!("{{\"data\":{data},\"volatile\":true}}");
        self.post(&format!("/v1/channels/{channel}/messages"), &body).await?;
        Ok(())
    }

    /// Asks for something and returns what was answered.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.request("GET", path, "").await
    }

    /// Whether the server says that it is well.
    pub(crate) async fn healthy(&mut self) -> Result<()> {
        let path = match self.api {
            Api::Contract => "/healthz",
            Api::Pusher => pusher::HEALTH_PATH,
        };
        self.request("GET", path, "").await.map(drop)
    }

    /// Sends something and returns what was answered.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Result<Vec<u8>> {
        self.request("POST", path, body).await
    }

    async fn request(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.auth_key,
            body.len()
        );
        if self.is_over || self.used_at.elapsed() > QUIET_MAX {
            self.stream = connect(self.address).await?;
        }
        self.stream.write_all(request.as_bytes()).await?;
        let response = self.response().await.with_context(|| format!("{method} {path} failed"));
        self.used_at = Instant::now();
        response
    }

    async fn response(&mut self) -> Result<Vec<u8>> {
        self.buffer.clear();
        loop {
            if let Some((head, total)) = response_length(&self.buffer)?
                && self.buffer.len() >= total
            {
                let body = self.buffer[head..total].to_vec();
                self.is_over = closes(&self.buffer[..head]);
                if !self.buffer.starts_with(b"HTTP/1.1 200") {
                    bail!("the server answered {:?}", String::from_utf8_lossy(&self.buffer));
                }
                return Ok(body);
            }
            if self.buffer.len() > RESPONSE_MAX {
                bail!("the response is longer than {RESPONSE_MAX} bytes");
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Where the response's head ends and where the whole response does, once the head is here.
pub(crate) fn response_length(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let length = field(&bytes[..end], "content-length");
    let length: usize = length.context("the response has no Content-Length")?.parse()?;
    Ok(Some((end + 4, end + 4 + length)))
}

/// Whether the connection ends with this response.
fn closes(head: &[u8]) -> bool {
    field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// The first header field with this name.
fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().find_map(|line| {
        let (other, value) = line.split_once(':')?;
        other.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_length_comes_from_the_head() {
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(response_length(response).unwrap(), Some((response.len() - 2, response.len())));
        assert_eq!(response_length(&response[..20]).unwrap(), None);
        assert!(response_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(!closes(response));
        assert!(closes(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    }
}
