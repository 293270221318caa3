//! What is locked of a connection: its session, its outbox, and who sleeps until something happens.
//!
//! Invariant: whatever gives a sleeper something to do wakes it under the same lock, so no wake-up is missed.

use super::super::disconnect::Disconnect;
use super::super::grants::Grants;
use super::super::outbox::{Outbox, Pushed};
use super::PollEnd;
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

/// What a session needs on top while it polls.
#[derive(Default)]
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

/// What is known of a poll, to find out whether its answer was lost: then its client may poll once more without knowing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PollMark {
    /// Polls of this session up to it.
    pub(super) number: u32,
    /// What its client called it, as a hash; 0 if it has no name.
    pub(super) name: u32,
    /// It has the name of the one before it.
    pub(super) is_repeated: bool,
    /// Its client has closed the connection that the answer went out on, which it may have read or not.
    pub(super) is_abandoned: bool,
}

impl PollMark {
    /// The next poll, if it can be one: not if the client asks again for what it may never have got.
    pub(super) fn next(self, name: u32) -> Option<Self> {
        let is_repeated = name != 0 && name == self.name;
        if is_repeated && self.is_abandoned {
            return None;
        }
        Some(Self { number: self.number.wrapping_add(1), name, is_repeated, is_abandoned: false })
    }

    /// Whether an answer that nobody got is missed. Who has asked for something new since then had it after all.
    pub(super) fn is_last_or_repeated(self, answer: u32) -> bool {
        answer == self.number || self.is_repeated && answer == self.number.wrapping_sub(1)
    }

    /// The client has closed the connection that an answer went out on. Returns whether it is lost: if not, it may be when the next poll comes.
    pub(super) fn abandon(&mut self, answer: u32) -> bool {
        let is_lost = answer != self.number && self.is_last_or_repeated(answer);
        self.is_abandoned |= answer == self.number;
        is_lost
    }
}

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

impl State {
    /// Of a connection that has just been opened.
    pub(super) fn new(session: Session, heartbeat: Heartbeat, outbox: Outbox) -> Self {
        let polling = session.is_polling().then(Box::default);
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
    pub(super) fn end_poll(&mut self, owner: Owner) -> PollEnd {
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
