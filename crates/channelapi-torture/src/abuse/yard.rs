//! Where the attacks take place: one server, the honest on it, and what attackers and their witnesses can do there.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::time::timeout;

use super::control::{self, Control};
use super::provider::Provider;
use super::tunnel::Tunnel;
use super::wire::{PATIENCE, Wire};
use crate::http::{Http, Request, Response};
use crate::server::{AUTH_KEY, Server};
use crate::websocket::WebSocket;

/// What a client is greeted with.
const GREETING: &str = r#"42["clientevent",{"data":"Connected","count":0}]"#;

/// Stands in a configuration for the address of who publishes keys.
const PROVIDER: &str = "PROVIDER";

pub(super) struct Yard {
    pub(super) address: SocketAddr,
    pub(super) server: Server,
    provider: Option<Provider>,
    tunnel: Option<Tunnel>,
    /// All that were given out.
    pub(super) tokens: Mutex<BTreeSet<String>>,
}

impl Yard {
    /// A server with this configuration. Where it names the address `PROVIDER`, there is one; with a certificate, everybody comes through a
    /// tunnel.
    pub(super) async fn open(binary: &Path, configuration: &str) -> Result<Self> {
        let provider = if configuration.contains(PROVIDER) { Some(Provider::open().await?) } else { None };
        let address = provider.as_ref().map_or_else(String::new, |provider| provider.address.to_string());
        let mut server = Server::prepare(binary, &configuration.replace(PROVIDER, &address))?;
        let is_secure = configuration.contains("[tls]");
        let tunnel = if is_secure { Some(Tunnel::open(&server).await?) } else { None };
        server.door = tunnel.as_ref().map(|tunnel| tunnel.address);
        server.start().await?;
        Ok(Self {
            address: server.door.unwrap_or(server.address),
            server,
            provider,
            tunnel,
            tokens: Mutex::default(),
        })
    }

    /// The way to this server through TLS.
    pub(super) fn tunnel(&self) -> Result<&Tunnel> {
        self.tunnel.as_ref().context("nobody speaks TLS here")
    }

    /// Who publishes keys for this server.
    pub(super) fn provider(&self) -> Result<&Provider> {
        self.provider.as_ref().context("nobody publishes keys here")
    }

    /// The honest, on their way.
    pub(super) async fn control(&self) -> Result<Control> {
        Control::start(self.address, &self.token(control::channel()).await?).await
    }

