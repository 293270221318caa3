//! Which transport a session is on, and what it may do there.
//!
//! A session opens by polling and may change to WebSocket once:
//!
//! ```text
//! Polling ──websocket arrives──> Probing ──"2probe"──> Probed ──"5"──> WebSocket
//!    ^                              │                    │
//!    └──────websocket is lost───────┴────────────────────┘
//! any of them ──close──> Closing (one last poll may fetch what is left) ──> Closed
//! ```
//!
//! Invariants:
//! - At most one GET and one POST at a time; a second one ends the session, because no honest client sends it.
//! - Packets leave by polling until `5` arrives and by WebSocket after it, never by both: nothing is lost, doubled or reordered.
//!   (A client sends `5` only when no poll of its own is open, so an answered poll is always read before.)

/// The transport state of one session.
#[derive(Debug, Default)]
pub struct Session {
    state: State,
    is_polled: bool,
    is_posting: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Polling,
    Probing,
    Probed,
    WebSocket,
    Closing,
    Closed,
}

/// How a poll goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollStart {
    /// Answer when there are packets.
    Wait,
    /// A WebSocket is being tried: answer soon, with a noop if need be, so that the client can change over.
    WaitBriefly,
    /// The session is over; answer what is left, then forget it.
    Last,
}

/// A request that the state does not allow. The session must be closed, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A second GET while one waits.
    #[error("a poll is already waiting")]
    DuplicatePoll,
    /// A second POST while one is read.
    #[error("a POST is already being read")]
    DuplicatePost,
    /// The session has left polling, or is over. It stays as it is; only this request is refused.
    #[error("the session does not use this transport any more")]
    NotHere,
    /// `5` without a probe before it.
    #[error("an upgrade came before its probe")]
    UnexpectedUpgrade,
}

impl Violation {
    /// Whether the session must end because of it.
    pub fn ends_session(self) -> bool {
        self != Self::NotHere
    }
}

impl Session {
    /// A session that opens on a WebSocket, and stays there.
    pub fn on_websocket() -> Self {
        Self { state: State::WebSocket, ..Self::default() }
    }

    /// Whether packets leave by polling.
    pub fn is_polling(&self) -> bool {
        matches!(self.state, State::Polling | State::Probing | State::Probed)
    }

