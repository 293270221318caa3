//! The sessions of clients that come back: on which connection each is, and which channels its client has left while it stayed.
//!
//! What happens in a channel that was left is not recovered when the client brings it again. It is remembered here which one it was, in
//! memory. The memory is bounded and ends with the process, so it has a name, and every session knows under which one it began. The
//! checkpoints of a client that has left something say so themselves: for a session of another memory, it may have been any of its
//! channels. Too much is called missing then, never too little.

use super::pid::{MEMORY_MAX, Pid, PidName, hash};
use channelapi_core::limits::LEFT_CHANNELS_MAX;
use channelapi_core::model::{ChannelName, ConnectionId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};

/// The sessions that are here.
pub(super) struct Sessions {
    state: Mutex<State>,
    left_max: usize,
}

/// What the session of a connection is found by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    pub(super) name: PidName,
    /// The one that its client came back from, if it is another. A client that never hears of the new one brings this again.
    pub(super) before: Option<PidName>,
}

impl Session {
    fn names(&self) -> impl Iterator<Item = PidName> {
        self.before.into_iter().chain([self.name])
    }
}

struct State {
    connections: HashMap<PidName, ConnectionId>,
    /// The sessions, and the hashes of channels that were left.
    left: HashSet<(PidName, u32)>,
    /// The name of this memory.
    memory: u64,
}

impl Sessions {
    /// No sessions.
    pub(super) fn new() -> Self {
        Self::with_room(LEFT_CHANNELS_MAX)
    }

    fn with_room(left_max: usize) -> Self {
        let (connections, left) = (HashMap::new(), HashSet::new());
        Self { state: Mutex::new(State { connections, left, memory: random() }), left_max }
    }

    /// The name of the memory for sessions that begin now.
    pub(super) fn memory(&self) -> u64 {
        self.state.lock().memory
    }

    /// A session is on a connection from now on. Returns those it was on, which may have come in since it was taken.
    #[must_use]
    pub(super) fn enter(&self, session: &Session, connection: ConnectionId) -> Vec<ConnectionId> {
        let connections = &mut self.state.lock().connections;
        let before = session.names().filter_map(|name| connections.insert(name, connection));
        before.filter(|before| *before != connection).collect()
    }

    /// A session is on no connection any more. Returns the one it was on.
    pub(super) fn take(&self, session: &PidName) -> Option<ConnectionId> {
        self.state.lock().connections.remove(session)
    }

    /// A session is not on this connection any more; perhaps it is on another one.
    pub(super) fn leave(&self, session: &Session, connection: ConnectionId) {
        let connections = &mut self.state.lock().connections;
        for name in session.names() {
            if connections.get(&name) == Some(&connection) {
                connections.remove(&name);
            }
        }
    }

    /// The client of a session has left a channel, and stays in others.
    pub(super) fn note_left(&self, session: PidName, channel: &ChannelName) {
        let mut state = self.state.lock();
        if state.left.len() >= self.left_max {
            state.left = HashSet::new();
            state.memory = random();
        }
        state.left.insert((session, hash(&session, channel)));
    }

    /// Whether a channel is one that the client of a session has left, or may be: not all is remembered.
    pub(super) fn may_have_left(&self, pid: &Pid, channel: &ChannelName) -> bool {
        let state = self.state.lock();
        pid.memory != state.memory || state.left.contains(&(pid.name, hash(&pid.name, channel)))
    }
}

fn random() -> u64 {
    getrandom::u64().expect("the operating system has random numbers") & MEMORY_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use channelapi_core::model::{CURSOR_BYTES, Cursor};

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn pid(sessions: &Sessions) -> Pid {
        let start = Cursor::from_bytes([1; CURSOR_BYTES]);
        Pid::new(start, false, sessions.memory(), &[channel("a")])
    }

    #[test]
    fn what_was_left_is_remembered_of_its_session() {
        let sessions = Sessions::new();
        let (one, other) = (pid(&sessions), pid(&sessions));
        sessions.note_left(one.name, &channel("a"));
        assert!(sessions.may_have_left(&one, &channel("a")));
        assert!(
            !sessions.may_have_left(&one, &channel("b")) && !sessions.may_have_left(&other, &channel("a"))
        );
    }

    #[test]
    fn what_was_left_in_another_memory_may_be_anything() {
        let before = pid(&Sessions::new());
        let sessions = Sessions::with_room(1);
        assert!(sessions.may_have_left(&before, &channel("b")), "the server was started again");
        let (one, other) = (pid(&sessions), pid(&sessions));
        sessions.note_left(one.name, &channel("a"));
        sessions.note_left(other.name, &channel("a"));
        assert!(sessions.may_have_left(&one, &channel("a")), "there was no room for it");
        assert!(sessions.may_have_left(&one, &channel("b")));
    }

    #[test]
    fn a_session_is_on_one_connection() {
        let sessions = Sessions::new();
        let name = pid(&sessions).name;
        let session = Session { name, before: None };
        let [stale, new] = [ConnectionId(1), ConnectionId(2)];
        assert_eq!(sessions.enter(&session, stale), []);
        assert_eq!(sessions.take(&name), Some(stale));
        assert_eq!(sessions.enter(&session, new), []);
        sessions.leave(&session, stale);
        assert_eq!(sessions.take(&name), Some(new), "the stale one has left after it was replaced");
        assert_eq!(sessions.take(&name), None);
    }

    #[test]
    fn a_client_that_did_not_hear_of_its_new_session_is_found_by_the_one_before() {
        let sessions = Sessions::new();
        let (before, name) = (pid(&sessions).name, pid(&sessions).name);
        let session = Session { name, before: Some(before) };
        assert_eq!(sessions.enter(&session, ConnectionId(1)), []);
        assert_eq!([sessions.take(&before), sessions.take(&name)], [Some(ConnectionId(1)); 2]);
        assert_eq!(sessions.enter(&session, ConnectionId(1)), []);
        sessions.leave(&session, ConnectionId(1));
        assert_eq!([sessions.take(&before), sessions.take(&name)], [None; 2]);
    }

    #[test]
    fn of_two_connections_that_come_back_at_once_the_second_displaces_the_first() {
        let sessions = Sessions::new();
        let before = pid(&sessions).name;
        let [first, second, third] = [ConnectionId(1), ConnectionId(2), ConnectionId(3)];
        // All of them have found nobody to take over from.
        assert_eq!([sessions.take(&before); 3], [None; 3]);
        let stays = Session { name: before, before: Some(before) };
        let begins = Session { name: pid(&sessions).name, before: Some(before) };
        assert_eq!(sessions.enter(&stays, first), []);
        assert_eq!(sessions.enter(&begins, second), [first]);
        sessions.leave(&stays, first);
        assert_eq!(sessions.enter(&stays, third), [second]);
        sessions.leave(&begins, second);
        assert_eq!(sessions.take(&begins.name), None);
        assert_eq!(sessions.take(&before), Some(third));
    }
}
