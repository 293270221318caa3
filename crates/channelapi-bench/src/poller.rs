//! One Socket.IO client over HTTP long-polling, as a page has it behind a proxy that lets no WebSocket through.
//!
//! One connection serves for everything: while a poll waits there is nothing to send, for whatever the server says ends the poll.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::ping_interval;
use crate::publisher::response_length;
use crate::stream::connect;

/// Packets of one answer are separated by it.
const SEPARATOR: char = '\u{1e}';

const ANSWER_MAX: usize = 1 << 20;

/// A client that has joined one channel.
pub(crate) struct Poller {
    stream: TcpStream,
    address: SocketAddr,
    sid: String,
    /// Packets that arrived and were not looked at yet.
    packets: VecDeque<String>,
    /// As the server announced it.
    pub(crate) ping_interval: Duration,
    /// How many it has answered.
    pub(crate) pings: Arc<AtomicUsize>,
}

impl Poller {
    /// Connects and joins; returns when the server has confirmed it.
    pub(crate) async fn join(address: SocketAddr, token: &str) -> Result<Self> {
        let stream = connect(address).await.context("cannot connect")?;
        let (sid, packets) = (String::new(), VecDeque::new());
        let (interval, pings) = (Duration::ZERO, Arc::default());
        let mut poller = Self { stream, address, sid, packets, ping_interval: interval, pings };
        let open = poller.next().await?;
        poller.ping_interval =
            ping_interval(&open).with_context(|| format!("unusable open packet {open:?}"))?;
        let sid = open.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
        sid.context("the server gave no sid")?.clone_into(&mut poller.sid);
        poller.send("40").await?;
        poller.expect("40{").await?;
        poller.expect("42[\"clientevent\",").await?;
        poller.send(&format!("42{}", json!(["join_channel", { "token": token }]))).await?;
        poller.expect("42[\"clientevent\",").await?;
        Ok(poller)
    }

    /// Hands every packet to `each` and answers pings, until the server closes the connection.
    pub(crate) async fn receive(mut self, mut each: impl FnMut(&str)) -> Result<()> {
        loop {
            let packet = self.next().await?;
            each(&packet);
        }
    }

    async fn expect(&mut self, start: &str) -> Result<()> {
        let packet = self.next().await?;
        ensure!(packet.starts_with(start), "expected a packet {start}…, got {packet:?}");
        Ok(())
    }

    /// The next packet; polls for more as often as it takes, and answers pings in between.
    async fn next(&mut self) -> Result<String> {
        loop {
            match self.packets.pop_front() {
                Some(packet) if packet == "2" => {
                    self.pings.fetch_add(1, Ordering::Relaxed);
                    self.send("3").await?;
                }
                Some(packet) if packet == "1" => bail!("the server closed the session"),
                Some(packet) => return Ok(packet),
                None => {
                    let answer = self.request("GET", "").await?;
                    self.packets.extend(answer.split(SEPARATOR).map(str::to_owned));
                }
            }
        }
    }

    async fn send(&mut self, packet: &str) -> Result<()> {
        let answer = self.request("POST", packet).await?;
        ensure!(answer == "ok", "the server answered {answer:?} to a packet");
        Ok(())
    }

    async fn request(&mut self, method: &str, body: &str) -> Result<String> {
        let session = if self.sid.is_empty() { String::new() } else { format!("&sid={}", self.sid) };
        let request = format!(
            "{method} /socket.io/?EIO=4&transport=polling{session} HTTP/1.1\r\nHost: {}\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        // A client that waits owns no buffer.
        self.stream.readable().await?;
        let mut answer = Vec::new();
        loop {
            if let Some((head, total)) = response_length(&answer)?
                && answer.len() >= total
            {
                ensure!(
                    answer.starts_with(b"HTTP/1.1 200"),
                    "the server answered {:?}",
                    String::from_utf8_lossy(&answer)
                );
                return Ok(std::str::from_utf8(&answer[head..total])?.to_owned());
            }
            ensure!(answer.len() <= ANSWER_MAX, "the answer is longer than {ANSWER_MAX} bytes");
            ensure!(self.stream.read_buf(&mut answer).await? > 0, "the server closed the connection");
        }
    }
}
