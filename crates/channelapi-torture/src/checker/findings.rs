//! The laws, and where a history breaks them.

use std::collections::BTreeMap;
use std::fmt;

/// What every history must fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Law {
    /// What was accepted reaches every client that was not told otherwise, and is in the history.
    NothingLost,
    /// What arrives was published, and to that channel.
    NoPhantom,
    /// What was refused arrives nowhere.
    RefusedStaysOut,
    /// One offset holds the same message for everybody.
    OneContent,
    /// The offsets that a client sees have no hole and never go back.
    NoHole,
    /// A message that was accepted before another was sent comes first.
    RealTimeOrder,
    /// A message comes again only if the client did not yet have a cursor behind it.
    NoRepeat,
    /// One idempotency key is stored once.
    OneKeyOneOffset,
    /// `recovered` is true exactly if it is true, and the reason for a false is the real one.
    HonestVerdict,
    /// A client gets nothing from a channel that its tokens do not open.
    OwnChannelsOnly,
    /// A batch is stored as a whole or not at all, and nothing comes between its messages.
    WholeBatch,
    /// A consumer stands nowhere before what an ack was answered for, and nowhere behind what was ever confirmed.
    AcksKept,
    /// What has a time to live reaches nobody who comes after its end.
    TimeToLive,
    /// What was there before a purge that was answered reaches nobody who comes later.
    PurgedStaysOut,
    /// Whoever asks for what is unread gets nothing that it was told to have confirmed, and is told how much is unread.
    WhatIsUnread,
}

impl Law {
    /// As the list of laws numbers them.
    fn number(self) -> &'static str {
        match self {
            Self::NothingLost => "C1",
            Self::NoPhantom => "C2",
            Self::RefusedStaysOut => "C3",
            Self::OneContent => "C4",
            Self::NoHole => "C5",
            Self::RealTimeOrder => "C6",
            Self::NoRepeat => "C7",
            Self::OneKeyOneOffset => "C8",
            Self::HonestVerdict => "C9",
            Self::OwnChannelsOnly => "C10",
            Self::WholeBatch => "C11",
            Self::AcksKept => "C12",
            Self::TimeToLive => "C13",
            Self::PurgedStaysOut => "C14",
            Self::WhatIsUnread => "C15",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

/// One place where a law is broken, with the lines of the history that show it.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) law: Law,
    pub(crate) text: String,
    pub(crate) lines: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.text)?;
        self.lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// A broken server breaks a law thousands of times; a reader needs a few, and the number.
const KEPT_PER_LAW: usize = 5;

#[derive(Default)]
pub(crate) struct Findings {
    counts: BTreeMap<Law, u64>,
    kept: Vec<Violation>,
}

impl Findings {
    /// `lines` is asked only if the violation is among those that are kept.
    pub(super) fn add(&mut self, law: Law, text: impl Into<String>, lines: impl FnOnce() -> Vec<String>) {
        let count = self.counts.entry(law).or_default();
        *count += 1;
        if *count <= KEPT_PER_LAW as u64 {
            self.kept.push(Violation { law, text: text.into(), lines: lines() });
        }
    }

    pub(crate) fn count(&self, laws: &[Law]) -> u64 {
        laws.iter().filter_map(|law| self.counts.get(law)).sum()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (law, count) in other.counts {
            *self.counts.entry(law).or_default() += count;
        }
        self.kept.extend(other.kept);
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.kept {
            writeln!(f, "{violation}")?;
        }
        let counts: Vec<_> =
            self.counts.iter().map(|(law, count)| format!("{law} broken {count} times")).collect();
        f.write_str(&counts.join(", "))
    }
}
