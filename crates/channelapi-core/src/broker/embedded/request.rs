//! What a publisher asks for, and what it is told.

use crate::model::{ChannelName, Cursor, Durability, EventName, Position};
use bytes::Bytes;

/// What a publisher wants stored.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// Where.
    pub channel: ChannelName,
    /// The event it is to arrive as.
    pub event: EventName,
    /// JSON, byte for byte.
    pub data: Bytes,
    /// When it dies, in milliseconds since 1970; 0 is never.
    pub expires_at: u64,
    /// Under the same key, the same channel, event and data, nothing is stored twice.
    pub idempotency_key: Option<Box<str>>,
}

/// Where a publication is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its place in its channel.
    pub position: Position,
    /// Where a client stands that has received it and everything before.
    pub cursor: Cursor,
    /// How safely it is kept.
    pub durability: Durability,
    /// Whether it was stored before, by an earlier request under the same key.
    pub is_duplicate: bool,
}

/// Why a publication was not stored. None of them was delivered to anyone, but those in doubt may be found after a restart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The disk is full or read-only; it may work again later.
    #[error("the disk is full")]
    StorageFull,
    /// The disk refused the write; it may work again later.
    #[error("the publication could not be written: {0}")]
    NotStored(String),
    /// Its own sync failed: it may be found in the log after a restart, or not.
    #[error("the disk could not be synced, so nobody knows what it holds")]
    InDoubt,
    /// A sync failed before: nobody knows what the disk holds, so nothing more is written.
    #[error(
        "the log is closed because the disk could not be synced; restart the server when the disk is well"
    )]
    Fenced,
    /// The key was used for other data.
    #[error("the idempotency key was used for other data in this channel")]
    KeyReused,
    /// Another item of the batch, in the same channel, was refused.
    #[error("another item of the same channel was refused")]
    BatchRefused,
    /// Too much waits already; nothing was tried.
    #[error("too much waits to be stored or delivered")]
    Overloaded,
    /// There was no room for it within five seconds; nothing was tried.
    #[error("too much waits to be stored or delivered, and has for five seconds")]
    Congested,
    /// Memory is short; nothing was tried.
    #[error("memory is short")]
    ShortOfMemory,
    /// The channel is not known, and what is known of the others takes all of the memory that it may; nothing was tried.
    #[error("there are too many channels for the memory of this server")]
    TooManyChannels,
    /// The channel got more than it may lately; nothing was tried.
    #[error("the channel gets too many publications")]
    TooFast,
    /// These are more than the channel may ever get at once, which is so many; nothing was tried.
    #[error("the channel gets at most {0} publications at once")]
    TooMany(u64),
    /// The writer has stopped.
    #[error("the broker has stopped")]
    Stopped,
}

/// What came of a publication.
pub(super) type Outcome = Result<Published, PublishError>;

/// What came of each publication of a batch, in its order.
pub(super) type Results = Vec<Outcome>;
