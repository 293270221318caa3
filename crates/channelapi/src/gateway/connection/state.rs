//! What is locked of a connection: its session, its outbox, and who sleeps until something happens.
//!
//! Invariant: whatever gives a sleeper something to do wakes it under the same lock, so no wake-up is missed.

use super::super::disconnect::Disconnect;
use super::super::grants::Grants;
use super::super::outbox::{Outbox, Pushed};
use super::poll_mark::PollMark;
use crate::admission::Pace;
use crate::waiting::Owner;
use bytes::Bytes;
use channelapi_protocol::engineio::{Frame, Heartbeat, Session};
use std::task::{Context, Waker};

/// Everything of a connection that changes.
pub(super) struct State {
    pub(super) session: Session,
    pub(super) heartbeat: Heartbeat,
    pub(super) outbox: Outbox,
    /// When the connection ends unless somebody moves it, in milliseconds of the gateway's clock.
    pub(super) deadline: u64,
    /// When the entry is due that has it looked at for the sake of a deadline, or of the end of a JWT: of several, the first.
    pub(super) look_at: u64,
    /// What JWTs have opened, for the few or many that have any.
    pub(super) grants: Option<Box<Grants>>,
    pub(super) ended: Option<Disconnect>,
    /// How many events the client has sent, and how many of them to join.
    pub(super) events: Pace,
    pub(super) joins: Pace,
    /// Whether the application wants to know when nothing waits any more.
    pub(super) tells_when_drained: bool,
    /// Whether the client is put out, and has until the deadline to read that.
    pub(super) is_sent_away: bool,
    /// The WebSocket's task, while it sleeps.
    pub(super) task: Option<Waker>,
    /// Only while the session polls, so that an idle WebSocket does not pay for it.
    pub(super) polling: Option<Box<Polling>>,
}

/// How a poll ends.
pub(in crate::gateway) enum PollEnd {
    /// With packets.
    Payload(Bytes),
    /// The session has moved to a WebSocket.
    Moved,
    /// The session has ended without a farewell; the client should come back.
    Ended,
}

/// What a session needs on top while it polls.
pub(super) struct Polling {
    /// The waiting GET.
    pub(super) poll: Option<Waker>,
    /// The WebSocket that tries to take over, while it sleeps.
    pub(super) probe: Option<Waker>,
    /// The POST whose body is awaited.
    pub(super) post: Option<Waker>,
    /// The last poll.
    pub(super) last: PollMark,
}

impl Polling {
    fn new(now: u64) -> Self {
        Self { poll: None, probe: None, post: None, last: PollMark::opened(now) }
    }
}

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

impl State {
    /// Of a connection that has just been opened.
    pub(super) fn new(session: Session, heartbeat: Heartbeat, outbox: Outbox, now: u64) -> Self {
        let polling = session.is_polling().then(|| Box::new(Polling::new(now)));
        Self {
            session,
            heartbeat,
            outbox,
            deadline: NEVER,
            look_at: NEVER,
            grants: None,
            ended: None,
            events: Pace::default(),
            joins: Pace::default(),
            tells_when_drained: false,
            is_sent_away: false,
            task: None,
            polling,
        }
    }

    /// Sends or queues frames.
    pub(super) fn push(&mut self, frames: &Bytes, bytes_max: usize) -> Pushed {
        let pushed = self.outbox.push(frames, bytes_max);
        if pushed == Pushed::Queued {
            self.wake();
        }
        pushed
    }

    /// Sends a frame, or queues it before whatever waits.
    pub(super) fn push_ahead(&mut self, frame: &Bytes, bytes_max: usize) -> Pushed {
        let pushed = self.outbox.push_ahead(frame, bytes_max);
        if pushed == Pushed::Queued {
            self.wake();
        }
        pushed
    }

    /// When to look at the connection next: at its deadline, or for the sake of a JWT.
    pub(super) fn next_look(&self) -> u64 {
        let grants = self.grants.as_ref().and_then(|grants| grants.next_look());
        self.deadline.min(grants.unwrap_or(NEVER))
    }

    /// Takes leave of the client where its transport and the reason allow it, and wakes whoever sleeps.
    pub(super) fn end(&mut self, reason: Disconnect) {
        self.ended = Some(reason);
        self.grants = None;
        if self.session.is_polling() {
            if reason.lingers() || self.session.is_polled() {
                if let Some(farewell) = reason.farewell() {
                    self.outbox.push(farewell.wire(), usize::MAX);
                }
                self.session.close();
            } else {
                self.session.abort();
            }
        } else if reason.is_abrupt() {
            self.outbox.detach();
            self.session.abort();
        }
        self.wake();
        if let Some(polling) = &mut self.polling {
            polling.probe.take().into_iter().chain(polling.post.take()).for_each(Waker::wake);
        }
    }

    /// Wakes whoever sends what waits.
    pub(super) fn wake(&mut self) {
        let sender = match &mut self.polling {
            Some(polling) => &mut polling.poll,
            None => &mut self.task,
        };
        if let Some(waker) = sender.take() {
            waker.wake();
        }
    }

    /// Ends a poll with whatever there is to say.
    pub(super) fn end_poll(&mut self, owner: Owner, now: u64) -> PollEnd {
        if let Some(polling) = &mut self.polling {
            polling.last.answer(now);
        }
        let has_moved = !self.session.is_polling() && !self.session.is_over();
        let has_ended = self.session.is_over();
        self.session.end_poll();
        if has_moved {
            return PollEnd::Moved;
        }
        if self.outbox.is_empty() {
            if has_ended {
                return PollEnd::Ended;
            }
            self.outbox.push(Frame::NOOP.wire(), usize::MAX);
        }
        PollEnd::Payload(self.outbox.take_payload(owner))
    }
}

/// Lets a sleeper be woken through `slot`.
pub(super) fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_that_polls_takes_no_more_for_it_than_before() {
        assert_eq!((size_of::<PollMark>(), size_of::<Polling>()), (16, 64));
    }
}
