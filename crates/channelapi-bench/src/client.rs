//! One Socket.IO client over a bare TCP stream, small enough to hold tens of thousands of them.
//!
//! It says exactly what a stock client says when it joins, and answers pings for as long as it lives.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::frame::{self, Decoder, Frame};
use crate::pusher;
use crate::stream::Stream;

/// The key from RFC 6455's example and the answer it must get: a random one would only cost the client a SHA-1.
pub(crate) const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The server's ping, and our answer.
const PING: &str = "2";
const PONG: &str = "3";

/// Both in centrifuge's protocol.
const CENTRIFUGE_PING: &str = "{}";

const RESPONSE_HEAD_MAX: usize = 8 << 10;

/// How a client comes into its channels.
#[derive(Clone)]
pub(crate) enum Door {
    /// It is let in and then joins one channel, whose token this is.
    Seed(String),
    /// It brings the tokens of all its channels while connecting.
    Handshake(Arc<Handshake>),
    /// It speaks centrifuge's JSON protocol and subscribes to one channel, whose name this is.
    Centrifuge(String),
    /// It speaks Pusher's protocol and subscribes to one channel, whose name this is.
    Pusher(String),
    /// Like [`Door::Seed`], with TLS, by this configuration.
    Secure(String, Arc<ClientConfig>),
    /// Like [`Door::Seed`], over HTTP long-polling; see [`crate::poller`].
    Polling(String),
}

/// What a client brings that joins while connecting.
pub(crate) struct Handshake {
    auth: Value,
    is_resumable: bool,
}

impl Door {
    /// The way into several channels at once, with or without the wish to come back to where one was.
    pub(crate) fn handshake(tokens: &[String], is_resumable: bool) -> Self {
        let auth = json!({ "tokens": tokens, "resume": is_resumable });
        Self::Handshake(Arc::new(Handshake { auth, is_resumable }))
    }

    /// The same way for a client that was here before: it says who it was and where it stands.
    pub(crate) fn again(&self, place: &Place) -> Self {
        let Self::Handshake(handshake) = self else { return self.clone() };
        let mut auth = handshake.auth.clone();
        auth["pid"] = place.pid.as_str().into();
        auth["offset"] = place.cursor.as_str().into();
        Self::Handshake(Arc::new(Handshake { auth, is_resumable: true }))
    }

    fn tls(&self) -> Option<&Arc<ClientConfig>> {
        match self {
            Self::Secure(_, config) => Some(config),
            _ => None,
        }
    }

    fn path(&self) -> &'static str {
        match self {
            Self::Centrifuge(_) => "/connection/websocket",
            Self::Pusher(_) => pusher::CLIENTS_PATH,
            Self::Seed(_) | Self::Secure(..) | Self::Polling(_) | Self::Handshake(_) => {
                "/socket.io/?EIO=4&transport=websocket"
            }
        }
    }
}

/// Who a resumable client is to its server, and how far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pid: String,
    pub(crate) cursor: String,
}

/// A connection that has joined its channels.
pub(crate) struct Client {
    stream: Stream,
    decoder: Decoder,
    /// Packets that arrived and were not looked at yet.
    packets: VecDeque<String>,
    /// As the server announced it.
    pub(crate) ping_interval: Duration,
    /// How many it has answered, those of WebSocket among them.
    pub(crate) pings: Arc<AtomicUsize>,
    /// Of a resumable one: where it stood when it had joined.
    pub(crate) place: Option<Box<Place>>,
}

impl Client {
    /// Connects and joins; returns when the server has confirmed it.
    pub(crate) async fn join(address: SocketAddr, door: &Door) -> Result<Self> {
        let (packets, decoder) = (VecDeque::new(), Decoder::default());
        let stream = Stream::connect(address, door.tls()).await?;
        let (interval, pings) = (Duration::ZERO, Arc::default());
        let mut client = Self { stream, decoder, packets, ping_interval: interval, pings, place: None };
        client.upgrade(address, door.path()).await.context("the WebSocket handshake failed")?;
        match door {
            Door::Centrifuge(channel) => client.join_as_centrifuge(channel).await?,
            Door::Pusher(channel) => client.join_as_pusher(channel).await?,
            door => client.join_as_socketio(door).await?,
        }
        Ok(client)
    }

