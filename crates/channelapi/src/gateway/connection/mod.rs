//! One client: its session, its outbox, and what the layer above remembers of it.
//!
//! This file is what all connections have: sending, and ending once. `state.rs` is what they lock for it, `timing.rs` what time does to
//! them; `polling.rs` is what polling requests do, `poll_mark.rs` how a lost answer is told, `upgrade.rs` what a WebSocket does that takes
//! over, `task.rs` what the task of a WebSocket does.
//!
//! Invariants:
//! - `state` is locked for moments only, never while another connection's is, and never while the application is called.
//! - A connection ends once: the first reason counts, and the application hears of it once.
//! - On WebSocket, one task reads and writes what waits; everybody else only pushes into the outbox and wakes it.

pub(super) mod application;
mod poll_mark;
mod polling;
mod state;
mod task;
mod timing;
mod upgrade;

pub(super) use state::PollEnd;

use super::Gateway;
use super::disconnect::Disconnect;
use super::frames;
use super::grants::Grants;
use super::namespaces::Namespaces;
use super::outbox::{Held, Outbox, Pushed};
use crate::admission::{AddressNumber, SessionPass};
use crate::metrics::PUT_OUT;
use crate::spread::Guest;
use crate::stream::WriteHalf;
use crate::waiting::{Owner, Reader, Slowest};
use application::{Handled, Inbound};
use bytes::Bytes;
use channelapi_core::clock::millis_of;
use channelapi_core::delivery::{Delivery, End, Subscriber};
use channelapi_core::limits::{CLOSED_SESSION_LINGER, OUTBOX_BYTES_MAX};
use channelapi_core::model::ConnectionId;
use channelapi_protocol::engineio::{Frame, Heartbeat, Session};
use channelapi_protocol::socketio::ROOT;
use parking_lot::Mutex;
use state::State;
use std::hash::Hash;
use std::sync::Arc;
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
        let now = gateway.now();
        let heartbeat = Heartbeat::new(now, &gateway.settings.timing);
        let state = State::new(session, heartbeat, outbox, now);
        let address = pass.keep();
        Self { id, gateway, sid, address, state: Mutex::new(state), namespaces: Mutex::default() }
    }

    /// The gateway it belongs to.
    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Whether the client may send one more event, or anything else that costs us time: everything does but the answer to a ping. One
    /// that may not is put out, and stays away.
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
        self.put_out_for(Disconnect::Limit);
        false
    }

    /// What the client was let in with is revoked: it is put out, and stays away. Says whether it was here still.
    pub(super) fn revoke(&self) -> bool {
        self.put_out_for(Disconnect::Revoked)
    }

    /// Ends the connection with the word that the client is put out, before which nothing leaves of what waits for it, and behind which
    /// nothing follows, whatever is on its way to it. Says whether it had not ended before.
    fn put_out_for(&self, reason: Disconnect) -> bool {
        self.namespaces.lock().leave(ROOT);
        self.close_after(reason, |state| {
            // What is given up is behind the place where it stands. One that polls fetches once more, and that is for this word; one that
            // reads slowly is not to go on reading for long.
            state.outbox.forget_unbegun();
            state.push(frames::disconnect().wire(), usize::MAX);
        })
    }

    /// The client presented something that is not good.
    pub(super) fn failed_token(&self, presented: &(impl Hash + ?Sized)) {
        self.gateway.admission.failed_token(self.address, presented);
    }

    /// Whether too many came from where it comes from.
    pub(super) fn is_out_of_tokens(&self) -> bool {
        self.gateway.admission.is_out_of_tokens(self.address)
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

    /// Ends the connection. Only the first reason counts.
    pub(super) fn close(&self, reason: Disconnect) {
        self.close_after(reason, |_| ());
    }

    /// The same, with something that is done right before. Says whether it had not ended before.
    fn close_after(&self, reason: Disconnect, act: impl FnOnce(&mut State)) -> bool {
        {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return false;
            }
            act(&mut state);
            state.end(reason);
        }
        debug!(connection = self.id.0, reason = reason.as_str(), "connection closed");
        reason.counted().count();
        self.gateway.application.closed(self);
        if reason.lingers() {
            self.set_deadline(millis_of(CLOSED_SESSION_LINGER));
        }
        self.gateway.forget_if_over(self);
        true
    }

    /// Ends the connection because its client is here with another one, which gets what JWTs have opened on this one.
    pub(super) fn hand_over(&self) -> Grants {
        let mut held = None;
        self.close_after(Disconnect::Replaced, |state| held = state.grants.take());
        held.map(|grants| *grants).unwrap_or_default()
    }

    /// Whether the connection has ended, though perhaps not everything is written.
    pub(super) fn ended(&self) -> Option<Disconnect> {
        self.state.lock().ended
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

    /// Hands a message to the application.
    pub(super) fn message(self: &Arc<Self>, message: Inbound<'_>) -> Handled {
        self.gateway.application.message(self, message)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.gateway.admission.end_session(self.address);
    }
}

impl Guest for Connection {
    fn send_away(&self) {
        self.close(Disconnect::Drain);
        self.give_up_last_poll();
    }
}

impl Reader for Connection {
    fn owner(&self) -> Owner {
        self.address.owner()
    }

    fn waiting_bytes(&self) -> usize {
        self.state.lock().outbox.cost()
    }

    fn put_out(&self, reason: Slowest) {
        self.close(match reason {
            Slowest::Node => Disconnect::SlowNode,
            Slowest::Memory => Disconnect::Memory,
        });
    }
}

impl Subscriber for Connection {
    fn id(&self) -> ConnectionId {
        self.id
    }

    fn deliver(&self, frames: &Bytes, bytes_max: usize) -> Delivery {
        self.offer(frames, bytes_max)
    }

    fn hold(&self, frames: &Bytes, bytes_max: usize) -> Delivery {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Delivery::Taken;
        }
        match state.outbox.hold(frames, bytes_max) {
            Held::First => Delivery::Held,
            // Whoever queued the first sees to the others.
            Held::Behind => Delivery::Taken,
            Held::Full => Delivery::Full,
        }
    }

    fn release(&self) {
        let let_out = {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return;
            }
            let let_out = state.outbox.let_out();
            if let_out.is_ok() && !state.outbox.is_empty() {
                state.wake();
            }
            let_out
        };
        match let_out {
            Ok(()) => self.tell_if_drained(),
            Err(_) => self.close(Disconnect::Lost),
        }
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
            End::Revoked => {
                PUT_OUT.count();
                self.gateway.application.revoked(self);
            }
        }
    }
}
