//! What can be asked of the past: where somebody stands, what came after, and whether anything of it is missing.

use crate::model::{ChannelName, Cursor, Position, Publication};
use std::fmt;
use std::io;
use std::str::FromStr;

/// From where on somebody wants to hear a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Everything that is kept.
    All,
    /// What follows this offset, in whatever history there is now.
    Offset(u64),
    /// What follows this offset, in this epoch.
    InEpoch {
        /// Of the history that the offset is of.
        epoch: u64,
        /// The last one that is known.
        offset: u64,
    },
    /// What follows this publication.
    Position(Position),
    /// What follows this place in the log.
    Cursor(Cursor),
}

/// A text says nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no cursor, message id, offset or \"all\"")]
pub struct SinceError;

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        if text == "all" {
            Ok(Self::All)
        } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().map(Self::Offset).map_err(|_| SinceError)
        } else if let Ok(cursor) = text.parse() {
            Ok(Self::Cursor(cursor))
        } else {
            text.parse().map(Self::Position).map_err(|_| SinceError)
        }
    }
}

/// Why a client did not get everything that it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// Retention took it.
    Trimmed,
    /// The channel's history began anew: after damage, a purge, or the restart of what was kept in memory only.
    Epoch,
    /// The place is of a life that this log has not seen, as after a backup was restored.
    Diverged,
    /// The place is behind the newest publication.
    Ahead,
    /// The channel keeps no history.
    NoHistory,
    /// What the client sent is no place.
    NoCursor,
    /// The client wanted no more than this.
    Limit,
}

impl Gap {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Epoch => "epoch",
            Self::Diverged => "diverged",
            Self::Ahead => "ahead",
            Self::NoHistory => "no_history",
            Self::NoCursor => "no_cursor",
            Self::Limit => "limit",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where replaying a channel begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Publications of a later turn follow.
    pub after: u64,
    /// Why something before them is missing, if it is.
    pub gap: Option<Gap>,
}

/// A channel that is being read, and how far that has come.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The channel.
    pub channel: ChannelName,
    /// Publications of a later turn follow.
    pub after: u64,
    /// The reader never had anything of the channel: it misses nothing of what is not kept any more.
    pub is_first: bool,
}

/// Where to look for publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only in memory, without waiting.
    Memory,
    /// On disk, too: the thread may wait.
    Disk,
}

/// Where the newest publication is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// Its turn.
    pub turn: u64,
    /// Where a client stands that has everything.
    pub cursor: Cursor,
}

/// A part of what some channels hold.
#[derive(Debug)]
pub struct Page {
    /// Publications of all channels, in the order of their turns.
    pub publications: Vec<Publication>,
    /// How far reading has come: nothing of the channels with a turn up to here is left to read.
    pub reached: Top,
    /// Whether `reached` was the newest publication of all.
    pub is_complete: bool,
    /// What was given up before it was read.
    pub losses: Vec<Loss>,
}

/// Something was given up before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Of which channel: its place among the readings.
    pub reading: usize,
    /// Why.
    pub gap: Gap,
    /// Nothing is missing that follows this turn.
    pub after: u64,
}

/// The past of all channels, as the fan-out sees it.
pub trait History: Send + Sync + 'static {
    /// What follows in some channels: as much as fits into a page, or all of it. `None` if that is not to be had at this depth.
    fn read(&self, readings: &[Reading], depth: Depth) -> io::Result<Option<Page>>;

    /// Where the newest publication is.
    fn top(&self) -> Top;
}
