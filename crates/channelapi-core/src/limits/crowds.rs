//! What holds for crowds: clients that share an address, or memory.

use std::time::Duration;

/// How long an HTTP connection must have rested before it may have to go in favour of others: longer than it takes a client to come with
/// its next request when it has one.
pub const HTTP_REST_MIN: Duration = Duration::from_secs(1);

/// Connections beyond its first one that a client needs which begins by polling: for what it sends while a poll waits, and for its WebSocket.
pub const FURTHER_CONNECTIONS: u32 = 2;
