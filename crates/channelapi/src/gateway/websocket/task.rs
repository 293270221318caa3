//! The one task of each WebSocket, from its session's first message to its last.
//!
//! Invariants:
//! - An idle connection has no read buffer: its task waits for the socket, then reads into one that all tasks of a thread share.
//! - While a message is handled, nothing is read: whoever sends too fast waits.

use crate::gateway::connection::Connection;
use crate::gateway::connection::application::{Handled, Inbound};
use crate::gateway::disconnect::Disconnect;
use crate::receiving::Receiving;
use crate::stream::{ReadHalf, with_read_buffer};
use channelapi_core::limits::{CLOSE_TIMEOUT, MESSAGE_TIMEOUT, MESSAGES_PER_TURN};
use channelapi_protocol::engineio::{Frame, Packet};
use channelapi_protocol::websocket::frame::{Opcode, encode, encode_close};
use channelapi_protocol::websocket::{Decoder, Message};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf};

/// What runs as long as a WebSocket does.
pub(super) struct Task {
    connection: Arc<Connection>,
    read: ReadHalf,
    decoder: Decoder,
    /// A message whose handling goes on; nothing is read before it is done.
    handling: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Whether messages that have arrived wait in the decoder, because it was the turn of others.
    is_behind: bool,
    /// When the message began of which a part has arrived, in seconds of the gateway's clock; 0 without one.
    unfinished_since: u32,
    /// What is here of that message, and of those that wait.
    receiving: Receiving,
}

/// Bytes of what the runtime keeps of a WebSocket while it idles.
#[cfg(test)]
pub(in crate::gateway) fn task_bytes() -> usize {
    fn of<F: Future>(_: impl FnOnce(Task) -> F) -> usize {
        size_of::<F>()
    }
    of(Task::run)
}

impl Task {
    pub(super) fn start(connection: Arc<Connection>, read: ReadHalf, decoder: Decoder) {
        tokio::spawn(Self::new(connection, read, decoder).run());
    }

    fn new(connection: Arc<Connection>, read: ReadHalf, decoder: Decoder) -> Self {
        connection.gateway().admission.begin_websocket();
        // What came behind the handshake is in the decoder.
        Self {
            connection,
            read,
            decoder,
            handling: None,
            is_behind: true,
            unfinished_since: 0,
            receiving: Receiving::default(),
        }
    }

    async fn run(mut self) {
        let reason = poll_fn(|cx| self.poll(cx)).await;
        self.connection.close(reason);
        let reason = self.connection.ended().unwrap_or(reason);
        if !reason.is_abrupt() {
            // Boxed, so that the many that run do not hold room for the few that end.
            _ = Box::pin(tokio::time::timeout(CLOSE_TIMEOUT, self.say_goodbye(reason))).await;
        }
        self.connection.detach();
    }

