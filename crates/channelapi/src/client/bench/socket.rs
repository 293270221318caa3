//! A Socket.IO client over WebSocket that joins one channel: it says what a stock client says, and owns no buffer while it is idle.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Poll, ready},
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use channelapi_protocol::websocket::frame::{Opcode, encode_masked};

use super::{
    inbox::{Inbox, Message},
    tally::{Mishap, Trouble},
};
use crate::client::{
    Target,
    secure::{self, Secure},
};

/// The key of RFC 6455's example, and the answer to it: a random one would prove nothing more about the server.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A server under load answers late, a dead one never.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

const HEAD_BYTES_MAX: usize = 16 << 10;

/// A mask keeps web pages from writing bytes of their choice through old proxies. What is sent here no web page chose.
const MASK: [u8; 4] = [0x5c, 0x1a, 0xe3, 0x97];

thread_local! {
    /// Where all clients of the thread read into.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 << 10].into());
}

/// The way into the channel.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// Where clients connect, and whom they trust.
    pub(super) target: Target,
    /// None where clients speak plain HTTP.
    pub(super) secure: Option<Secure>,
    /// As the header `Host` has it.
    pub(super) host: String,
    /// The path of Socket.IO, without a query.
    pub(super) path: String,
    pub(super) token: String,
    /// Whether clients can come back to where they were.
    pub(super) is_resumable: bool,
}

/// Who a client is to the server, and how far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pid: String,
    pub(super) cursor: String,
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// What both kinds of stream can do.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Stream {
    fn duplex(&mut self) -> &mut dyn Duplex {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => stream,
        }
    }
}

/// A client that is in the channel.
pub(super) struct Socket {
    stream: Stream,
    inbox: Inbox,
    /// What arrived while it joined and belongs to what comes after.
    packets: VecDeque<String>,
    /// Of a client that can come back.
    pub(super) place: Place,
}

impl Socket {
    /// Connects and joins, perhaps as the one that was there before; returns when the server has confirmed it.
    pub(super) async fn join(door: &Door, place: Option<&Place>) -> Result<Self, Trouble> {
        let joining = async {
            let stream = connect(door.address).await;
            let stream = stream.map_err(|error| Trouble::new(Mishap::Connect, explain(&error)))?;
            let stream = match &door.secure {
                None => Stream::Plain(stream),
                Some(secure) => {
                    let shaken = secure.connect(stream).await.map_err(|error| {
                        let why = secure::explain(&door.target, &error).in_short(&door.target);
                        Trouble::new(Mishap::Connect, why)
                    });
                    Stream::Secure(Box::new(shaken?))
                }
            };
            let mut socket =
                Self { stream, inbox: Inbox::default(), packets: VecDeque::new(), place: Place::default() };
            let let_in = async {
                socket.upgrade(door).await?;
                socket.enter(door, place).await
            };
            let_in.await.map_err(|why| Trouble::new(Mishap::Join, why))?;
            Ok(socket)
        };
        let late = || Trouble::new(Mishap::Join, format!("no answer within {JOIN_TIMEOUT:?}"));
        timeout(JOIN_TIMEOUT, joining).await.unwrap_or_else(|_| Err(late()))
    }

    async fn upgrade(&mut self, door: &Door) -> Result<(), String> {
        let request = format!(
            "GET {}?EIO=4&transport=websocket HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n",
            door.path, door.host
        );
        self.write(request.as_bytes()).await?;
        let mut head = Vec::new();
        let end = loop {
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if head.len() > HEAD_BYTES_MAX {
                return Err("what answers does not speak HTTP".to_owned());
            }
            let take = |bytes: &[u8]| {
                head.extend_from_slice(bytes);
                Ok(())
            };
            read(&mut self.stream, take).await?;
        };
        let text = String::from_utf8_lossy(&head[..end]);
        if !text.starts_with("HTTP/1.1 101") || !text.contains(WEBSOCKET_ACCEPT) {
            let status = text.lines().next().unwrap_or_default();
            return Err(format!("no WebSocket at {}: the server answered `{status}`", door.path));
        }
        let packets = &mut self.packets;
        self.inbox.feed(&head[end..], |message| {
            if let Message::Text(packet) = message {
                packets.push_back(packet.to_owned());
            }
        })
    }

