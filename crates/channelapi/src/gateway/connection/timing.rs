//! What time does to a connection: pings, deadlines, and the ends of JWTs.
//!
//! There is no timer here. The gateway's wheel looks at each connection when it is due, and each look says when the next one is.

use super::super::disconnect::Disconnect;
use super::super::frames;
use super::super::grants::{Grants, Look};
use super::super::outbox::Pushed;
use super::Connection;
use super::state::{NEVER, State};
use channelapi_core::clock::millis_of;
use channelapi_core::hub::Revocations;
use channelapi_core::limits::{OUTBOX_BYTES_MAX, REVOKED_CLOSE_TIMEOUT};
use channelapi_protocol::engineio::{Beat, Frame};
use channelapi_protocol::socketio::ROOT;

/// The heartbeat.
impl Connection {
    /// Looks at the clock for the heartbeat, and says when to look again.
    pub(in crate::gateway) fn beat(&self, now: u64) -> Option<u64> {
        let (next, failed) = {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return None;
            }
            match state.heartbeat.tick(now, &self.gateway.settings.timing) {
                Beat::Wait(next) => (Some(next), None),
                Beat::Ping(next) => {
                    // Over a slow link, what waits would take longer than the client may.
                    let failed = match state.push_ahead(Frame::PING.wire(), OUTBOX_BYTES_MAX) {
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

    /// Ends a polling session whose client's time ran out before its timer came round.
    pub(in crate::gateway) fn check_alive(&self) {
        let now = self.gateway.now();
        let is_dead = self.state.lock().heartbeat.is_dead(now, &self.gateway.settings.timing);
        if is_dead {
            self.close(Disconnect::PingTimeout);
        }
    }

    /// The client answered a ping. An answer to none counts as an event.
    pub(in crate::gateway) fn pong(&self) {
        let now = self.gateway.now();
        let is_awaited = self.state.lock().heartbeat.pong(now, &self.gateway.settings.timing);
        if !is_awaited {
            self.may_send();
        }
    }
}

/// Deadlines, and what JWTs have opened until their ends.
impl Connection {
    /// Ends the connection unless [`Connection::clear_deadline`] comes first.
    pub(in crate::gateway) fn set_deadline(&self, after_millis: u64) {
        let at = self.gateway.now().saturating_add(after_millis);
        self.look_in_time(|state| {
            let is_later = state.is_sent_away && state.ended.is_none() && state.deadline < at;
            if !is_later {
                state.deadline = at;
            }
        });
    }

    /// What was awaited has come. If the connection has ended meanwhile, or its client is put out, its deadline is for the last packets.
    pub(in crate::gateway) fn clear_deadline(&self) {
        let mut state = self.state.lock();
        if state.ended.is_none() && !state.is_sent_away {
            state.deadline = NEVER;
        }
    }

    /// The client is put out, and gets nothing more but the word for that. It has a moment to read it, and then it is gone, unless it has
    /// come in again with something that is good.
    pub(in crate::gateway) fn send_away(&self) {
        self.namespaces.lock().leave(ROOT);
        let at = self.gateway.now().saturating_add(millis_of(REVOKED_CLOSE_TIMEOUT));
        let pushed = {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                // It has its time for the last packets already.
                return;
            }
            state.is_sent_away = true;
            state.deadline = state.deadline.min(at);
            state.outbox.forget_unbegun();
            if state.heartbeat.is_awaited() {
                // It may be among what is gone, and whoever comes in again has to answer it.
                _ = state.push(Frame::PING.wire(), usize::MAX);
            }
            state.push(frames::disconnect().wire(), usize::MAX)
        };
        self.gateway.see_out(self.id, at);
        if pushed == Pushed::Broken {
            self.close(Disconnect::Lost);
        }
    }

    /// Ends the connection if its client is put out, and has had its moment.
    pub(in crate::gateway) fn check_sent_away(&self, now: u64) {
        let is_due = {
            let state = self.state.lock();
            state.ended.is_none() && state.is_sent_away && state.deadline <= now
        };
        if is_due {
            self.end_sent_away();
        }
    }

    /// The client has come in.
    pub(in crate::gateway) fn let_in(&self) {
        self.state.lock().is_sent_away = false;
        self.clear_deadline();
    }

    /// The moment is over that a client had which was put out.
    fn end_sent_away(&self) {
        if self.namespaces.lock().holds(ROOT) {
            return self.let_in();
        }
        let (has_read, is_polling) = {
            let state = self.state.lock();
            (state.outbox.is_empty(), state.session.is_polling())
        };
        match (has_read, is_polling) {
            (true, _) => self.close(Disconnect::Revoked),
            // It may fetch it still.
            (false, true) => _ = self.revoke(),
            (false, false) => self.close(Disconnect::Deaf),
        }
    }

    /// Changes what JWTs have opened.
    pub(in crate::gateway) fn change_grants<T>(&self, change: impl FnOnce(&mut Grants) -> T) -> T {
        self.look_in_time(|state| {
            let mut grants = state.grants.take().unwrap_or_default();
            let changed = change(&mut grants);
            grants.settle();
            // Whoever has ended needs none any more.
            state.grants = Some(grants).filter(|grants| !grants.is_empty() && state.ended.is_none());
            changed
        })
    }

    /// Whether a JWT has opened something.
    pub(in crate::gateway) fn has_grants(&self) -> bool {
        self.state.lock().grants.is_some()
    }

    /// Nothing is left of what JWTs have opened.
    pub(in crate::gateway) fn forget_grants(&self) {
        self.state.lock().grants = None;
    }

    /// Whether something was revoked of what JWTs have opened.
    pub(in crate::gateway) fn is_revoked(&self, revocations: &Revocations) -> bool {
        self.state.lock().grants.as_ref().is_some_and(|grants| grants.is_revoked(revocations))
    }

    /// Looks at the clock for the deadline and for the end of JWTs, because of an entry that is due since `since`.
    pub(in crate::gateway) fn check_deadline(&self, now: u64, since: u64) {
        let (has_ended, is_late, is_sent_away, look) = {
            let mut state = self.state.lock();
            if state.look_at != since {
                // An earlier one took its place: if each were to come again, they would become more and more.
                return;
            }
            let is_late = state.deadline <= now;
            let look = state.grants.as_mut().map_or(Look::Wait, |grants| grants.look(now));
            state.look_at = NEVER;
            if !is_late && look != Look::Over {
                self.look_again(&mut state);
            }
            (state.ended.is_some(), is_late, state.is_sent_away, look)
        };
        match (has_ended, is_late, look) {
            // Whoever should have fetched the last packets had the time for it.
            (true, true, _) => self.give_up_last_poll(),
            (false, true, _) if is_sent_away => self.end_sent_away(),
            (false, true, _) => self.close(Disconnect::ConnectTimeout),
            (_, _, Look::Over) => self.close(Disconnect::Expired),
            (_, _, Look::Tell(millis)) => self.send(&frames::expiring(millis)),
            (_, _, Look::Wait) => {}
        }
    }

    /// Changes when the connection is to be looked at, and sees to it that it is.
    fn look_in_time<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let changed = change(&mut state);
        self.look_again(&mut state);
        changed
    }

    /// Whoever looks earlier comes again at the deadline.
    fn look_again(&self, state: &mut State) {
        let at = state.next_look();
        if at < state.look_at {
            state.look_at = self.gateway.look_before(self.id, at, state.look_at);
        }
    }
}
