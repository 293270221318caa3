//! One client: its session, its outbox, and what the layer above remembers of it.
//!
//! Invariants:
//! - `state` is locked for moments only, never while another connection's is, and never while the application is called.
//! - A connection ends once: the first reason counts, and the application hears of it once.
//! - On WebSocket, one task reads and writes what waits; everybody else only pushes into the outbox and wakes it.

use super::Gateway;
use super::application::{Handled, Inbound};
use super::disconnect::Disconnect;
use super::frames;
use super::grants::{Grants, Look};
use super::namespaces::Namespaces;
use super::outbox::{Outbox, Pushed};
use crate::admission::{AddressNumber, Pace, SessionPass};
use crate::metrics::UPGRADED;
use crate::stream::WriteHalf;
use bytes::Bytes;
use channelapi_core::clock::millis_of;
use channelapi_core::delivery::{Delivery, End, Subscriber};
use channelapi_core::hub::Revocations;
use channelapi_core::limits::{CLOSED_SESSION_LINGER, OUTBOX_BYTES_MAX};
use channelapi_core::model::ConnectionId;
use channelapi_protocol::engineio::{Beat, Frame, Heartbeat, PollStart, Session, Violation};
use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tracing::debug;

/// One client of the gateway.
pub(crate) struct Connection {
    id: ConnectionId,
    gateway: Arc<Gateway>,
    /// The secret by which requests find it, if it opened by polling. It stays known after the upgrade, to be told from one
    /// that never was.
    sid: Option<Box<str>>,
    /// What its address is counted under.
    address: AddressNumber,
    state: Mutex<State>,
    /// What Socket.IO knows of this client.
    pub(super) namespaces: Mutex<Namespaces>,
}

struct State {
    session: Session,
    heartbeat: Heartbeat,
    outbox: Outbox,
    /// When the connection ends unless somebody moves it, in milliseconds of the gateway's clock.
    deadline: u64,
    /// When it will be looked at for the sake of a deadline, or of the end of a JWT.
    look_at: u64,
    /// What JWTs have opened, for the few or many that have any.
    grants: Option<Box<Grants>>,
    ended: Option<Disconnect>,
    /// How many events the client has sent, and how many of them to join.
    events: Pace,
    joins: Pace,
    /// Whether the application wants to know when nothing waits any more.
    tells_when_drained: bool,
    /// The WebSocket's task, while it sleeps.
    task: Option<Waker>,
    /// Only while the session polls, so that an idle WebSocket does not pay for it.
    polling: Option<Box<Polling>>,
}

/// What a session needs on top while it polls.
#[derive(Default)]
struct Polling {
    /// The waiting GET.
    poll: Option<Waker>,
    /// The WebSocket that tries to take over, while it sleeps.
    probe: Option<Waker>,
    /// The POST whose body is awaited.
    post: Option<Waker>,
}

/// How a poll ends.
pub(super) enum PollEnd {
    /// With packets.
    Payload(Vec<u8>),
    /// The session has moved to a WebSocket.
    Moved,
    /// The session has ended without a farewell; the client should come back.
    Ended,
}

/// No deadline.
const NEVER: u64 = u64::MAX;

impl Connection {
    /// A session that opens by polling, known to its client by the secret `sid`.
    pub(super) fn polling(id: ConnectionId, gateway: Arc<Gateway>, pass: SessionPass, sid: Box<str>) -> Self {
        Self::new(id, gateway, pass, Some(sid), Session::default(), Outbox::default())
    }

    /// A session that opens on a WebSocket and stays there.
    pub(super) fn websocket(
        id: ConnectionId,
        gateway: Arc<Gateway>,
        pass: SessionPass,
        socket: WriteHalf,
    ) -> Self {
        Self::new(id, gateway, pass, None, Session::on_websocket(), Outbox::on(socket))
    }

    fn new(
        id: ConnectionId,
        gateway: Arc<Gateway>,
        pass: SessionPass,
        sid: Option<Box<str>>,
        session: Session,
        outbox: Outbox,
    ) -> Self {
        let polling = session.is_polling().then(Box::default);
        let heartbeat = Heartbeat::new(gateway.now(), &gateway.settings.timing);
        let state = State {
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
            task: None,
            polling,
        };
        let address = pass.keep();
        Self { id, gateway, sid, address, state: Mutex::new(state), namespaces: Mutex::default() }
    }