    /// Whether no more packets are taken.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Closing | State::Closed)
    }

    /// Whether nothing at all may follow.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether a poll waits for packets.
    pub fn is_polled(&self) -> bool {
        self.is_polled
    }

    /// Whether a WebSocket has sent `2probe` and not yet `5`.
    pub fn is_probed(&self) -> bool {
        self.state == State::Probed
    }

    /// A GET arrived.
    pub fn begin_poll(&mut self) -> Result<PollStart, Violation> {
        let start = match self.state {
            State::Polling | State::Probing => PollStart::Wait,
            State::Probed => PollStart::WaitBriefly,
            // What is left belongs to the poll that waits, if one does.
            State::Closing if !self.is_polled => {
                self.state = State::Closed;
                return Ok(PollStart::Last);
            }
            State::Closing | State::WebSocket | State::Closed => return Err(Violation::NotHere),
        };
        if self.is_polled {
            return Err(Violation::DuplicatePoll);
        }
        self.is_polled = true;
        Ok(start)
    }

    /// The waiting GET was answered.
    pub fn end_poll(&mut self) {
        self.is_polled = false;
        if self.state == State::Closing {
            self.state = State::Closed;
        }
    }

    /// The client gave up a waiting GET: what was on its way is lost, so the session ends, unless it has left polling.
    pub fn abort_poll(&mut self) {
        self.is_polled = false;
        if self.state != State::WebSocket {
            self.state = State::Closed;
        }
    }

    /// A POST arrived. Its body is read between this and [`Session::end_post`].
    pub fn begin_post(&mut self) -> Result<(), Violation> {
        if !self.is_polling() {
            return Err(Violation::NotHere);
        }
        if self.is_posting {
            return Err(Violation::DuplicatePost);
        }
        self.is_posting = true;
        Ok(())
    }

    /// The POST was read.
    pub fn end_post(&mut self) {
        self.is_posting = false;
    }

    /// Whether a POST is being read.
    pub fn is_posting(&self) -> bool {
        self.is_posting
    }

    /// A WebSocket arrived for this session.
    pub fn begin_probe(&mut self) -> Result<(), Violation> {
        if self.state != State::Polling {
            return Err(Violation::NotHere);
        }
        self.state = State::Probing;
        Ok(())
    }

    /// `2probe` arrived on the new WebSocket. A waiting poll should be answered now.
    pub fn probe(&mut self) {
        if self.state == State::Probing {
            self.state = State::Probed;
        }
    }

    /// `5` arrived on the new WebSocket: from now on it carries everything. Not while a POST is being read, which some clients do not
    /// wait for: packets of two transports would be handled at once.
    pub fn upgrade(&mut self) -> Result<(), Violation> {
        match self.state {
            State::Probed if self.is_posting => Err(Violation::UnexpectedUpgrade),
            State::Probed => {
                self.state = State::WebSocket;
                Ok(())
            }
            State::Closing | State::Closed => Err(Violation::NotHere),
            State::Polling | State::Probing | State::WebSocket => Err(Violation::UnexpectedUpgrade),
        }
    }

    /// The new WebSocket was lost or timed out before `5`: polling goes on.
    pub fn end_probe(&mut self) {
        if matches!(self.state, State::Probing | State::Probed) {
            self.state = State::Polling;
        }
    }

    /// The session ends. While it polls, one more poll may fetch what is left: the waiting one or, if none waits, the next.
    pub fn close(&mut self) {
        self.state = match self.state {
            State::Polling | State::Probing | State::Probed | State::Closing => State::Closing,
            State::WebSocket | State::Closed => State::Closed,
        };
    }

    /// The session ends and nobody will fetch anything.
    pub fn abort(&mut self) {
        self.state = State::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_session_changes_to_websocket_once() {
        let mut session = Session::default();
        assert_eq!(session.begin_poll(), Ok(PollStart::Wait));
        assert_eq!(session.begin_probe(), Ok(()));
        session.probe();
        session.end_poll();
        assert_eq!(session.begin_poll(), Ok(PollStart::WaitBriefly));
        session.end_poll();
        assert_eq!(session.begin_probe(), Err(Violation::NotHere), "one probe at a time");
        assert_eq!(session.upgrade(), Ok(()));
        assert_eq!(session.begin_poll(), Err(Violation::NotHere));
        assert_eq!(session.begin_probe(), Err(Violation::NotHere));
        assert!(!session.is_over());
    }

    #[test]
    fn a_session_does_not_change_over_while_a_post_is_on_its_way() {
        let mut session = Session::default();
        session.begin_post().unwrap();
        session.begin_probe().unwrap();
        session.probe();
        assert_eq!(session.upgrade(), Err(Violation::UnexpectedUpgrade));
        session.end_post();
        assert_eq!(session.upgrade(), Ok(()));
    }

    #[test]
    fn a_failed_probe_leaves_polling_as_it_was() {
        let mut session = Session::default();
        session.begin_probe().unwrap();
        session.probe();
        session.end_probe();
        assert_eq!(session.begin_poll(), Ok(PollStart::Wait));
        assert_eq!(session.begin_probe(), Ok(()));
    }

    #[test]
    fn an_upgrade_needs_its_probe() {
        let mut session = Session::default();
        session.begin_probe().unwrap();
        assert_eq!(session.upgrade(), Err(Violation::UnexpectedUpgrade));
    }

    #[test]
    fn the_poll_after_a_close_fetches_what_is_left_once() {
        let mut session = Session::default();
        session.close();
        assert_eq!(session.begin_poll(), Ok(PollStart::Last));
        assert_eq!(session.begin_poll(), Err(Violation::NotHere));

        let mut session = Session::default();
        session.begin_poll().unwrap();
        session.close();
        assert_eq!(session.begin_poll(), Err(Violation::NotHere), "it belongs to the one that waits");
        session.end_poll();
        assert!(session.is_closed());
    }

    proptest! {
        /// Whatever happens in whatever order, the invariants at the top of this file hold.
        #[test]
        fn no_order_of_events_breaks_the_invariants(events in prop::collection::vec(0_u8..11, 0..60)) {
            let mut session = Session::default();
            let mut upgraded = false;
            let mut over = false;
            for event in events {
                let polled = session.is_polled();
                match event {
                    0 => match session.begin_poll() {
                        Ok(PollStart::Last) => prop_assert!(over && session.is_closed()),
                        Ok(_) => prop_assert!(!polled && !upgraded && !over),
                        Err(Violation::DuplicatePoll) => prop_assert!(polled),
                        Err(_) => prop_assert!(upgraded || over),
                    },
                    1 => session.end_poll(),
                    2 => { session.abort_poll(); over |= !upgraded; }
                    3 => if session.begin_post().is_ok() { prop_assert!(!upgraded && !over) },
                    4 => session.end_post(),
                    5 => if session.begin_probe().is_ok() { prop_assert!(!upgraded && !over) },
                    6 => session.probe(),
                    7 => if session.upgrade().is_ok() { prop_assert!(!upgraded && !over); upgraded = true; },
                    8 => session.end_probe(),
                    9 => { session.close(); over = true; }
                    _ => { session.abort(); over = true; }
                }
                prop_assert_eq!(session.is_over(), over, "an end is an end");
                prop_assert_eq!(session.is_polling(), !upgraded && !over, "packets have one way out");
            }
        }
    }
}
