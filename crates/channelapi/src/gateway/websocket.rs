//! Engine.IO over WebSocket: the handshake, and taking over from polling. `websocket/task.rs` is the one task of each connection.
//!
//! Invariants:
//! - Whatever is wrong with a request is said in HTTP, before the 101. (The exception is the protocol's own: a second WebSocket
//!   for a session is opened and closed.)
//! - After the 101 nothing of HTTP is kept: the socket is taken out of it and its memory freed.
//! - A socket that has left HTTP counts for the node until it is gone: with its task, or before it has one as [`Counted`].

mod task;

#[cfg(test)]
pub(super) use task::task_bytes;

use super::connection::Connection;
use super::{Arrival, Gateway, random_id};
use crate::admission::SessionPass;
use crate::http::{self, Headers, Response, as_text};
use crate::metrics::UpgradeFailed;
use crate::stream::{ReadHalf, Stream, WriteHalf};
use channelapi_core::limits::{CLOSE_TIMEOUT, FRAGMENTS_MAX, UPGRADE_TIMEOUT};
use channelapi_protocol::engineio::{Frame, RequestError};
use channelapi_protocol::websocket::frame::{Opcode, encode, encode_close};
use channelapi_protocol::websocket::handshake::{HandshakeError, UpgradeRequest, names};
use channelapi_protocol::websocket::{CloseCode, Decoder, Limits, Message};
use hyper::StatusCode;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use std::future::poll_fn;
use std::sync::Arc;
use task::Task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What the socket is for that a client was promised with a 101.
pub(crate) struct Upgrade(Purpose);

enum Purpose {
    /// A new session.
    Open(Arc<Gateway>, SessionPass),
    /// To take over a session that polls, if it proves itself.
    TakeOver(Probe),
    /// Nothing: the session has a WebSocket.
    TurnAway(Counted),
}

/// A probe that ends for the session when it is dropped.
struct Probe {
    session: Arc<Connection>,
    _socket: Counted,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.session.end_probe();
    }
}

/// A WebSocket that is no session's, as one of those that the node has, until it is dropped.
struct Counted(Arc<Gateway>);

impl Counted {
    fn of(session: &Connection) -> Self {
        let gateway = session.gateway().clone();
        gateway.admission.begin_websocket_of_nobody();
        Self(gateway)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.admission.end_websocket_of_nobody();
    }
}

/// Answers a GET request of HTTP/1.1 to open a WebSocket.
pub(super) fn accept(headers: &impl Headers, arrival: Arrival) -> Result<(Response, Upgrade), RequestError> {
    let accept = upgrade_request(headers).accept().map_err(|error| match error {
        HandshakeError::Version => RequestError::WebSocketVersion,
        HandshakeError::NotAnUpgrade | HandshakeError::Key => RequestError::BadRequest,
    })?;
    let purpose = match arrival {
        Arrival::New(gateway, pass) => Purpose::Open(gateway, pass),
        Arrival::Again(session) => {
            session.check_alive();
            if session.is_over() {
                return Err(RequestError::UnknownSession);
            }
            let socket = Counted::of(&session);
            match session.begin_probe() {
                Ok(()) => Purpose::TakeOver(Probe { session, _socket: socket }),
                Err(_) => Purpose::TurnAway(socket),
            }
        }
    };
    let mut response = http::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    name_websocket(headers);
    let accept = HeaderValue::try_from(accept).expect("base64 is a header value");
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok((response, Upgrade(purpose)))
}

/// Says which version of WebSocket we speak, to a client that asks for another (RFC 6455 §4.4).
pub(super) fn name_version(headers: &mut HeaderMap) {
    name_websocket(headers);
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
}

fn name_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn upgrade_request(headers: &impl Headers) -> UpgradeRequest<'_> {
    let lines = |name| headers.all(name).filter_map(as_text);
    UpgradeRequest {
        is_upgrade: names(lines(&UPGRADE), "websocket") && names(lines(&CONNECTION), "upgrade"),
        version: only(headers, &SEC_WEBSOCKET_VERSION),
        key: only(headers, &SEC_WEBSOCKET_KEY),
    }
}

/// A header that must not come twice (RFC 6455 §11.3.1 and §11.3.5).
fn only<'a>(headers: &'a impl Headers, name: &'a HeaderName) -> Option<&'a str> {
    let mut all = headers.all(name);
    let first = all.next().and_then(as_text)?;
    all.next().is_none().then_some(first)
}