    /// The gateway it belongs to.
    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Whether the client may send one more event, or anything else that costs us an answer. One that may not is put out,
    /// and stays away.
    pub(super) fn may_send(&self) -> bool {
        let (rate, now) = (self.gateway.admission.limits().events, self.gateway.now());
        let may = self.state.lock().events.takes(rate, now);
        may || self.exceed()
    }

    /// Whether the client may join once more, as with [`Connection::may_send`].
    pub(super) fn may_join(&self) -> bool {
        let (rate, now) = (self.gateway.admission.limits().joins, self.gateway.now());
        let may = self.state.lock().joins.takes(rate, now);
        may || self.exceed()
    }

    fn exceed(&self) -> bool {
        self.gateway.application.revoked(self);
        self.close(Disconnect::Limit);
        false
    }

    /// The client presented a token that is not good.
    pub(super) fn failed_token(&self) {
        self.gateway.admission.failed_token(self.address);
    }

    /// Whether too many came from where it comes from.
    pub(super) fn is_out_of_tokens(&self) -> bool {
        self.gateway.admission.is_out_of_tokens(self.address)
    }

    /// What waits for the client, in bytes.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.state.lock().outbox.cost()
    }

    /// Sends or queues a frame. A client that has no room even for this is closed.
    pub(super) fn send(&self, frame: &Frame) {
        if self.offer(frame.wire(), OUTBOX_BYTES_MAX) == Delivery::Full {
            self.close(Disconnect::Slow);
        }
    }

    fn offer(&self, frames: &Bytes, bytes_max: usize) -> Delivery {
        let pushed = {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return Delivery::Taken;
            }
            state.push(frames, bytes_max)
        };
        match pushed {
            Pushed::Sent | Pushed::Queued => {}
            Pushed::Full => return Delivery::Full,
            Pushed::Broken => self.close(Disconnect::Lost),
        }
        Delivery::Taken
    }

    /// Tells the application that nothing waits any more, if it wants to know.
    fn tell_if_drained(&self) {
        let tells = {
            let mut state = self.state.lock();
            state.outbox.is_empty() && std::mem::take(&mut state.tells_when_drained)
        };
        if tells {
            self.gateway.application.drained(self);
        }
    }

    /// Ends the connection unless [`Connection::clear_deadline`] comes first.
    pub(super) fn set_deadline(&self, after_millis: u64) {
        let at = self.gateway.now().saturating_add(after_millis);
        self.look_in_time(|state| state.deadline = at);
    }

    /// Changes what JWTs have opened.
    pub(super) fn change_grants<T>(&self, change: impl FnOnce(&mut Grants) -> T) -> T {
        self.look_in_time(|state| {
            let mut grants = state.grants.take().unwrap_or_default();
            let changed = change(&mut grants);
            // Whoever has ended needs none any more.
            state.grants = Some(grants).filter(|grants| !grants.is_empty() && state.ended.is_none());
            changed
        })
    }

    /// Nothing is left of what JWTs have opened.
    pub(super) fn forget_grants(&self) {
        self.state.lock().grants = None;
    }

    /// Whether something was revoked of what JWTs have opened.
    pub(super) fn is_revoked(&self, revocations: &Revocations) -> bool {
        self.state.lock().grants.as_ref().is_some_and(|grants| grants.is_revoked(revocations))
    }

    /// Changes when the connection is to be looked at, and sees to it that it is.
    fn look_in_time<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (changed, at, is_covered) = {
            let mut state = self.state.lock();
            let changed = change(&mut state);
            let at = state.next_look();
            // Whoever looks earlier comes again at the deadline.
            let is_covered = state.look_at <= at;
            state.look_at = state.look_at.min(at);
            (changed, at, is_covered)
        };
        if !is_covered {
            self.gateway.look_once(self.id, at);
        }
        changed
    }

    /// What was awaited has come.
    pub(super) fn clear_deadline(&self) {
        self.state.lock().deadline = NEVER;
    }

    /// Ends the connection. Only the first reason counts.
    pub(super) fn close(&self, reason: Disconnect) {
        {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return;
            }
            state.end(reason);
        }
        debug!(connection = self.id.0, reason = reason.as_str(), "connection closed");
        reason.counted().count();
        self.gateway.application.closed(self);
        if reason.lingers() {
            self.set_deadline(millis_of(CLOSED_SESSION_LINGER));
        }
        self.gateway.forget_if_over(self);
    }

    /// Whether nothing more can be sent or fetched: nobody needs to find this connection any more.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.ended.is_some() && state.session.is_closed()
    }

    /// The secret by which requests find it, if they may.
    pub(super) fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// Looks at the clock for the heartbeat, and says when to look again.
    pub(super) fn beat(&self, now: u64) -> Option<u64> {
        let (next, failed) = {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return None;
            }
            match state.heartbeat.tick(now, &self.gateway.settings.timing) {
                Beat::Wait(next) => (Some(next), None),
                Beat::Ping(next) => {
                    let failed = match state.push(Frame::PING.wire(), OUTBOX_BYTES_MAX) {
                        Pushed::Sent | Pushed::Queued => None,
                        Pushed::Full => Some(Disconnect::Slow),
                        Pushed::Broken => Some(Disconnect::Lost),
                    };
                    (Some(next), failed)
                }
                Beat::Dead => (None, Some(Disconnect::PingTimeout)),
            }
        };
        match failed {
            Some(reason) => {
                self.close(reason);
                None
            }
            None => next,
        }
    }

    /// Looks at the clock for the deadline and for the end of JWTs, and says when to look again.
    pub(super) fn check_deadline(&self, now: u64) -> Option<u64> {
        let (has_ended, is_late, look, next) = {
            let mut state = self.state.lock();
            let is_late = state.deadline <= now;
            let look = state.grants.as_mut().map_or(Look::Wait, |grants| grants.look(now));
            let next = if is_late || look == Look::Over { NEVER } else { state.next_look() };
            state.look_at = next;
            (state.ended.is_some(), is_late, look, next)
        };
        match (has_ended, is_late, look) {
            // Whoever should have fetched the last packets had the time for it.
            (true, true, _) => self.give_up_last_poll(),
            (false, true, _) => self.close(Disconnect::ConnectTimeout),
            (_, _, Look::Over) => self.close(Disconnect::Expired),
            (_, _, Look::Tell(millis)) => self.send(&frames::expiring(millis)),
            (_, _, Look::Wait) => {}
        }
        Some(next).filter(|next| *next != NEVER)
    }

    /// Gives up on a session that has ended and whose client may still fetch something.
    pub(super) fn give_up_last_poll(&self) {
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

    /// Ends a polling session whose client's time ran out before its timer came round.
    pub(super) fn check_alive(&self) {
        let now = self.gateway.now();
        let is_dead = self.state.lock().heartbeat.is_dead(now, &self.gateway.settings.timing);
        if is_dead {
            self.close(Disconnect::PingTimeout);
        }
    }

    /// The client answered a ping.
    pub(super) fn pong(&self) {
        let now = self.gateway.now();
        self.state.lock().heartbeat.pong(now, &self.gateway.settings.timing);
    }

    /// Hands a message to the application.
    pub(super) fn message(self: &Arc<Self>, message: Inbound<'_>) -> Handled {
        self.gateway.application.message(self, message)
    }
}