    /// A request with the key, unless `headers` bring one.
    pub(super) async fn api(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<Response> {
        let key = if headers.contains("Authorization") { String::new() } else { with_key() };
        self.plain(method, path, &format!("{key}{headers}"), body).await
    }

    /// A request that carries no more than it says.
    pub(super) async fn plain(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Result<Response> {
        let mut http = Http::connect(self.address).await?;
        let request = Request { method, path, headers, body };
        let answer = timeout(PATIENCE, http.exchange(&request)).await.context("no answer in time");
        answer.and_then(|answer| answer).with_context(|| format!("{method} {path:.100}"))
    }

    /// Raw bytes on a connection of their own.
    pub(super) async fn wire(&self, bytes: &[u8]) -> Result<Wire> {
        let mut wire = Wire::connect(self.address).await?;
        wire.send(bytes).await;
        Ok(wire)
    }

    /// The head of the answer to whoever wants an event stream with a token, and the connection on which it is.
    pub(super) async fn stream(&self, channel: &str, token: &str) -> Result<(String, Wire)> {
        let request = format!("GET /v1/channels/{channel}/stream?token={token} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut wire = self.wire(request.as_bytes()).await?;
        Ok((wire.head().await.context("a stream")?, wire))
    }

    /// The token of a channel whose name needs no encoding.
    pub(super) async fn token(&self, channel: &str) -> Result<String> {
        let answer = self.api("POST", &format!("/channel/{channel}"), "", "").await?;
        let token = json(&answer.body)?["token"].as_str().map(str::to_owned);
        let token = token.with_context(|| format!("no token in {}", answer.body))?;
        self.tokens.lock().expect("nobody panics with it").insert(token.clone());
        Ok(token)
    }

    /// Publishes JSON.
    pub(super) async fn publish(&self, channel: &str, data: &str) -> Result<()> {
        let body = format!(r#"{{"message":{data}}}"#);
        let answer = self.api("POST", &format!("/message/{channel}"), "", &body).await?;
        ensure!(answer.status == 200, "publishing was answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    /// A WebSocket with an open session, which has not entered the namespace.
    pub(super) async fn websocket(&self) -> Result<WebSocket> {
        let mut socket = WebSocket::connect(self.address, false).await?;
        let open = heard(&mut socket).await?;
        ensure!(open.starts_with("0{"), "expected the opening, heard {open}");
        Ok(socket)
    }

    /// A client that has been greeted. Returns its public name, too.
    pub(super) async fn greeted(&self) -> Result<(WebSocket, String)> {
        let mut socket = self.websocket().await?;
        socket.send("40").await?;
        let admission = heard(&mut socket).await?;
        let admission = json(admission.strip_prefix("40").context("no admission")?)?;
        let name = admission["sid"].as_str().context("no public name")?.to_owned();
        expect(&mut socket, GREETING).await?;
        Ok((socket, name))
    }

    /// A client that is in a channel by the seed's door.
    pub(super) async fn member(&self, channel: &str) -> Result<WebSocket> {
        let (mut socket, _) = self.greeted().await?;
        self.join(&mut socket, channel).await?;
        Ok(socket)
    }

    /// Lets a greeted client join: it is served as if nothing had been.
    pub(super) async fn join(&self, socket: &mut WebSocket, channel: &str) -> Result<()> {
        let token = self.token(channel).await?;
        socket.send(&format!(r#"42["join_channel",{{"token":"{token}"}}]"#)).await?;
        expect(socket, &format!(r#"42["clientevent",{{"data":"Connected to {channel}"}}]"#)).await
    }

    /// A polling session.
    pub(super) async fn polling(&self) -> Result<Session> {
        let answer = self.plain("GET", "/socket.io/?EIO=4&transport=polling", "", "").await?;
        let open = answer.body.strip_prefix('0').with_context(|| format!("no opening in {}", answer.body))?;
        let sid = json(open)?["sid"].as_str().context("no sid")?.to_owned();
        Ok(Session { path: format!("/socket.io/?EIO=4&transport=polling&sid={sid}"), sid })
    }

    /// A polling session of a greeted client.
    pub(super) async fn polling_inside(&self) -> Result<Session> {
        let session = self.polling().await?;
        let answer = self.plain("POST", &session.path, "", "40").await?;
        ensure!(answer.status == 200, "entering was answered {}", answer.status);
        let answer = self.plain("GET", &session.path, "", "").await?;
        ensure!(answer.body.starts_with("40{"), "entering was answered {}", answer.body);
        Ok(session)
    }

    /// Nobody is known by this session's secret any more. It is asked in a way that means nothing to a session, and so never ends one.
    pub(super) async fn gone(&self, session: &Session) -> Result<()> {
        let answer = self.plain("PUT", &session.path, "", "").await?;
        ensure!(
            answer.status == 400 && answer.body.contains("\"code\":1"),
            "the session lives: {} {}",
            answer.status,
            answer.body
        );
        Ok(())
    }

    /// What `/metrics` says, by name and labels.
    pub(super) async fn metrics(&self) -> Result<BTreeMap<String, u64>> {
        let answer = self.api("GET", "/metrics", "", "").await?;
        ensure!(answer.status == 200, "/metrics was answered {}: {}", answer.status, answer.body);
        let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
        let parsed = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(parsed.collect())
    }

    /// Open file descriptors of the server.
    pub(super) async fn descriptors(&self) -> Result<u64> {
        self.metrics().await?.get("process_open_fds").copied().context("no number of descriptors")
    }

    /// Connections of Socket.IO clients.
    pub(super) async fn connections(&self) -> Result<u64> {
        let answer = self.plain("GET", "/healthz", "", "").await?;
        json(&answer.body)?["connections"].as_u64().context("no number of connections")
    }
}

/// A polling session and the secret it is known by.
pub(super) struct Session {
    pub(super) sid: String,
    pub(super) path: String,
}

/// The header field of a publisher.
pub(super) fn with_key() -> String {
    format!("Authorization: {AUTH_KEY}\r\n")
}

pub(super) fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))
}

/// The next text of the server.
pub(super) async fn heard(socket: &mut WebSocket) -> Result<String> {
    timeout(PATIENCE, socket.receive()).await.context("the server said nothing")?
}

/// The next text of the server is this one, pings left aside.
pub(super) async fn expect(socket: &mut WebSocket, expected: &str) -> Result<()> {
    loop {
        match heard(socket).await? {
            ping if ping == "2" => socket.send("3").await?,
            text if text == expected => return Ok(()),
            text => bail!("expected {expected}, heard {text}"),
        }
    }
}

/// The server ends the connection, and says why with a code.
pub(super) async fn expect_close(socket: &mut WebSocket, code: u16) -> Result<()> {
    let closed = timeout(PATIENCE, socket.close_code()).await.context("the server did not close")??;
    ensure!(closed == Some(code), "expected the close code {code}, got {closed:?}");
    Ok(())
}

/// Something took about this long.
pub(super) fn took_about(took: Duration, expected: Duration) -> Result<()> {
    let late = expected + Duration::from_secs(12);
    ensure!((expected.mul_f32(0.9)..late).contains(&took), "it took {took:?} instead of {expected:?}");
    Ok(())
}
