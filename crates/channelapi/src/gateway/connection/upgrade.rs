//! What a WebSocket does to a connection that it takes over from polling.

use super::Connection;
use super::state::register;
use crate::metrics::UPGRADED;
use crate::stream::WriteHalf;
use channelapi_protocol::engineio::Violation;
use std::task::{Context, Poll};

impl Connection {
    pub(in crate::gateway) fn begin_probe(&self) -> Result<(), Violation> {
        self.state.lock().session.begin_probe()
    }

    /// `2probe` came: the waiting poll may go.
    pub(in crate::gateway) fn probed(&self) {
        let mut state = self.state.lock();
        state.session.probe();
        state.wake();
    }

    /// Waits until the session ends while a WebSocket tries to take over.
    pub(in crate::gateway) fn poll_ended_while_probing(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_ended(cx, |polling| &mut polling.probe)
    }

    /// Waits until no POST is being read: what it brings comes before what the WebSocket does.
    pub(in crate::gateway) fn poll_posted(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.session.is_posting() {
            return Poll::Ready(());
        }
        if let Some(polling) = &mut state.polling {
            register(&mut polling.probe, cx);
        }
        Poll::Pending
    }

    /// `5` came: everything leaves by `socket` from now on, first what waits.
    pub(in crate::gateway) fn upgrade(&self, socket: WriteHalf) -> Result<(), Violation> {
        let mut state = self.state.lock();
        state.session.upgrade()?;
        state.outbox.attach(socket);
        UPGRADED.count();
        // A poll that is still held back is told that the session has moved.
        state.wake();
        state.polling = None;
        Ok(())
    }

    /// The WebSocket failed before `5`.
    pub(in crate::gateway) fn end_probe(&self) {
        self.state.lock().session.end_probe();
    }
}
