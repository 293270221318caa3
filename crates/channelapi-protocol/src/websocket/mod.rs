//! The server side of WebSocket (RFC 6455), without extensions.
//!
//! - [`Decoder`] turns bytes of a client into messages.
//! - [`frame`] writes the unmasked frames of a server, and has what a client of ours needs to read them and to answer.
//! - [`handshake`] checks an upgrade request and computes its answer.

mod close;
mod code;
mod decoder;
mod error;
pub mod frame;
pub mod handshake;
mod mask;

pub use close::CloseFrame;
pub use code::CloseCode;
pub use decoder::{Decoder, Limits, Message};
pub use error::DecodeError;
pub use mask::apply as mask;
