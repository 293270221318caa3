//! The sessions of clients that come back: on which connection each is, and which channels were added to it on the way.
//!
//! A pid names the channels that its session began with. A channel that is added when the client returns has nothing to recover then,
//! but everything the next time. That is remembered here, in memory. The memory is bounded and ends with the process, so it has a name,
//! and every session knows under which one it began: for a session of another memory, a channel that its pid does not name counts as
//! added before. Too much is replayed then, never too little.
//!
//! A channel that was left while the client stayed is remembered, too: what happens there meanwhile is not recovered.

use super::pid::{Pid, PidName, hash};
use channelapi_core::limits::ADDED_CHANNELS_MAX;
use channelapi_core::model::{ChannelName, ConnectionId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};

/// The sessions that are here.
pub(super) struct Sessions {
    state: Mutex<State>,
    added_max: usize,
}

struct State {
    connections: HashMap<PidName, ConnectionId>,
    /// The sessions, and the hashes of channels that were added to them.
    added: HashSet<(PidName, u32)>,
    /// The same for channels that were left.
    left: HashSet<(PidName, u32)>,
    /// The name of this memory.
    memory: u64,
}

impl Sessions {
    /// No sessions.
    pub(super) fn new() -> Self {
        Self::with_room(ADDED_CHANNELS_MAX)
    }

    fn with_room(added_max: usize) -> Self {
        let (connections, added, left) = (HashMap::new(), HashSet::new(), HashSet::new());
        Self { state: Mutex::new(State { connections, added, left, memory: random() }), added_max }
    }

    /// The name of the memory for sessions that begin now.
    pub(super) fn memory(&self) -> u64 {
        self.state.lock().memory
    }

    /// A session is on a connection from now on.
    pub(super) fn enter(&self, session: PidName, connection: ConnectionId) {
        self.state.lock().connections.insert(session, connection);
    }

    /// A session is on no connection any more. Returns the one it was on.
    pub(super) fn take(&self, session: &PidName) -> Option<ConnectionId> {
        self.state.lock().connections.remove(session)
    }

    /// A session is not on this connection any more; perhaps it is on another one.
    pub(super) fn leave(&self, session: &PidName, connection: ConnectionId) {
        let connections = &mut self.state.lock().connections;
        if connections.get(session) == Some(&connection) {
            connections.remove(session);
        }
    }

    /// The client of a session has left a channel, and stays in others.
    pub(super) fn note_left(&self, session: PidName, channel: &ChannelName) {
        let mut state = self.state.lock();
        if state.left.len() >= self.added_max {
            state.left = HashSet::new();
        }
        state.left.insert((session, hash(channel)));
    }

    /// Whether a channel was left by the client of a session.
    pub(super) fn has_left(&self, pid: &Pid, channel: &ChannelName) -> bool {
        self.state.lock().left.contains(&(pid.name, hash(channel)))
    }

    /// Whether a channel is added to a session with this return of its client.
    pub(super) fn is_new(&self, pid: &Pid, channel: &ChannelName) -> bool {
        if pid.holds(channel) {
            return false;
        }
        let mut state = self.state.lock();
        if pid.memory != state.memory || !state.added.insert((pid.name, hash(channel))) {
            return false;
        }
        if state.added.len() > self.added_max {
            state.added = HashSet::new();
            state.memory = random();
        }
        true
    }
}

fn random() -> u64 {
    getrandom::u64().expect("the operating system has random numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use channelapi_core::model::Cursor;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn pid(sessions: &Sessions) -> Pid {
        Pid::new(Cursor { generation: 1, sequence: 1, memory: 0 }, sessions.memory(), &[channel("a")])
    }

    #[test]
    fn a_channel_is_new_once() {
        let sessions = Sessions::new();
        let (one, other) = (pid(&sessions), pid(&sessions));
        assert!(!sessions.is_new(&one, &channel("a")));
        assert!(sessions.is_new(&one, &channel("b")));
        assert!(!sessions.is_new(&one, &channel("b")));
        assert!(sessions.is_new(&other, &channel("b")));
    }

    #[test]
    fn what_was_left_is_remembered_of_its_session() {
        let sessions = Sessions::new();
        let (one, other) = (pid(&sessions), pid(&sessions));
        sessions.note_left(one.name, &channel("a"));
        assert!(sessions.has_left(&one, &channel("a")));
        assert!(!sessions.has_left(&one, &channel("b")) && !sessions.has_left(&other, &channel("a")));
    }

    /// What was added before is not known any more: the client must not be told that it has nothing to recover there, however often it
    /// has come back since.
    #[test]
    fn nothing_is_new_to_a_session_of_another_memory() {
        let before = Sessions::new();
        let restarted = pid(&before);
        assert!(before.is_new(&restarted, &channel("b")));
        let sessions = Sessions::with_room(2);
        assert!(!sessions.is_new(&restarted, &channel("b")));
        assert!(!sessions.is_new(&restarted, &channel("b")));

        let (long, other) = (pid(&sessions), pid(&sessions));
        assert!(sessions.is_new(&long, &channel("b")));
        assert!(sessions.is_new(&other, &channel("b")));
        assert!(sessions.is_new(&other, &channel("c")), "it is full, and begins anew");
        for pid in [&long, &other] {
            assert!(!sessions.is_new(pid, &channel("b")));
            assert!(!sessions.is_new(pid, &channel("d")));
        }
        assert!(sessions.is_new(&pid(&sessions), &channel("b")));
    }

    #[test]
    fn a_session_is_on_one_connection() {
        let sessions = Sessions::new();
        let name = pid(&sessions).name;
        let [stale, new] = [ConnectionId(1), ConnectionId(2)];
        sessions.enter(name, stale);
        assert_eq!(sessions.take(&name), Some(stale));
        sessions.enter(name, new);
        sessions.leave(&name, stale);
        assert_eq!(sessions.take(&name), Some(new), "the stale one has left after it was replaced");
        assert_eq!(sessions.take(&name), None);
    }
}