impl Upgrade {
    /// Makes use of the socket, whose client has `sent` something behind its request. What is left of the `answer` to that is still to
    /// be written. The connection's own task is started apart, because it is smaller than whatever calls this.
    pub(crate) async fn begin(self, stream: Stream, answer: Vec<u8>, sent: &[u8]) {
        match self.0 {
            Purpose::Open(gateway, pass) => {
                let (read, write) = stream.into_split();
                let decoder = decoder(&gateway, sent);
                let make = |id, gateway, pass| Connection::websocket(id, gateway, pass, write);
                if let Some(connection) = gateway.open(&random_id(), false, pass, answer, make) {
                    Task::start(connection, read, decoder);
                }
            }
            Purpose::TakeOver(probe) => take_over(probe, stream, &answer, sent).await,
            Purpose::TurnAway(_socket) => turn_away(stream, answer).await,
        }
    }

    /// The client was gone before it got the socket. Counts it, if it was for a session.
    pub(crate) fn lost(self) {
        match self.0 {
            Purpose::Open(..) => {}
            Purpose::TakeOver(_) => UpgradeFailed::Unproven.count(),
            Purpose::TurnAway(_) => UpgradeFailed::Busy.count(),
        }
    }
}

/// A decoder that holds what a client sent behind its request.
fn decoder(gateway: &Gateway, sent: &[u8]) -> Decoder {
    let limits = Limits { message_bytes: gateway.settings.max_payload, fragments: FRAGMENTS_MAX };
    let mut decoder = Decoder::new(limits);
    decoder.keep(sent);
    decoder
}

/// Lets a new WebSocket prove itself with `2probe` and `5`, then makes it the session's transport.
async fn take_over(probe: Probe, mut stream: Stream, answer: &[u8], sent: &[u8]) {
    let session = &probe.session;
    let decoder = decoder(session.gateway(), sent);
    let proven = async {
        stream.write_all(answer).await.ok()?;
        stream.flush().await.ok()?;
        let (read, write) = stream.into_split();
        let mut candidate = Candidate { read, write, decoder };
        if !candidate.prove(session).await {
            return None;
        }
        poll_fn(|cx| session.poll_posted(cx)).await;
        Some(candidate)
    };
    let proven = tokio::select! {
        proven = tokio::time::timeout(UPGRADE_TIMEOUT, proven) => match proven {
            Ok(candidate) => candidate.ok_or(UpgradeFailed::Unproven),
            Err(_) => Err(UpgradeFailed::Timeout),
        },
        () = poll_fn(|cx| session.poll_ended_while_probing(cx)) => Err(UpgradeFailed::Ended),
    };
    let taken = proven.and_then(|Candidate { read, write, decoder }| {
        session.upgrade(write).map_err(|_| UpgradeFailed::Ended)?;
        Ok((read, decoder))
    });
    match taken {
        Ok((read, decoder)) => Task::start(session.clone(), read, decoder),
        Err(reason) => reason.count(),
    }
}

/// Closes a WebSocket for a session that has one.
async fn turn_away(mut stream: Stream, mut answer: Vec<u8>) {
    UpgradeFailed::Busy.count();
    answer.extend(encode_close(CloseCode(4500), "the session has a websocket"));
    let told = async {
        stream.write_all(&answer).await?;
        stream.flush().await
    };
    _ = tokio::time::timeout(CLOSE_TIMEOUT, told).await;
}

/// A WebSocket that may take over a session.
struct Candidate {
    read: ReadHalf,
    write: WriteHalf,
    decoder: Decoder,
}

impl Candidate {
    /// Whether the client sent what it must. Anything else ends the candidate, not the session.
    async fn prove(&mut self, session: &Connection) -> bool {
        if !self.next_text_is("2probe", session).await {
            return false;
        }
        session.probed();
        self.write.write_all(Frame::PROBE_PONG.wire()).await.is_ok() && self.next_text_is("5", session).await
    }

    async fn next_text_is(&mut self, expected: &str, session: &Connection) -> bool {
        let mut buffer = [0; 512];
        let mut filled = 0;
        loop {
            let mut at = 0;
            let is_expected = loop {
                match self.decoder.next(&mut buffer[..filled], &mut at) {
                    Ok(Some(Message::Text(text))) => break Some(text == expected),
                    Ok(Some(Message::Ping(bytes))) => {
                        let pong = encode(Opcode::Pong, &[bytes]);
                        if !session.may_send() || self.write.write_all(&pong).await.is_err() {
                            break Some(false);
                        }
                    }
                    Ok(Some(Message::Pong(_))) => {}
                    Ok(Some(_)) | Err(_) => break Some(false),
                    Ok(None) => break None,
                }
            };
            if let Some(is_expected) = is_expected {
                self.decoder.keep(&buffer[at..filled]);
                return is_expected;
            }
            match self.read.read(&mut buffer).await {
                Ok(0) | Err(_) => return false,
                Ok(read) => filled = read,
            }
        }
    }
}