    async fn join_as_socketio(&mut self, door: &Door) -> Result<()> {
        let open = self.expect("0{", "").await?;
        self.ping_interval =
            ping_interval(&open).with_context(|| format!("unusable open packet {open:?}"))?;
        match door {
            Door::Seed(token) | Door::Secure(token, _) => {
                self.send("40").await?;
                self.expect("40{", "\"sid\"").await?;
                self.expect("42[\"clientevent\",", "\"Connected\"").await?;
                self.send(&format!("42{}", json!(["join_channel", { "token": token }]))).await?;
                self.expect("42[\"clientevent\",", "\"Connected to ").await?;
            }
            Door::Handshake(handshake) => self.shake_hands(handshake).await?,
            Door::Centrifuge(_) | Door::Pusher(_) | Door::Polling(_) => {
                bail!("this is no way in for a Socket.IO client over WebSocket")
            }
        }
        Ok(())
    }

    /// Joins while connecting. A client that comes back may be sent what it missed before it hears that it is let in.
    async fn shake_hands(&mut self, handshake: &Handshake) -> Result<()> {
        self.send(&format!("40{}", handshake.auth)).await?;
        if !handshake.is_resumable {
            self.expect("40{", "\"sid\"").await?;
            self.expect("42[\"clientevent\",", "\"Connected\"").await?;
            return Ok(());
        }
        let (mut place, mut missed) = (Place::default(), VecDeque::new());
        while place.pid.is_empty() || place.cursor.is_empty() {
            let packet = self.next().await.context("the server does not let the client in")?;
            if let Some(answer) = packet.strip_prefix("40") {
                let answer: Value = serde_json::from_str(answer)?;
                answer["pid"].as_str().context("the server gave no pid")?.clone_into(&mut place.pid);
            } else if let Some(cursor) = checkpoint(&packet) {
                cursor.clone_into(&mut place.cursor);
            } else {
                missed.push_back(packet);
            }
        }
        missed.append(&mut self.packets);
        self.packets = missed;
        self.place = Some(Box::new(place));
        Ok(())
    }

    async fn join_as_centrifuge(&mut self, channel: &str) -> Result<()> {
        self.send(r#"{"id":1,"connect":{}}"#).await?;
        let answer: Value = serde_json::from_str(&self.expect("{\"id\":1,", "\"connect\"").await?)?;
        let seconds = answer["connect"]["ping"].as_u64().context("the server announces no pings")?;
        self.ping_interval = Duration::from_secs(seconds);
        self.send(&json!({ "id": 2, "subscribe": { "channel": channel } }).to_string()).await?;
        self.expect("{\"id\":2,", "\"subscribe\"").await.map(drop)
    }

    async fn join_as_pusher(&mut self, channel: &str) -> Result<()> {
        self.ping_interval = pusher::ping_interval(&self.expect("{", pusher::CONNECTED).await?)?;
        self.send(&pusher::subscribe(channel)).await?;
        self.expect("{", pusher::SUBSCRIBED).await.map(drop)
    }

    /// Hands every packet to `each` and answers pings, until the server closes the connection.
    pub(crate) async fn receive(mut self, mut each: impl FnMut(&str)) -> Result<()> {
        loop {
            let mut answers = Vec::new();
            let mut take = |packet: &str| match answer_to_ping(packet) {
                Some(answer) => answers.push(answer),
                None => each(packet),
            };
            let mut pings = 0;
            if self.packets.is_empty() {
                pings = read_packets(&mut self.stream, &mut self.decoder, take).await?;
            } else {
                // What came together with the last answer of joining.
                self.packets.drain(..).for_each(|packet| take(&packet));
            }
            self.pings.fetch_add(pings + answers.len(), Ordering::Relaxed);
            for answer in answers {
                self.send(answer).await?;
            }
        }
    }

    /// Reads nothing any more. Nobody is told when something arrives, which would take time from whoever is measured.
    pub(crate) fn pause(self) -> Result<Paused> {
        Ok(Paused(self.stream.into_tcp().into_std()?))
    }

    async fn upgrade(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
        );
        self.stream.write(request.as_bytes()).await?;
        let mut head = Vec::new();
        let end = loop {
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if head.len() > RESPONSE_HEAD_MAX {
                bail!("the response head is longer than {RESPONSE_HEAD_MAX} bytes");
            }
            let take = |bytes: &[u8]| {
                head.extend_from_slice(bytes);
                Ok(())
            };
            self.stream.read(take).await?;
        };
        let text = String::from_utf8_lossy(&head[..end]);
        if !text.starts_with("HTTP/1.1 101") || !text.contains(WEBSOCKET_ACCEPT) {
            bail!("the server answered {text:?}");
        }
        let packets = &mut self.packets;
        self.decoder.feed(&head[end..], |frame| {
            if let Frame::Text(packet) = frame {
                packets.push_back(packet.to_owned());
            }
            Ok(())
        })
    }

