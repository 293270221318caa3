//! The embedded broker: publications in an append-only log of our own, on one disk, durable before anyone hears of them.
//!
//! - `record.rs` and `log.rs` are the bytes on disk (`docs/storage.md` draws them), `disk.rs` the seam to the file system.
//! - `writer.rs` is the one thread that writes; `index.rs` is what the log holds, in memory.
//!
//! Invariants:
//! - Whoever was answered "published" finds the publication after a crash or a power cut, at the same place.
//! - What was not answered so is either there as a whole or not at all, and never before anything that was.
//! - What damage or retention took away is known: [`EmbeddedBroker::complete_since`] never claims too much.

mod disk;
mod index;
mod log;
mod record;
#[cfg(test)]
mod tests;
mod writer;

pub use index::Retention;
pub use log::OpenError;

use super::PublicationSink;
use crate::clock::Clock;
use crate::limits::{HISTORY_PAGE_BYTES_MAX, LOG_QUEUE_MAX, LOG_SEGMENT_BYTES};
use crate::model::ChannelName;
use bytes::Bytes;
use disk::{Directory, Disk};
use index::Index;
use log::Log;
use parking_lot::RwLock;
use record::{Generation, Record, StoredPublication};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use tokio::sync::{mpsc, oneshot};
use writer::{Repeats, Stored, Waiting, Writer, entry_of, random, standing_of};

/// Stores publications on this machine's disk and carries them to this node.
pub struct EmbeddedBroker {
    waiting: mpsc::Sender<Waiting>,
    stored: Arc<RwLock<Stored>>,
}

/// What a publisher wants stored.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// Where.
    pub channel: ChannelName,
    /// JSON, byte for byte.
    pub data: Bytes,
    /// When it dies, in milliseconds since 1970; 0 is never.
    pub expires_at: u64,
    /// Under the same key, the same channel and the same data, nothing is stored twice.
    pub idempotency_key: Option<Box<str>>,
}

/// Where a publication is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The channel's history it belongs to.
    pub epoch: u64,
    /// Its place in that history, from 1 on, without holes.
    pub offset: u64,
    /// Its place among all publications of this broker.
    pub sequence: u64,
    /// Whether it was stored before, by an earlier request under the same key.
    pub is_duplicate: bool,
}

/// Why a publication was not stored. None of them was delivered to anyone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The disk is full or read-only; it may work again later.
    #[error("the disk is full")]
    StorageFull,
    /// The disk refused the write; it may work again later.
    #[error("the publication could not be written: {0}")]
    NotStored(String),
    /// A sync failed before: nobody knows what the disk holds, so nothing more is written.
    #[error(
        "the log is closed because the disk could not be synced; restart the server when the disk is well"
    )]
    Fenced,
    /// The key was used for other data.
    #[error("the idempotency key was used for other data in this channel")]
    KeyReused,
    /// The writer has stopped.
    #[error("the broker has stopped")]
    Stopped,
}

/// A stored publication, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryItem {
    /// Its place in the channel.
    pub offset: u64,
    /// Its place among all publications.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub published_at: u64,
    /// JSON, as it was published.
    pub data: Bytes,
}

/// A part of a channel's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// The history's identity.
    pub epoch: u64,
    /// The oldest first.
    pub items: Vec<HistoryItem>,
    /// The offset that the next publication will have.
    pub next_offset: u64,
}

impl EmbeddedBroker {
    /// Opens the log in a directory, making it if it is missing, and starts the thread that writes.
    pub fn open(
        path: &Path,
        sink: Arc<dyn PublicationSink>,
        clock: Clock,
        retention: Retention,
    ) -> Result<Self, OpenError> {
        Self::open_on(Box::new(Directory::open(path)?), LOG_SEGMENT_BYTES, sink, clock, retention)
    }

