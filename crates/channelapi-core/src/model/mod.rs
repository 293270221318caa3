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
pub use cursor::{CURSOR_BYTES, CURSOR_CHARS, Checkpoint, Cursor, CursorError};
pub use event::{EventName, EventNameError};
pub use policy::{Durability, Pattern, Policies, Policy, Retention};
pub use position::{Position, PositionError};
pub use publication::{Kept, Publication};
pub use token::{Token, TokenHash};

/// A connection of this node, for as long as the process lives. Never shown to anyone outside.
/// The lowest eight bits say on which core it is served, so that its fan-out worker can be on the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    const CORE_BITS: u32 = 8;

    /// The id of the connection with a number below 2⁵⁶ that no other connection has, on a core.
    pub fn new(number: u64, core: usize) -> Self {
        Self(number << Self::CORE_BITS | core as u64 & 0xFF)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0 >> Self::CORE_BITS
    }

    /// Its core. Of more than 256, some are taken for another.
    pub fn core(self) -> usize {
        usize::from(self.0.to_le_bytes()[0])
    }
}
