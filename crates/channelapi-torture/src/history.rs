//! What a run leaves behind: everything that was published, and everything that each client was told.
//!
//! Invariant: a history holds what was seen from outside and no conclusions; those are the checker's.

mod lines;

use std::fmt;
use std::time::Duration;

/// Since the run began, on a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) Duration);

/// The name that the load generator writes into the data of everything it publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageId {
    pub(crate) publisher: u32,
    pub(crate) number: u32,
}

/// Index into [`History::channels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChannelId(pub(crate) u16);

/// Where a publication lies, as the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
}

/// How often the server was started before; it holds for a connection, because none outlives its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Life(pub(crate) u32);

/// How often the data directory was replaced by an older copy of itself before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Branch(pub(crate) u16);

#[derive(Default)]
pub(crate) struct History {
    pub(crate) channels: Vec<Channel>,
    pub(crate) publishes: Vec<Publish>,
    pub(crate) purges: Vec<Purge>,
    pub(crate) clients: Vec<Client>,
    /// The one at index 0 ended branch 0.
    pub(crate) restores: Vec<Restore>,
    pub(crate) dumps: Vec<Dump>,
    /// Clients that had not got everything when they were not waited for any longer.
    pub(crate) late: Vec<String>,
}

/// What the server's policy says about a channel.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) name: String,
    /// Whether an accepted message outlives the server process.
    pub(crate) durable: bool,
    /// How many messages are kept, if the run may exceed it.
    pub(crate) max_messages: Option<u64>,
}

/// The directory was copied while the server was stopped, and later replaced by the copy while it was stopped again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restore {
    pub(crate) copied: Time,
}

/// Everything that one channel's history holds at the end, read over HTTP.
pub(crate) struct Dump {
    pub(crate) branch: Branch,
    pub(crate) channel: ChannelId,
    /// When it was begun to be read, and when it had been read.
    pub(crate) began: Time,
    pub(crate) ended: Time,
    pub(crate) messages: Vec<(Position, MessageId)>,
}

/// One message and all attempts to publish it.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) id: MessageId,
    pub(crate) channel: ChannelId,
    /// With an `Idempotency-Key` of its own; only then may there be several attempts.
    pub(crate) keyed: bool,
    /// How long it lives from when the server takes it in, if not for ever.
    pub(crate) ttl: Option<Duration>,
    /// The messages of one request for several have the same number, which their publisher gives out once.
    pub(crate) batch: Option<u32>,
    /// When the first attempt was sent.
    pub(crate) invoked: Time,
    /// When it was known of the first attempt, if of any, that nobody can know what came of it.
    pub(crate) doubtful: Option<Time>,
    pub(crate) outcome: Outcome,
}

/// Somebody asked for everything in a channel to be forgotten, once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purge {
    pub(crate) channel: ChannelId,
    pub(crate) branch: Branch,
    pub(crate) invoked: Time,
    /// When it was answered, or known that it would not be.
    pub(crate) ended: Time,
    /// How many messages that were, if it was answered.
    pub(crate) purged: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// At least one attempt was accepted.
    Stored(Vec<Answer>),
    /// Every attempt was refused with a status that promises that nothing was stored.
    Refused(u16),
    /// Nobody can know: the connection broke.
    Unknown,
}

/// The server accepted an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) at: Time,
    pub(crate) branch: Branch,
    /// The seed's route does not tell.
    pub(crate) position: Option<Position>,
    /// What is behind the position in an id, and tells the message from others at the same place.
    pub(crate) tag: Option<u32>,
    pub(crate) duplicate: bool,
}

pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) door: Door,
    /// Those that its tokens open.
    pub(crate) channels: Vec<ChannelId>,
    pub(crate) events: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// `join_channel` without a position: live only.
    Seed,
    /// The token in the handshake; resumes like a stock client.
    Handshake,
    /// `join_channel` with a position that the client keeps by itself.
    Explicit,
    /// An event stream, which begins behind the last id that the client heard.
    Stream,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Time,
    pub(crate) event: Event,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Connected(Connected),
    Gap {
        channel: ChannelId,
        reason: Reason,
    },
    Joined(Joined),
    Delivered(Delivered),
    /// A cursor arrived, which the client will present when it returns.
    Checkpoint,
    /// The client says that it has taken care of everything up to an offset.
    Confirming {
        channel: ChannelId,
        offset: u64,
    },
    /// The server has noted what it said with an earlier entry, and answers where its consumer stands.
    Confirmed {
        entry: usize,
        offset: u64,
    },
    /// Where its consumer stands, asked for over HTTP.
    Standing {
        life: Life,
        branch: Branch,
        channel: ChannelId,
        offset: u64,
    },
    Closed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Connected {
    /// When the client began to connect: everything that the server says comes later.
    pub(crate) began: Time,
    pub(crate) life: Life,
    pub(crate) branch: Branch,
    pub(crate) asked: Asked,
    pub(crate) pid: Pid,
}