    fn open_on(
        disk: Box<dyn Disk>,
        segment_bytes: u64,
        sink: Arc<dyn PublicationSink>,
        clock: Clock,
        retention: Retention,
    ) -> Result<Self, OpenError> {
        let mut index = Index::default();
        let mut repeats = Repeats::default();
        let mut generations = Vec::new();
        let mut log = Log::open(disk, segment_bytes, |record, place| match record {
            Record::Generation(generation) => generations.push(generation),
            Record::Publication(publication) => {
                index.insert(&publication.channel, standing_of(&publication), entry_of(&publication, place));
                index.trim(&publication.channel, retention, publication.published_at);
                repeats.remember(&publication);
            }
        })?;
        let next = log.first_free().max(1);
        index.expect(next);
        // From here on the log goes on under another name: a position of a life that this disk has not seen is recognised.
        let generation = Generation { id: random(), first: next };
        let mut bytes = Vec::new();
        Record::Generation(generation).write(&mut bytes);
        log.append(next, &bytes).map_err(|error| OpenError::Io(io::Error::other(error)))?;
        generations.push(generation);

        let stored = Arc::new(RwLock::new(Stored { index, files: log.files(), generations }));
        let (waiting, queue) = mpsc::channel(LOG_QUEUE_MAX);
        let writer = Writer { log, stored: stored.clone(), sink, clock, retention, next, repeats };
        thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || writer.run(queue))
            .map_err(OpenError::Io)?;
        Ok(Self { waiting, stored })
    }

    /// Stores a publication and hands it to the sink. When this returns, it survives a power cut.
    pub async fn publish(&self, request: PublishRequest) -> Result<Published, PublishError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { request, answer };
        self.waiting.send(waiting).await.map_err(|_| PublishError::Stopped)?;
        answered.await.map_err(|_| PublishError::Stopped)?
    }

    /// Up to `limit` publications of a channel with an offset of at least `from`, the oldest first, and no more than fits into a
    /// page of [`HISTORY_PAGE_BYTES_MAX`]. `None` for a channel that nothing is known of. It reads from disk.
    pub fn history(&self, channel: &ChannelName, from: u64, limit: usize) -> io::Result<Option<HistoryPage>> {
        let (epoch, next_offset, places) = {
            let stored = self.stored.read();
            let Some(known) = stored.index.channel(channel) else {
                return Ok(None);
            };
            let skipped = usize::try_from(from.saturating_sub(known.first_offset())).unwrap_or(usize::MAX);
            let mut room = HISTORY_PAGE_BYTES_MAX;
            let places: Vec<_> = known
                .entries
                .iter()
                .skip(skipped)
                .take(limit)
                .take_while(|entry| {
                    let is_first = room == HISTORY_PAGE_BYTES_MAX;
                    let length = entry.place.length as usize;
                    let fits = is_first || length <= room;
                    room = room.saturating_sub(length);
                    fits
                })
                .filter_map(|entry| Some((stored.files.get(&entry.place.segment)?.clone(), entry.place)))
                .collect();
            (known.epoch, known.next_offset, places)
        };
        let mut items = Vec::with_capacity(places.len());
        for (file, place) in places {
            let Record::Publication(publication) = log::read(&*file, place)? else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the index points at no publication"));
            };
            let StoredPublication { offset, sequence, published_at, data, .. } = publication;
            items.push(HistoryItem { offset, sequence, published_at, data });
        }
        Ok(Some(HistoryPage { epoch, items, next_offset }))
    }

    /// The sequence since which everything of a channel is provably here, whether the channel is known or not.
    pub fn complete_since(&self, channel: &ChannelName) -> u64 {
        self.stored.read().index.complete_since(channel)
    }

    /// Whether this log has lived through a sequence of a generation: only then does a position there mean what it says.
    pub fn has_lived(&self, generation: u64, sequence: u64) -> bool {
        let stored = self.stored.read();
        let mut later = stored.generations.iter().skip_while(|known| known.id != generation);
        match (later.next(), later.next()) {
            (Some(known), Some(next)) => (known.first..=next.first).contains(&(sequence + 1)),
            (Some(known), None) => (known.first..=stored.index.next_sequence()).contains(&(sequence + 1)),
            (None, _) => false,
        }
    }

    /// The name under which the log goes on since this process started.
    pub fn generation(&self) -> u64 {
        self.stored.read().generations.last().expect("opening adds one").id
    }

    /// Channels and publications that are kept.
    pub fn size(&self) -> (usize, usize) {
        self.stored.read().index.size()
    }
}
