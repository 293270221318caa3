//! How many connections have left HTTP for WebSocket. They are smaller without a pass, so whoever has one says when it is gone.

use super::Admission;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections that have left HTTP.
#[derive(Debug, Default)]
pub(super) struct WebSockets {
    of_sessions: AtomicUsize,
    of_nobody: AtomicUsize,
}

impl WebSockets {
    /// Those over which a session speaks, which needs no other connection for it.
    pub(super) fn of_sessions(&self) -> usize {
        self.of_sessions.load(Ordering::Relaxed)
    }
}

impl Admission {
    /// Connections that have left HTTP for WebSocket.
    pub(crate) fn websockets(&self) -> usize {
        self.websockets.of_sessions() + self.websockets.of_nobody.load(Ordering::Relaxed)
    }

    /// A session speaks over a WebSocket, until [`Self::end_websocket`].
    pub(crate) fn begin_websocket(&self) {
        self.websockets.of_sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// The WebSocket of a session is gone.
    pub(crate) fn end_websocket(&self) {
        self.websockets.of_sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection has left HTTP over which no session speaks: it may take one over, or is turned away. It is one until
    /// [`Self::end_websocket_of_nobody`].
    pub(crate) fn begin_websocket_of_nobody(&self) {
        self.websockets.of_nobody.fetch_add(1, Ordering::Relaxed);
    }

    /// A WebSocket is gone over which no session spoke, or it has become a session's.
    pub(crate) fn end_websocket_of_nobody(&self) {
        self.websockets.of_nobody.fetch_sub(1, Ordering::Relaxed);
    }
}
