//! What a WebSocket's task does: it writes what waits, and says when nobody writes any more.

use super::super::disconnect::Disconnect;
use super::Connection;
use super::state::register;
use std::task::{Context, Poll};

impl Connection {
    /// Writes what waits. Ready when there is a reason to end.
    pub(in crate::gateway) fn poll_outbox(&self, cx: &mut Context<'_>) -> Poll<Disconnect> {
        let is_to_tell = {
            let mut state = self.state.lock();
            if let Some(reason) = state.ended {
                return Poll::Ready(reason);
            }
            if let Poll::Ready(Err(_)) = state.outbox.poll_flush(cx) {
                return Poll::Ready(Disconnect::Lost);
            }
            register(&mut state.task, cx);
            state.tells_when_drained && state.outbox.is_empty()
        };
        if is_to_tell {
            self.tell_if_drained();
        }
        Poll::Pending
    }

    /// Writes what waits. Ready when it is out, or cannot be.
    pub(in crate::gateway) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.lock().outbox.poll_flush(cx).map(drop)
    }

    /// Writes a last frame behind everything else, if the socket takes it.
    pub(in crate::gateway) fn send_last(&self, frame: Vec<u8>) {
        self.state.lock().outbox.push(&frame.into(), usize::MAX);
    }

    /// The task has ended: nobody writes any more.
    pub(in crate::gateway) fn detach(&self) {
        {
            let mut state = self.state.lock();
            state.outbox.detach();
            state.session.abort();
        }
        self.gateway.forget_if_over(self);
    }
}
