//! What polling requests do to a connection. `../polling.rs` is who does it.

use super::super::disconnect::Disconnect;
use super::Connection;
use super::poll_mark::PollMark;
use super::state::{PollEnd, Polling, register};
use crate::http::Concerned;
use crate::waiting::Reader as _;
use channelapi_protocol::engineio::{PollStart, Violation};
use std::task::{Context, Poll, Waker};

impl Connection {
    /// A poll begins, which its client calls `name`. Returns its number, too. `None` if it is one whose answer may have been lost, with
    /// packets that nobody will send again: then the session ends, and its client comes back to where it stood.
    pub(in crate::gateway) fn begin_poll(&self, name: u32) -> Result<Option<(PollStart, u32)>, Violation> {
        let mut state = self.state.lock();
        // While one waits, there can be no other, whatever its name.
        let is_polled = state.session.is_polled();
        if let Some(polling) = state.polling.as_mut().filter(|_| !is_polled) {
            let Some(next) = polling.last.next(name, self.gateway.now()) else { return Ok(None) };
            polling.last = next;
        }
        let number = state.polling.as_ref().map_or(0, |polling| polling.last.number());
        Ok(Some((state.session.begin_poll()?, number)))
    }

    /// Waits until there is something to answer a poll with. `is_brief` says that a noop will be sent soon anyway. `None` if it
    /// has to wait for room on its way, of which nobody tells.
    pub(in crate::gateway) fn poll_payload(
        &self,
        cx: &mut Context<'_>,
        is_brief: bool,
    ) -> Poll<Option<PollEnd>> {
        let mut state = self.state.lock();
        let is_awaited = state.session.is_polling() && (is_brief || !state.session.is_probed());
        if is_awaited && state.outbox.is_empty() {
            if let Some(polling) = &mut state.polling {
                register(&mut polling.poll, cx);
            }
            return Poll::Pending;
        }
        if is_awaited && !state.outbox.may_set_out(self.owner()) {
            return Poll::Ready(None);
        }
        let end = state.end_poll(self.owner(), self.gateway.now());
        drop(state);
        self.tell_if_drained();
        Poll::Ready(Some(end))
    }

    /// Ends a poll that was held back for an upgrade which has not come.
    pub(in crate::gateway) fn end_brief_poll(&self) -> PollEnd {
        let end = self.state.lock().end_poll(self.owner(), self.gateway.now());
        self.tell_if_drained();
        end
    }

    /// The client gave up its poll.
    pub(in crate::gateway) fn abort_poll(&self) {
        let is_lost = {
            let mut state = self.state.lock();
            state.session.abort_poll();
            state.session.is_closed()
        };
        if is_lost {
            self.close(Disconnect::Lost);
            self.gateway.forget_if_over(self);
        }
    }

    /// The session ends, because an answer was lost.
    pub(in crate::gateway) fn lose_answer(&self) {
        self.close(Disconnect::Lost);
        self.gateway.forget_if_over(self);
    }

    /// Gives up on a session that has ended and whose client may still fetch something.
    pub(in crate::gateway) fn give_up_last_poll(&self) {
        {
            let mut state = self.state.lock();
            if state.ended.is_none() || state.session.is_polled() {
                return;
            }
            if state.polling.is_some() {
                state.session.abort();
            }
        }
        self.gateway.forget_if_over(self);
    }

    pub(in crate::gateway) fn begin_post(&self) -> Result<(), Violation> {
        self.state.lock().session.begin_post()
    }

    pub(in crate::gateway) fn end_post(&self) {
        let mut state = self.state.lock();
        state.session.end_post();
        // A WebSocket that is to take over waits for it.
        if let Some(sleeper) = state.polling.as_mut().and_then(|polling| polling.probe.take()) {
            sleeper.wake();
        }
    }

    /// Waits until the session ends while a POST is read.
    pub(in crate::gateway) fn poll_ended_while_posting(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_ended(cx, |polling| &mut polling.post)
    }

    /// Waits until the session ends, as one of the sleepers it has while it polls.
    pub(super) fn poll_ended(
        &self,
        cx: &mut Context<'_>,
        sleeper: fn(&mut Polling) -> &mut Option<Waker>,
    ) -> Poll<()> {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Poll::Ready(());
        }
        if let Some(polling) = &mut state.polling {
            register(sleeper(polling), cx);
        }
        Poll::Pending
    }
}

impl Connection {
    /// Ends the session if its last poll says that an answer is lost.
    fn note_answer(&self, is_lost: impl FnOnce(PollMark) -> bool) {
        let is_lost = {
            let state = self.state.lock();
            // Whoever has moved to a WebSocket had all answers before.
            let is_open = state.ended.is_none() && state.session.is_polling();
            let polling = state.polling.as_ref().filter(|_| is_open);
            polling.is_some_and(|polling| is_lost(polling.last))
        };
        if is_lost {
            self.lose_answer();
        }
    }
}

impl Concerned for Connection {
    fn broken(&self, answer: u32) {
        self.note_answer(|last| last.is_last_or_repeated(answer));
    }
}
