//! The words of this project as types.

mod bearer;
mod channel;
mod consumer;
mod cursor;
mod event;
mod policy;
mod position;
mod publication;
mod token;

pub use bearer::{Bearer, Revocation, RevocationRequest, RevokedKind, is_claim};
pub use channel::{ChannelName, ChannelNameError};
pub use consumer::{ConsumerName, ConsumerNameError};
pub use cursor::{CURSOR_BYTES, CURSOR_CHARS, Cursor, CursorError};
pub use event::{EventName, EventNameError};
pub use policy::{Durability, Pattern, Policies, Policy, Retention};
pub use position::{Position, PositionError};
pub use publication::{Kept, Publication};
pub use token::{Token, TokenHash};

/// A connection of this node, for as long as the process lives. Never shown to anyone outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);
