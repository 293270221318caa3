//! Bytes to packets and back: WebSocket (RFC 6455, server side), Engine.IO 4 and Socket.IO 5.
//!
//! Sans-I/O: no socket, no clock, no async runtime. Bytes and times come in as arguments, decisions go out as values,
//! so every rule here can be tested and fuzzed as a plain function.
//!
//! Invariants:
//! - No input panics. Bytes from the network are either a value or an error that names what was wrong.
//! - Memory follows the bytes received, never a length that a peer merely announced.
//! - One encoded [`engineio::Frame`] serves every client: server frames are not masked, so its bytes are shared.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod engineio;
pub mod socketio;
pub mod websocket;