    /// A client that comes back may be sent what it missed before it hears that it is let in.
    async fn enter(&mut self, door: &Door, place: Option<&Place>) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Admission {
            pid: String,
        }
        let mut auth = json!({ "token": door.token, "resume": door.is_resumable });
        if let Some(Place { pid, cursor }) = place {
            auth["pid"] = pid.as_str().into();
            auth["offset"] = cursor.as_str().into();
        }
        self.write(&text(&format!("40{auth}"))).await?;
        let (mut early, mut is_in) = (VecDeque::new(), false);
        let mut standing = Place::default();
        while !is_in || (door.is_resumable && (standing.pid.is_empty() || standing.cursor.is_empty())) {
            let packet = self.next().await?;
            if let Some(answer) = packet.strip_prefix("40") {
                if let Ok(Admission { pid }) = serde_json::from_str(answer) {
                    standing.pid = pid;
                }
                is_in = true;
            } else if let Some(reason) = packet.strip_prefix("44") {
                return Err(format!("the server does not let clients in: {reason}"));
            } else if let Some(cursor) = checkpoint(&packet) {
                cursor.clone_into(&mut standing.cursor);
                early.push_back(packet);
            } else {
                early.push_back(packet);
            }
        }
        early.append(&mut self.packets);
        (self.packets, self.place) = (early, standing);
        Ok(())
    }

    /// Hands over what came while it joined.
    pub(super) fn early(&mut self, mut each: impl FnMut(&str)) {
        self.packets.drain(..).for_each(|packet| each(&packet));
    }

    async fn next(&mut self) -> Result<String, String> {
        loop {
            if let Some(packet) = self.packets.pop_front() {
                return Ok(packet);
            }
            let mut packets = VecDeque::new();
            self.read(|packet| packets.push_back(packet.to_owned())).await?;
            self.packets = packets;
        }
    }

    /// Waits for packets and hands them over; pings are answered. What fails says that the connection is lost. May be given up
    /// while it waits.
    pub(super) async fn read(&mut self, mut each: impl FnMut(&str)) -> Result<(), String> {
        if !self.packets.is_empty() {
            self.early(each);
            return Ok(());
        }
        let Self { stream, inbox, .. } = self;
        let (mut answers, mut is_over) = (Vec::new(), false);
        let decode = |bytes: &[u8]| {
            inbox.feed(bytes, |message| match message {
                Message::Text("2") => answers.extend(text("3")),
                Message::Text(packet) => each(packet),
                Message::Ping(payload) => answers.extend(encode_masked(Opcode::Pong, &[payload], MASK)),
                Message::Close => is_over = true,
            })
        };
        read(stream, decode).await?;
        if is_over {
            return Err("the server closed the connection".to_owned());
        }
        if answers.is_empty() { Ok(()) } else { self.write(&answers).await }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let stream = self.stream.duplex();
        stream.write_all(bytes).await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())
    }
}

fn text(packet: &str) -> Vec<u8> {
    encode_masked(Opcode::Text, &[packet.as_bytes()], MASK)
}

/// The cursor in a packet that tells a client where it stands.
pub(super) fn checkpoint(packet: &str) -> Option<&str> {
    packet.strip_prefix("42[\"checkpoint\",\"")?.strip_suffix("\"]")
}

/// Waits for bytes and hands them over once.
async fn read(stream: &mut Stream, mut take: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let outcome = ready!(Pin::new(stream.duplex()).poll_read(cx, &mut buffer));
            outcome.map_err(|error| error.to_string())?;
            Poll::Ready(match buffer.filled() {
                [] => Err("the server closed the connection".to_owned()),
                bytes => take(bytes),
            })
        })
    })
    .await
}

/// From another address each time where this machine is the server: one address has some 28,000 ports to connect from.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Only Linux has the whole of 127.0.0.0/8 without being asked to.
    if cfg!(target_os = "linux") && address.is_ipv4() && address.ip().is_loopback() {
        // 127.1.0.1 and up.
        let own = 0x7f01_0001 + NEXT.fetch_add(1, Ordering::Relaxed) % 0x00e0_0000;
        socket.bind((Ipv4Addr::from_bits(own), 0).into())?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "{error}: all ports of this machine towards that address are taken; use fewer connections"
            )
        }
        _ => error.to_string(),
    }
}
