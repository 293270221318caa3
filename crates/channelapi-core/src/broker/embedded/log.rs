//! The end of the log, where it grows: appending, syncing, going on in a new segment.
//!
//! Invariants:
//! - A failed write leaves nothing behind: it is cut off again. A failed sync, or a failed cut, fences the log for good, because
//!   what the disk holds then is unknown.
//! - A segment is sealed and synced before the next one is made; only the last one grows.

use super::disk::{Disk, LogFile};
use super::index::MEMORY;
use super::record::Record;
use super::segment::{SEGMENT_HEADER_BYTES, header, name_of};
use crate::failpoint;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::error;

/// The log, open for appending.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    segment_bytes_max: u64,
    pub(super) head: Head,
    fence: Fence,
}

/// The segment that grows.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) number: u64,
    /// By which the index knows it; whoever makes it gives it one.
    pub(super) id: u32,
    pub(super) file: Arc<dyn LogFile>,
    pub(super) length: u64,
    /// It is complete: the next record belongs into the next segment.
    pub(super) is_sealed: bool,
}

/// Says to whoever wants to know that nothing more is written.
#[derive(Clone)]
pub(super) struct Fence(Arc<watch::Sender<bool>>);

impl Default for Fence {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Fence {
    pub(super) fn close(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.0.borrow()
    }

    pub(super) async fn closed(&self) {
        let mut changes = self.0.subscribe();
        // The sender lives as long as self.
        _ = changes.wait_for(|is_closed| *is_closed).await;
    }
}

/// Why something was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// The disk took nothing; later attempts may succeed.
    #[error("the log could not be written: {0}")]
    NotStored(io::Error),
    /// Nobody knows what the disk holds; the log takes nothing more.
    #[error("the log could not be synced and is closed: {0}")]
    Fenced(io::Error),
}

impl Log {
    pub(super) fn new(disk: Arc<dyn Disk>, segment_bytes_max: u64, head: Head, fence: Fence) -> Self {
        Self { disk, segment_bytes_max, head, fence }
    }

    /// Whether the next record belongs into a new segment.
    pub(super) fn is_full(&self) -> bool {
        self.head.is_sealed || self.head.length >= self.segment_bytes_max
    }

    /// Appends records, and returns where they begin. A crash may take them until they are synced.
    pub(super) fn append(&mut self, records: &[u8]) -> Result<u64, AppendError> {
        self.check()?;
        let result = failpoint::hit("append").and_then(|()| self.head.file.append(records));
        if let Err(error) = result {
            return Err(match self.head.file.cut(self.head.length) {
                Ok(()) => AppendError::NotStored(error),
                Err(_) => self.close(error),
            });
        }
        failpoint::pass("after-append");
        let position = self.head.length;
        self.head.length += records.len() as u64;
        Ok(position)
    }

    /// Waits until everything survives a power cut.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        self.check()?;
        let synced = failpoint::hit("sync").and_then(|()| self.head.file.sync());
        synced.map_err(|error| self.close(error))?;
        failpoint::pass("after-sync");
        Ok(())
    }

    /// Seals the last segment and goes on in a new one, which begins with a preface. The next sequence is `next`.
    pub(super) fn roll(&mut self, next: u64, preface: &[u8]) -> Result<(), AppendError> {
        self.check()?;
        if !self.head.is_sealed {
            self.seal(next)?;
        }
        let number = self.head.number + 1;
        self.head = start(&*self.disk, number, next, preface).map_err(|failure| match failure {
            AppendError::Fenced(error) => self.close(error),
            failure @ AppendError::NotStored(_) => failure,
        })?;
        Ok(())
    }

    /// Says that the segment is complete. The next sequence is `next`.
    pub(super) fn seal(&mut self, next: u64) -> Result<(), AppendError> {
        let mut seal = Vec::new();
        Record::Seal { next }.write(&mut seal);
        self.append(&seal)?;
        self.sync()?;
        self.head.is_sealed = true;
        Ok(())
    }

    fn check(&self) -> Result<(), AppendError> {
        if self.fence.is_closed() {
            return Err(AppendError::Fenced(io::Error::other("an earlier sync failed")));
        }
        Ok(())
    }

    fn close(&self, error: io::Error) -> AppendError {
        error!(%error, "the log could not be synced: nothing more is written; restart when the disk is well");
        self.fence.close();
        AppendError::Fenced(error)
    }
}

/// Makes a new segment.
pub(super) fn start(disk: &dyn Disk, number: u64, next: u64, preface: &[u8]) -> Result<Head, AppendError> {
    let name = name_of(number);
    let file = disk.create(&name).map_err(AppendError::NotStored)?;
    let mut bytes = header(number, next);
    bytes.extend_from_slice(preface);
    debug_assert!(bytes.len() >= SEGMENT_HEADER_BYTES);
    if let Err(error) = file.append(&bytes) {
        // If it stays, the next one could not be made: then nobody knows what a start would find.
        return Err(match disk.remove(&name) {
            Ok(()) => AppendError::NotStored(error),
            Err(_) => AppendError::Fenced(error),
        });
    }
    Ok(Head { number, id: MEMORY, file, length: bytes.len() as u64, is_sealed: false })
}