/// Where a client asks to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// From now on.
    Now,
    /// From the first message that there is.
    All,
    /// After what its consumer has confirmed.
    Unread,
    /// After the cursor, or the message, that came with this entry of its log.
    After(usize),
    /// After the beginning of the session whose private id came with this entry: it has heard of no place since.
    Start(usize),
    /// It returns and has nothing to show that the server could know.
    NoCursor,
}

/// The private id in the answer to CONNECT; a stock client calls itself recovered if it is the one that it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pid {
    None,
    Same,
    New,
}

/// The answer to `join_channel`, or what comes before the first event of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) channel: ChannelId,
    pub(crate) asked: Asked,
    /// Why the resume is incomplete, if it is.
    pub(crate) incomplete: Option<Reason>,
    /// For a client that says who it is.
    pub(crate) counted: Option<Counted>,
}

/// What the answer to `join_channel` says of a channel and a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// How many messages there are that the consumer has not confirmed.
    pub(crate) unread: u64,
    /// The offset of the newest message.
    pub(crate) newest: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    pub(crate) channel: ChannelId,
    pub(crate) id: MessageId,
    /// If the connection asked for it.
    pub(crate) position: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Trimmed,
    Epoch,
    Diverged,
    Ahead,
    NoHistory,
    NoCursor,
    Limit,
}

impl Reason {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "trimmed" => Self::Trimmed,
            "epoch" => Self::Epoch,
            "diverged" => Self::Diverged,
            "ahead" => Self::Ahead,
            "no_history" => Self::NoHistory,
            "no_cursor" => Self::NoCursor,
            "limit" => Self::Limit,
            _ => return None,
        })
    }
}

impl MessageId {
    /// Text that is found again in any data that carries it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (publisher, number) = text.strip_prefix('m')?.split_once('.')?;
        Some(Self { publisher: publisher.parse().ok()?, number: number.parse().ok()? })
    }
}

impl Position {
    /// The place before the first message of an epoch that is not known yet.
    pub(crate) const START: Self = Self { epoch: 0, offset: 0 };

    /// From the id of a stored publication.
    pub(crate) fn of_id(id: &str) -> Option<Self> {
        Self::with_tag_of_id(id).map(|(position, _)| position)
    }

    /// All parts of an id, `<epoch>-<offset>-<tag>`.
    pub(crate) fn with_tag_of_id(id: &str) -> Option<(Self, u32)> {
        let mut parts = id.split('-');
        let (epoch, offset, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let position = Self { epoch: u64::from_str_radix(epoch, 16).ok()?, offset: offset.parse().ok()? };
        Some((position, u32::from_str_radix(tag, 16).ok()?))
    }

    pub(crate) fn next(self) -> Self {
        Self { offset: self.offset + 1, ..self }
    }
}

impl Publish {
    pub(crate) fn answers(&self) -> &[Answer] {
        match &self.outcome {
            Outcome::Stored(answers) => answers,
            Outcome::Refused(_) | Outcome::Unknown => &[],
        }
    }
}

impl Time {
    /// Later than everything.
    pub(crate) const MAX: Self = Self(Duration::MAX);
}

impl History {
    pub(crate) fn channel(&self, id: ChannelId) -> &Channel {
        &self.channels[id.index()]
    }

    /// Whether what was kept at a time in one branch is in another one, which may be the same: it was there when each copy was made that
    /// lies between them.
    pub(crate) fn is_inherited(&self, of: Branch, at: Time, by: Branch) -> bool {
        of <= by && self.restores[of.0.into()..by.0.into()].iter().all(|restore| at < restore.copied)
    }
}

impl ChannelId {
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0.as_secs_f64())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}.{}", self.publisher, self.number)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.offset)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trimmed => "trimmed",
            Self::Epoch => "epoch",
            Self::Diverged => "diverged",
            Self::Ahead => "ahead",
            Self::NoHistory => "no_history",
            Self::NoCursor => "no_cursor",
            Self::Limit => "limit",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_found_again() {
        let id = MessageId { publisher: 3, number: 1_000_000 };
        assert_eq!(MessageId::parse(&id.to_string()), Some(id));
        for other in ["", "m", "m1", "1.2", "m1.x", "m-1.2", "ca1.abc"] {
            assert_eq!(MessageId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn positions_are_read_from_ids() {
        let position = Position { epoch: 0xab, offset: 17 };
        let id = "00000000000000ab-17-0badcafe";
        assert_eq!(Position::with_tag_of_id(id), Some((position, 0x0bad_cafe)));
        assert_eq!(Position::of_id(id), Some(position));
        for other in ["00000000000000ab-17", "x-17-0badcafe", "00000000000000ab-17-tag"] {
            assert_eq!(Position::of_id(other), None, "{other}");
        }
    }
}