    /// Writes what waits and reads what comes, until there is a reason to end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Disconnect> {
        let mut turn = MESSAGES_PER_TURN;
        loop {
            if let Poll::Ready(reason) = self.connection.poll_outbox(cx) {
                return Poll::Ready(reason);
            }
            if turn == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let ended = if let Some(handling) = &mut self.handling {
                ready!(handling.as_mut().poll(cx));
                self.handling = None;
                self.is_behind = true;
                None
            } else if self.is_behind {
                self.process(&mut [], &mut turn)
            } else {
                ready!(self.poll_read(cx, &mut turn))
            };
            if let Some(reason) = ended {
                return Poll::Ready(reason);
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, turn: &mut usize) -> Poll<Option<Disconnect>> {
        with_read_buffer(|buffer| {
            let mut unread = ReadBuf::new(buffer);
            let read = ready!(Pin::new(&mut self.read).poll_read(cx, &mut unread));
            let length = unread.filled().len();
            if read.is_err() || length == 0 {
                return Poll::Ready(Some(Disconnect::Lost));
            }
            Poll::Ready(self.process(&mut buffer[..length], turn))
        })
    }

    /// Handles the messages kept from before and those in `input`, while it is this client's turn.
    fn process(&mut self, input: &mut [u8], turn: &mut usize) -> Option<Disconnect> {
        let mut at = 0;
        self.is_behind = false;
        loop {
            if *turn == 0 || self.handling.is_some() {
                self.decoder.keep(&input[at..]);
                self.is_behind = true;
                let is_held = self.receiving.hold(self.decoder.held_bytes());
                return is_held.is_err().then_some(Disconnect::Memory);
            }
            *turn -= 1;
            let handled = match self.decoder.next(input, &mut at) {
                Ok(None) => return self.check_unfinished(),
                Ok(Some(message)) => {
                    // Pings may stand between the parts of a message, and do not end it.
                    if matches!(message, Message::Text(_) | Message::Binary(_)) {
                        self.unfinished_since = 0;
                    }
                    handle(&self.connection, message)
                }
                Err(error) => Err(error.into()),
            };
            match handled {
                Ok(Handled::Now) => {}
                Ok(Handled::Later(work)) => self.handling = Some(work),
                Err(reason) => return Some(reason),
            }
            if let Some(reason) = self.connection.ended() {
                return Some(reason);
            }
        }
    }

    /// Ends a client that began a message, and for too long sends everything but the rest of it. Whoever sends nothing at all is found
    /// by the heartbeat.
    fn check_unfinished(&mut self) -> Option<Disconnect> {
        let is_held = self.receiving.hold(self.decoder.held_bytes());
        if !self.decoder.is_mid_message() {
            self.unfinished_since = 0;
            return None;
        }
        if is_held.is_err() {
            return Some(Disconnect::Memory);
        }
        // So many seconds are more than a century.
        let now = u32::try_from(self.connection.gateway().now() / 1000).unwrap_or(u32::MAX).max(1);
        if self.unfinished_since == 0 {
            self.unfinished_since = now;
        }
        let is_late = u64::from(now - self.unfinished_since) > MESSAGE_TIMEOUT.as_secs();
        is_late.then_some(Disconnect::ConnectTimeout)
    }

    /// Sends what still waits and perhaps a close frame, ends our side, then waits for the client to close, lest its last bytes make the kernel
    /// throw away ours.
    async fn say_goodbye(&mut self, reason: Disconnect) {
        let connection = &self.connection;
        let farewell = async {
            poll_fn(|cx| connection.poll_drained(cx)).await;
            if let Some(code) = reason.close_code() {
                connection.send_last(encode_close(code, reason.as_str()));
                poll_fn(|cx| connection.poll_drained(cx)).await;
            }
        };
        if tokio::time::timeout(reason.farewell_timeout(), farewell).await.is_err() {
            return;
        }
        self.connection.detach();
        let mut ignored = [0; 256];
        while self.read.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.connection.gateway().admission.end_websocket();
    }
}

/// Handles one message of a WebSocket; the reason to end, if it is one.
fn handle(connection: &Arc<Connection>, message: Message<'_>) -> Result<Handled, Disconnect> {
    match message {
        Message::Text(text) => match Packet::parse(text) {
            Ok(Packet::Text(text)) => Ok(connection.message(Inbound::Text(text))),
            Ok(Packet::Pong(_)) => {
                connection.pong();
                Ok(Handled::Now)
            }
            // They ask for nothing, and are read all the same.
            Ok(Packet::Upgrade | Packet::Noop) => {
                connection.may_send();
                Ok(Handled::Now)
            }
            Ok(Packet::Close) => Err(Disconnect::Client),
            // In Engine.IO 4 only the server pings; binary comes as a binary message.
            Ok(Packet::Ping(_) | Packet::Binary(_)) | Err(_) => Err(Disconnect::Protocol),
        },
        Message::Binary(bytes) => Ok(connection.message(Inbound::Binary(bytes))),
        Message::Ping(_) if !connection.may_send() => Ok(Handled::Now),
        Message::Ping(bytes) => {
            connection.send(&Frame::from_wire(encode(Opcode::Pong, &[bytes]).into()));
            Ok(Handled::Now)
        }
        // We send no pings of this kind.
        Message::Pong(_) => {
            connection.may_send();
            Ok(Handled::Now)
        }
        Message::Close(_) => Err(Disconnect::Client),
    }
}

#[cfg(test)]
mod tests {
    use super::super::decoder;
    use super::*;
    use crate::admission::Admission;
    use crate::config::origins::Origins;
    use crate::gateway::{Application, Gateway, Settings, random_id};
    use crate::live::Live;
    use crate::stream::Stream;
    use channelapi_core::clock::Clock;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Takes its time for the first message.
    #[derive(Default)]
    struct Slow(AtomicBool);

    impl Application for Slow {
        fn opened(&self, _: &Arc<Connection>) {}

        fn message(&self, _: &Arc<Connection>, _: Inbound<'_>) -> Handled {
            if self.0.swap(true, Ordering::Relaxed) {
                return Handled::Now;
            }
            Handled::Later(Box::pin(std::future::pending()))
        }

        fn drained(&self, _: &Connection) {}

        fn revoked(&self, _: &Connection) {}

        fn closed(&self, _: &Connection) {}
    }

    /// Once, only what was still to come of a message counted, and not what waited behind a join.
    #[tokio::test]
    async fn messages_that_wait_for_one_before_them_count_as_received() {
        const WAITING: usize = 50;
        let settings = Settings::new(25_000, 20_000, 65_536, Live::new(Origins::Any));
        let (clock, admission) = (Clock::system(), Admission::unlimited(Clock::system()));
        let gateway = Gateway::new(settings, Box::new(Slow::default()), clock, admission.clone());
        let (server, _client) = tokio::net::UnixStream::pair().unwrap();
        let (read, write) = Stream::Unix(server).into_split();
        let pass = admission.admit_session(None).unwrap();
        let make = |id, gateway, pass| Connection::websocket(id, gateway, pass, write);
        let connection = gateway.open(&random_id(), false, pass, Vec::new(), make).unwrap();
        // A mask of zeros is a mask.
        let message = [&[0x81, 0xFE, 3, 0xE8, 0, 0, 0, 0][..], b"4", &[b'x'; 999]].concat();
        let sent = decoder(&gateway, &message.repeat(1 + WAITING));
        let mut task = Task::new(connection, read, sent);

        assert_eq!(task.process(&mut [], &mut 2), None);
        assert!(task.handling.is_some() && task.receiving.bytes() >= WAITING * message.len());
        task.handling = None;
        assert_eq!(task.process(&mut [], &mut 2), None);
        assert!(
            task.is_behind && task.receiving.bytes() >= (WAITING - 2) * message.len(),
            "it is the turn of others"
        );
        assert_eq!(task.process(&mut [], &mut { WAITING }), None);
        assert_eq!((task.is_behind, task.receiving.bytes()), (false, 0));

        assert_eq!(admission.websockets(), 1);
        drop(task);
        assert_eq!(admission.websockets(), 0);
    }
}
