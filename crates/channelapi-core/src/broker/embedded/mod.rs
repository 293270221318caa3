//! The embedded broker: publications in an append-only log of our own, on one disk, durable before anyone hears of them.
//!
//! From the ground up, and imports run that way alone:
//!
//! - `settings.rs` and `request.rs`: how the log is kept, what publishers ask for and are told.
//! - `log.rs` is the end of the log, where it grows, over the bytes on disk: `log/record.rs` and `log/segment.rs` (`docs/storage.md` draws
//!   them), `log/disk.rs` is the seam to the file system, `log/unreadable.rs` what is done where it cannot read, `log/reserve.rs` what is set
//!   aside for a full disk.
//! - `index.rs` is what is kept, in memory, channel by channel (`index/channel.rs`); `index/held.rs` holds what is kept nowhere else.
//!   `epoch.rs` says which epochs take over from others, `place.rs` is where clients are told that they stand.
//! - `stored.rs` is all of that under its lock, with the newest bytes of the log (`stored/hot.rs`).
//! - `writer.rs` is the one thread that writes, and `writer/command.rs` what it can be asked for: `writer/plan.rs` is what it does with a
//!   batch, `writer/group.rs` what it writes at once, `writer/outcome.rs` what comes of that, `writer/answers.rs` how whoever waits hears of
//!   it, `writer/repeats.rs` what it knows of idempotency keys, `writer/notes.rs` what it writes that is no publication,
//!   `writer/full_disk.rs` what it does without room.
//! - `upkeep.rs` is the thread that gives space back, `upkeep/rewrite.rs` how it does so inside of a segment.
//! - `open.rs` and `open/replay.rs` read it all at the start; `inspect.rs` looks at a log from outside: checks, figures, copies.
//! - `broker.rs` is the broker, with its two threads; `reader.rs` and `standing.rs` are what it can be asked.
//!
//! Invariants:
//! - Whoever was answered "published" finds the publication after a crash or a power cut, at the same place.
//! - What was not answered so is either there as a whole or not at all, and never before anything that was.
//! - What damage or retention took away is known: nothing is called complete that is not.
//!
//! The order of everything: a publication in the log has a *sequence*; one that is kept in memory only has none, but is counted.
//! The sum of both is a publication's *turn*, which is only known to this process. A *place* is both, and the *generation*,
//! one life of the log. A [`Cursor`](crate::model::Cursor) is a place that nobody else can read.

mod broker;
mod epoch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod index;
mod inspect;
mod log;
mod open;
mod place;
mod reader;
mod request;
mod settings;
mod standing;
mod stored;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

pub use broker::{EmbeddedBroker, Figures, Publishing};
pub use inspect::{
    Backup as LogBackup, CopyError, Damage, Report, SegmentStats, Stats, backup, stats, verify,
};
pub use open::OpenError;
pub use place::CursorKey;
pub use reader::{HistoryPage, HistoryQuery};
pub use request::{PublishError, PublishRequest, Published};
pub use settings::StoreSettings;
pub use standing::Standing;
pub use writer::answers::carry_answers;
