//! Engine.IO as a client speaks it: one link over WebSocket or long-polling, with its pings answered.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::broken::broken;
use crate::http::{Http, Request, Response};
use crate::websocket::WebSocket;

/// Between packets that travel together.
const SEPARATOR: char = '\x1e';

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transport {
    WebSocket,
    Polling,
    /// A WebSocket whose kernel buffer takes next to nothing.
    TightWebSocket,
}

pub(crate) enum Link {
    WebSocket(WebSocket),
    Polling(Polling),
}

pub(crate) struct Polling {
    poll: Http,
    post: Http,
    path: String,
    /// A poll is on its way.
    waiting: bool,
    packets: VecDeque<String>,
}

impl Link {
    /// Returns when the server has opened the session.
    pub(crate) async fn connect(address: SocketAddr, transport: Transport) -> Result<Self> {
        match transport {
            Transport::Polling => Ok(Self::Polling(Polling::connect(address).await?)),
            Transport::WebSocket | Transport::TightWebSocket => {
                let mut socket = WebSocket::connect(address, transport == Transport::TightWebSocket).await?;
                let open = socket.receive().await?;
                ensure!(open.starts_with("0{"), "expected the session's opening, got {open:?}");
                Ok(Self::WebSocket(socket))
            }
        }
    }

    /// The next Socket.IO packet, or `None` if the server only showed that it is there; may be given up and called
    /// again.
    pub(crate) async fn receive(&mut self) -> Result<Option<String>> {
        let mut packet = match self {
            Self::WebSocket(socket) => socket.receive().await?,
            Self::Polling(polling) => polling.receive().await?,
        };
        match packet.as_bytes().first() {
            Some(b'4') => return Ok(Some(packet.split_off(1))),
            Some(b'2') => self.send_packet("3").await?,
            Some(b'6') => {}
            Some(b'1') => bail!(broken("the server closed the session")),
            _ => bail!("the server sent the packet {packet:?}"),
        }
        Ok(None)
    }

    /// Sends a Socket.IO packet.
    pub(crate) async fn send(&mut self, packet: &str) -> Result<()> {
        self.send_packet(&format!("4{packet}")).await
    }

    async fn send_packet(&mut self, packet: &str) -> Result<()> {
        match self {
            Self::WebSocket(socket) => socket.send(packet).await,
            Self::Polling(polling) => polling.send(packet).await,
        }
    }
}

impl Polling {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let mut poll = Http::connect(address).await?;
        let path = "/socket.io/?EIO=4&transport=polling";
        let request = Request { method: "GET", path, headers: "", body: "" };
        let response = poll.exchange(&request).await?;
        ensure!(response.status != 400, "the server refused to open a session: {}", response.body);
        check(&response)?;
        let mut packets: VecDeque<_> = response.body.split(SEPARATOR).map(str::to_owned).collect();
        let open = packets.pop_front().unwrap_or_default();
        let parsed: Value = open.strip_prefix('0').map(serde_json::from_str).context("no opening")??;
        let sid = parsed["sid"].as_str().with_context(|| format!("no sid in {open}"))?;
        let path = format!("{path}&sid={sid}");
        Ok(Self { poll, post: Http::connect(address).await?, path, waiting: false, packets })
    }

    async fn receive(&mut self) -> Result<String> {
        loop {
            if let Some(packet) = self.packets.pop_front() {
                return Ok(packet);
            }
            if !self.waiting {
                self.waiting = true;
                self.poll.send(&Request { method: "GET", path: &self.path, headers: "", body: "" }).await?;
            }
            let response = self.poll.response().await?;
            self.waiting = false;
            check(&response)?;
            self.packets = response.body.split(SEPARATOR).map(str::to_owned).collect();
        }
    }

    async fn send(&mut self, packet: &str) -> Result<()> {
        let headers = "Content-Type: text/plain;charset=UTF-8\r\n";
        let request = Request { method: "POST", path: &self.path, headers, body: packet };
        let response = self.post.exchange(&request).await?;
        check(&response)
    }
}

fn check(response: &Response) -> Result<()> {
    match response.status {
        200 => Ok(()),
        503 => bail!(broken("the server takes no sessions")),
        // A session that has ended, by the server's stop or because another connection took over, is refused in several
        // ways. A stock client connects again after any of them.
        400 => bail!(broken("the server refuses the session")),
        status => bail!("the server answered {status}: {}", response.body),
    }
}
