//! Why a connection ends, and what its client is told.
//!
//! Stock clients come back by themselves after their transport closes, and stay away after a Socket.IO disconnect (`41`). So
//! everything that is worth coming back for closes the transport.

use crate::metrics::Disconnected;
use channelapi_core::limits::{CLOSE_TIMEOUT, REVOKED_CLOSE_TIMEOUT};
use channelapi_protocol::engineio::Frame;
use channelapi_protocol::websocket::{CloseCode, DecodeError};
use std::time::Duration;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disconnect {
    /// The client said goodbye.
    Client,
    /// The network did.
    Lost,
    /// A ping stayed without an answer.
    PingTimeout,
    /// The client did not read what was sent to it.
    Slow,
    /// It read so little, and all clients together so little, that it had to go.
    SlowNode,
    /// Memory was short.
    Memory,
    /// The client sent more events than it may.
    Limit,
    /// The client is here again, with another connection.
    Replaced,
    /// The JWT that the client was let in with has ended, and no new one has come.
    Expired,
    /// What the client was let in with was revoked.
    Revoked,
    /// The same, and it has had its time to read that, and did not.
    Deaf,
    /// Whether the client may join cannot be judged now.
    Unavailable,
    /// The server stops.
    Drain,
    /// The client entered no namespace, or did not finish what it began, in time.
    ConnectTimeout,
    /// The client broke the rules of Engine.IO or Socket.IO.
    Protocol,
    /// The client broke the rules of WebSocket, or a limit of it.
    WebSocket(CloseCode),
}

impl Disconnect {
    /// The code of the WebSocket close frame. A client that should come back gets none, only the end of the connection: the Java
    /// client waits 45 seconds for a ping after a close frame, and at once reconnects without one.
    pub(super) fn close_code(self) -> Option<CloseCode> {
        match self {
            Self::Client => Some(CloseCode::NORMAL),
            Self::ConnectTimeout => Some(CloseCode(4501)),
            Self::Protocol => Some(CloseCode(4500)),
            Self::Limit => Some(CloseCode(4503)),
            Self::Revoked => Some(CloseCode(4504)),
            Self::WebSocket(code) => Some(code),
            Self::Lost
            | Self::Slow
            | Self::SlowNode
            | Self::Memory
            | Self::PingTimeout
            | Self::Replaced
            | Self::Expired
            | Self::Deaf
            | Self::Unavailable
            | Self::Drain => None,
        }
    }

    /// The reason as one word, for close frames and logs.
    pub(super) fn as_str(self) -> &'static str {
        self.counted().as_str()
    }

    /// As what it is counted.
    pub(super) fn counted(self) -> Disconnected {
        match self {
            Self::Client => Disconnected::Client,
            Self::Lost => Disconnected::Lost,
            Self::PingTimeout => Disconnected::PingTimeout,
            Self::Slow => Disconnected::Slow,
            Self::SlowNode => Disconnected::SlowNode,
            Self::Memory => Disconnected::Memory,
            Self::Limit => Disconnected::Limit,
            Self::Replaced => Disconnected::Replaced,
            Self::Expired => Disconnected::Expired,
            Self::Revoked | Self::Deaf => Disconnected::Revoked,
            Self::Unavailable => Disconnected::Unavailable,
            Self::Drain => Disconnected::Drain,
            Self::ConnectTimeout => Disconnected::ConnectTimeout,
            Self::Protocol => Disconnected::Protocol,
            Self::WebSocket(_) => Disconnected::WebSocket,
        }
    }

    /// Whether nothing more can or should be written, not even a farewell.
    pub(super) fn is_abrupt(self) -> bool {
        matches!(
            self,
            Self::Lost
                | Self::Slow
                | Self::SlowNode
                | Self::Memory
                | Self::PingTimeout
                | Self::Replaced
                | Self::Deaf
        )
    }

    /// How long the client of a WebSocket may take to read what it is told last. One that was revoked may come back for all we care: it
    /// is not let in again.
    pub(super) fn farewell_timeout(self) -> Duration {
        if self == Self::Revoked { REVOKED_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT }
    }

    /// Whether a polling client may still fetch what waits for it, with a poll that comes after the end: it said goodbye with
    /// one request while the next poll was on its way, or is to hear that it is put out and stay away.
    pub(super) fn lingers(self) -> bool {
        matches!(self, Self::Client | Self::Limit | Self::Revoked)
    }

    /// The last packet of a polling session. A client that said goodbye gets a noop, as in the reference server. When the client
    /// should come back there is none and the poll fails, because python-socketio takes a close packet for a farewell and stays away. One
    /// that is put out gets none either: socket.io-client hears of the packet `41` a moment after it has read a whole answer, and of a close
    /// packet at once, so that it would come back.
    pub(super) fn farewell(self) -> Option<Frame> {
        match self {
            Self::Client => Some(Frame::NOOP),
            Self::Drain
            | Self::Unavailable
            | Self::Expired
            | Self::Lost
            | Self::Slow
            | Self::SlowNode
            | Self::Memory
            | Self::Replaced
            | Self::Limit
            | Self::Revoked
            | Self::Deaf => None,
            Self::PingTimeout | Self::ConnectTimeout | Self::Protocol | Self::WebSocket(_) => {
                Some(Frame::CLOSE)
            }
        }
    }
}

impl From<DecodeError> for Disconnect {
    fn from(error: DecodeError) -> Self {
        Self::WebSocket(error.close_code())
    }
}
