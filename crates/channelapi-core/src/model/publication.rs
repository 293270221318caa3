//! One thing that was published.

use super::{ChannelName, Cursor, EventName, Position};
use bytes::Bytes;

/// Data on its way to the subscribers of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where it was published.
    pub channel: ChannelName,
    /// The event it arrives as.
    pub event: EventName,
    /// JSON, byte for byte as the publisher wrote it.
    pub data: Bytes,
    /// Milliseconds since 1970.
    pub published_at: u64,
    /// Where it is kept; `None` for a volatile one, which is kept nowhere.
    pub kept: Option<Kept>,
}

/// Where a publication is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the channel.
    pub position: Position,
    /// Its turn in the one order of everything that this process knows to be kept.
    pub turn: u64,
    /// Where a client stands that has received it and everything before.
    pub cursor: Cursor,
}

impl Publication {
    /// Its turn, if it has one.
    pub fn turn(&self) -> Option<u64> {
        self.kept.map(|kept| kept.turn)
    }
}
