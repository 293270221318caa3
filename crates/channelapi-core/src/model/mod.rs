//! The words of this project as types.

mod channel;
mod publication;
mod token;

pub use channel::{ChannelName, ChannelNameError};
pub use publication::Publication;
pub use token::{Token, TokenHash};

/// A connection of this node, for as long as the process lives. Never shown to anyone outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);
