//! Socket.IO 5: named events, acknowledgements and binary attachments inside Engine.IO messages.
//!
//! The rules follow the protocol's own page (docs/socket.io-protocol in socketio/socket.io) and, where that is silent, its
//! JavaScript parser.
//!
//! Data stays JSON text from end to end: numbers, escapes and the order of keys are never touched.

mod attachments;
mod depth;
mod event;
mod packet;

pub use attachments::{AttachmentError, Attachments};
pub use depth::is_deeper_than;
pub use event::{Arguments, event_data};
pub use packet::{Kind, Packet, ParseError};

/// How deeply arrays and objects of a client may be nested. Anything deeper is an attack on somebody's stack.
pub const DEPTH_MAX: usize = 32;

/// The namespace that needs no name on the wire.
pub const ROOT: &str = "/";
