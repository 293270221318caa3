//! What holds for crowds: clients that share an address, or memory.

use std::time::Duration;

/// Addresses that are remembered although they have nothing open, about 200 bytes each.
pub const ADDRESSES_REMEMBERED_MAX: usize = 65_536;

/// Tokens that were not good, the last ones of an address, of which is remembered that they were presented.
pub const FAILED_TOKENS_REMEMBERED: usize = 8;

/// So many times one of these may be presented again for what another one counts.
pub const SAME_FAILED_TOKENS: u64 = 16;

/// How long an HTTP connection must have rested before it may have to go in favour of others: longer than it takes a client to come with
/// its next request when it has one.
pub const HTTP_REST_MIN: Duration = Duration::from_secs(1);

/// The same on a full node for whoever is no stranger, in favour of their like alone: longer than publishers and proxies rest that have much
/// to do, for they open others when these are gone, and need room for it then.
pub const HTTP_REST_MIN_OF_NEIGHBOURS: Duration = Duration::from_secs(10);

/// While memory is short, by how much longer than `socketio.ping_interval` a stranger's HTTP connection must have rested before it has to
/// go: whoever polls answers each ping on one, and a ping and its answer may be this late.
pub const HTTP_REST_MARGIN_WHEN_SHORT: Duration = Duration::from_secs(5);

/// HTTP connections up to which strangers get one though memory is short, so that whoever asks how the server is gets an answer. All of
/// them together cost a megabyte. Those do not count that clients need who are here: one for an event stream, and
/// [`HTTP_CONNECTIONS_OF_POLLING`] for a session that polls.
pub const HTTP_CONNECTIONS_WHEN_SHORT: usize = 64;

/// HTTP connections that a session needs which polls: one for the poll that waits, and one for what it sends, such as its answers to pings.
pub const HTTP_CONNECTIONS_OF_POLLING: usize = 2;

/// Connections beyond its first one that a client needs which begins by polling: for what it sends while a poll waits, and for its WebSocket.
pub const FURTHER_CONNECTIONS: u32 = 2;

/// For how long connections are put out because of a revocation before others get a turn. As long as a worker of the fan-out that is busy
/// keeps the core, or they would go at the pace at which it gives turns: that is for a thousand at least, each told so in a system call.
pub const REVOKED_TURN: Duration = Duration::from_millis(20);

/// How long a client that was revoked may take to go, and then a close until it has taken what it is told last: twice this, or once with
/// [`REVOCATION_PAUSE`](super::REVOCATION_PAUSE) before it, is within a second.
pub const REVOKED_CLOSE_TIMEOUT: Duration = Duration::from_millis(400);

/// Of the connections that the node has left for those who have not sent a whole request yet, either kind of them gets one in so many: those who
/// have said nothing, and those who have begun. What is left is for whoever has asked for something.
pub const HANDSHAKES_FRACTION: usize = 3;