    /// The next packet, which must look as described; pings in between are answered.
    async fn expect(&mut self, start: &str, part: &str) -> Result<String> {
        let packet = self.next().await.with_context(|| format!("no packet {start}…{part}… came"))?;
        if !packet.starts_with(start) || !packet.contains(part) {
            bail!("expected a packet {start}…{part}…, got {packet:?}");
        }
        Ok(packet)
    }

    async fn next(&mut self) -> Result<String> {
        loop {
            let Some(packet) = self.packets.pop_front() else {
                let packets = &mut self.packets;
                let keep = |packet: &str| packets.push_back(packet.to_owned());
                read_packets(&mut self.stream, &mut self.decoder, keep).await?;
                continue;
            };
            match answer_to_ping(&packet) {
                Some(pong) => self.send(pong).await?,
                None => return Ok(packet),
            }
        }
    }

    async fn send(&mut self, packet: &str) -> Result<()> {
        self.stream.write(&frame::text(packet)).await
    }
}

/// A client that lets everything wait in its socket's buffer.
pub(crate) struct Paused(std::net::TcpStream);

impl Paused {
    /// Bytes that have arrived.
    pub(crate) fn arrived(&self) -> Result<usize> {
        Ok(usize::try_from(rustix::io::ioctl_fionread(&self.0)?)?)
    }
}

/// Waits for bytes and hands over the packets they complete; WebSocket pings are answered here. Returns how many these were.
async fn read_packets(
    stream: &mut Stream,
    decoder: &mut Decoder,
    mut each: impl FnMut(&str),
) -> Result<usize> {
    let (mut answers, mut pings) = (Vec::new(), 0);
    let decode = |bytes: &[u8]| {
        decoder.feed(bytes, |frame| {
            match frame {
                // Centrifuge puts several messages into one frame, a line each.
                Frame::Text(packet) if packet.starts_with('{') => packet.lines().for_each(&mut each),
                Frame::Text(packet) => each(packet),
                Frame::Ping(payload) => {
                    pings += 1;
                    answers.extend(frame::pong(payload));
                }
                Frame::Close => bail!("the server closed the connection"),
            }
            Ok(())
        })
    };
    stream.read(decode).await?;
    if !answers.is_empty() {
        stream.write(&answers).await?;
    }
    Ok(pings)
}

/// What is said to a ping; `None` if the packet is none.
fn answer_to_ping(packet: &str) -> Option<&'static str> {
    match packet {
        PING => Some(PONG),
        CENTRIFUGE_PING => Some(CENTRIFUGE_PING),
        packet if pusher::is_ping(packet) => Some(pusher::PONG),
        _ => None,
    }
}

/// The cursor in a packet that tells a client where it stands.
pub(crate) fn checkpoint(packet: &str) -> Option<&str> {
    packet.strip_prefix("42[\"checkpoint\",\"")?.strip_suffix("\"]")
}

/// What an open packet announces.
pub(crate) fn ping_interval(open: &str) -> Option<Duration> {
    let open: Value = serde_json::from_str(open.strip_prefix('0')?).ok()?;
    open["pingInterval"].as_u64().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::frame::{server_text, unmasked};

    #[test]
    fn ping_interval_is_read_from_the_open_packet() {
        let open =
            r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}"#;
        assert_eq!(ping_interval(open), Some(Duration::from_secs(25)));
        assert_eq!(ping_interval("0{}"), None);
        assert_eq!(ping_interval("40"), None);
    }

    /// A server may ping at once (socketioxide does); the ping then lies in the same bytes as the last answer of joining,
    /// and a client that overlooked it was disconnected 45 seconds later.
    #[tokio::test]
    async fn ping_that_comes_with_the_last_answer_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = [0; 1024];
            let upgrade = format!(
                "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
            );
            let answers = [
                [upgrade.into_bytes(), server_text(r#"0{"pingInterval":25000}"#)].concat(),
                [server_text(r#"40{"sid":"a"}"#), server_text(r#"42["clientevent",{"data":"Connected"}]"#)]
                    .concat(),
                [server_text(r#"42["clientevent",{"data":"Connected to a"}]"#), server_text(PING)].concat(),
            ];
            for answer in answers {
                assert!(stream.read(&mut received).await.unwrap() > 0);
                stream.write_all(&answer).await.unwrap();
            }
            let count = stream.read(&mut received).await.unwrap();
            unmasked(&received[..count]).unwrap()
        });
        let client = Client::join(address, &Door::Seed("token".to_owned())).await.unwrap();
        let staying = tokio::spawn(client.receive(|packet| panic!("{packet} is no publication")));
        let answer = timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
        assert_eq!(answer, server_text(PONG));
        assert!(
            timeout(Duration::from_secs(20), staying).await.unwrap().unwrap().is_err(),
            "the server has gone"
        );
    }
}