/// What polling requests do.
impl Connection {
    pub(super) fn begin_poll(&self) -> Result<PollStart, Violation> {
        self.state.lock().session.begin_poll()
    }

    /// Waits until there is something to answer a poll with. `is_brief` says that a noop will be sent soon anyway.
    pub(super) fn poll_payload(&self, cx: &mut Context<'_>, is_brief: bool) -> Poll<PollEnd> {
        let mut state = self.state.lock();
        let is_awaited = state.session.is_polling() && (is_brief || !state.session.is_probed());
        if is_awaited && state.outbox.is_empty() {
            if let Some(polling) = &mut state.polling {
                register(&mut polling.poll, cx);
            }
            return Poll::Pending;
        }
        let end = state.end_poll();
        drop(state);
        self.tell_if_drained();
        Poll::Ready(end)
    }

    /// Ends a poll that was held back for an upgrade which has not come.
    pub(super) fn end_brief_poll(&self) -> PollEnd {
        let end = self.state.lock().end_poll();
        self.tell_if_drained();
        end
    }

    /// The client gave up its poll.
    pub(super) fn abort_poll(&self) {
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

    pub(super) fn begin_post(&self) -> Result<(), Violation> {
        self.state.lock().session.begin_post()
    }

    pub(super) fn end_post(&self) {
        self.state.lock().session.end_post();
    }

    /// Waits until the session ends while a POST is read.
    pub(super) fn poll_ended_while_posting(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_ended(cx, |polling| &mut polling.post)
    }

    fn poll_ended(&self, cx: &mut Context<'_>, sleeper: fn(&mut Polling) -> &mut Option<Waker>) -> Poll<()> {
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

/// What a WebSocket that takes over from polling does.
impl Connection {
    pub(super) fn begin_probe(&self) -> Result<(), Violation> {
        self.state.lock().session.begin_probe()
    }

    /// `2probe` came: the waiting poll may go.
    pub(super) fn probed(&self) {
        let mut state = self.state.lock();
        state.session.probe();
        state.wake();
    }

    /// Waits until the session ends while a WebSocket tries to take over.
    pub(super) fn poll_ended_while_probing(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_ended(cx, |polling| &mut polling.probe)
    }

    /// `5` came: everything leaves by `socket` from now on, first what waits.
    pub(super) fn upgrade(&self, socket: WriteHalf) -> Result<(), Violation> {
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
    pub(super) fn end_probe(&self) {
        self.state.lock().session.end_probe();
    }
}

/// What a WebSocket's task does.
impl Connection {
    /// Writes what waits. Ready when there is a reason to end.
    pub(super) fn poll_outbox(&self, cx: &mut Context<'_>) -> Poll<Disconnect> {
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
    pub(super) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.lock().outbox.poll_flush(cx).map(drop)
    }

    /// Whether the connection has ended, though perhaps not everything is written.
    pub(super) fn ended(&self) -> Option<Disconnect> {
        self.state.lock().ended
    }

    /// Writes a last frame behind everything else, if the socket takes it.
    pub(super) fn send_last(&self, frame: Vec<u8>) {
        self.state.lock().outbox.push(&frame.into(), usize::MAX);
    }

    /// The task has ended: nobody writes any more.
    pub(super) fn detach(&self) {
        {
            let mut state = self.state.lock();
            state.outbox.detach();
            state.session.abort();
        }
        self.gateway.forget_if_over(self);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.gateway.admission.end_session(self.address);
    }
}

impl Subscriber for Connection {
    fn id(&self) -> ConnectionId {
        self.id
    }

    fn deliver(&self, frames: &Bytes, bytes_max: usize) -> Delivery {
        self.offer(frames, bytes_max)
    }

    fn is_drained(&self) -> bool {
        let mut state = self.state.lock();
        state.tells_when_drained = !state.outbox.is_empty();
        !state.tells_when_drained
    }

    fn is_open(&self) -> bool {
        self.state.lock().ended.is_none()
    }

    fn end(&self, reason: End) {
        match reason {
            End::Slow => self.close(Disconnect::Slow),
            End::Revoked => self.gateway.application.revoked(self),
        }
    }
}

impl State {
    /// Sends or queues frames.
    fn push(&mut self, frames: &Bytes, bytes_max: usize) -> Pushed {
        let pushed = self.outbox.push(frames, bytes_max);
        if pushed == Pushed::Queued {
            self.wake();
        }
        pushed
    }

    /// When to look at the connection next: at its deadline, or for the sake of a JWT.
    fn next_look(&self) -> u64 {
        let grants = self.grants.as_ref().and_then(|grants| grants.next_look());
        self.deadline.min(grants.unwrap_or(NEVER))
    }

    fn end(&mut self, reason: Disconnect) {
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
    fn wake(&mut self) {
        let sender = match &mut self.polling {
            Some(polling) => &mut polling.poll,
            None => &mut self.task,
        };
        if let Some(waker) = sender.take() {
            waker.wake();
        }
    }

    /// Ends a poll with whatever there is to say.
    fn end_poll(&mut self) -> PollEnd {
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
        PollEnd::Payload(self.outbox.take_payload())
    }
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
