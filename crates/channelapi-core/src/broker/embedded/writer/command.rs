//! What the writer can be asked for, and what it asks of upkeep.

use super::super::request::{PublishError, PublishRequest};
use super::answers::Asker;
use crate::broker::permit::Permit;
use crate::model::ChannelName;
use smallvec::SmallVec;
use std::sync::mpsc as std_mpsc;
use tokio::sync::oneshot;

/// What the writer can be asked for.
pub(in super::super) enum Command {
    /// To store a batch.
    Publish(Waiting),
    /// To give up a channel's history; answered with how many publications that were.
    Purge(ChannelName, oneshot::Sender<Result<usize, PublishError>>),
    /// To write down where channels stand of which nothing is kept, because the segment is to go that says so.
    Anchor { channels: Vec<u32>, segment: u32, done: Done },
    /// To write down that the log begins with another segment.
    Begin { number: u64, done: Done },
    /// To go on in a new segment.
    Roll { done: Done },
    /// To make everything survive that was published so far. Answered with whether it does.
    Settle(oneshot::Sender<bool>),
    /// To look after what only the writer has.
    Tend,
}

/// Told whether something was written for upkeep.
pub(in super::super) type Done = oneshot::Sender<Result<(), Refusal>>;

/// What is to be stored next to each other. Mostly it is one publication, which needs no memory of its own.
pub(super) type Requests = SmallVec<[PublishRequest; 1]>;

/// Publications that wait to be stored, next to each other.
pub(in super::super) struct Waiting {
    pub(in super::super) requests: Requests,
    pub(in super::super) asker: Asker,
    pub(in super::super) permit: Permit,
}

/// Why nothing was written for upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Refusal {
    /// The disk has no room for it.
    Full,
    /// The disk is read-only, or the log is closed, or something else that less to write does not help.
    Other,
}

/// Asks upkeep to look now instead of later.
#[derive(Default)]
pub(in super::super) struct Poke {
    /// Told when it has.
    pub(in super::super) done: Option<std_mpsc::SyncSender<()>>,
}
