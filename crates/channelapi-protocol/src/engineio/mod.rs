//! Engine.IO 4, the layer that gives Socket.IO one connection over changing transports.
//!
//! The rules follow the protocol's own page (docs/engine.io-protocol in socketio/socket.io) and, where that is silent, what
//! its Node.js server does.
//!
//! - [`Request`] reads what a URL asks for, [`RequestError`] is what a wrong one is answered.
//! - [`Packet`], [`payload`] and [`Frame`] are the packets on both transports.
//! - [`Heartbeat`] and [`Session`] hold the rules of time and of changing transports.

mod error;
mod frame;
mod heartbeat;
mod open;
mod packet;
pub mod payload;
mod request;
mod session;

pub use error::RequestError;
pub use frame::{Frame, Frames};
pub use heartbeat::{Beat, Heartbeat, Timing};
pub use open::Open;
pub use packet::{Packet, PacketError};
pub use request::{Request, Transport};
pub use session::{PollStart, Session, Violation};
