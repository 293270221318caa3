//! The end of the log, where it grows: appending, syncing, going on in a new segment.
//!
//! Invariants:
//! - A failed write leaves nothing behind: it is cut off again. A failed sync, or a failed cut, fences the log for good, because
//!   what the disk holds then is unknown.
//! - A segment is sealed and synced before the next one is made; only the last one grows.
//! - Behind the end of the last segment is nothing, or zeros: space is written ahead, because a sync that has to make a longer
//!   file durable takes about twice as long as one that has not.
//! - The first record that is written after a sync is marked, so that a start can tell what a power cut tore from damage.

pub(super) mod disk;
pub(super) mod record;
pub(super) mod reserve;
pub(super) mod segment;
pub(super) mod unreadable;

use super::settings::StoreSettings;
use crate::failpoint;
use crate::fence::Fence;
use disk::{Disk, LogFile, is_sync_failure};
use record::{Record, mark};
use segment::{SEGMENT_HEADER_BYTES, header, name_of};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::error;

/// What is written ahead, in pieces that stay in the processor's cache.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The segment of what is in none.
pub(super) const MEMORY: u32 = 0;

/// More than a seal has.
const SEAL_ROOM: u64 = 128;

/// The log, open for appending.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    segment_bytes_max: u64,
    /// So many zeros are written ahead at once.
    ahead_bytes: u64,
    /// Whether the disk has room for them, as far as this segment has found out.
    writes_ahead: bool,
    /// Whether the last group was so large that making the file longer was the smallest part of it.
    is_large: bool,
    pub(super) head: Head,
    fence: Fence,
    /// Somebody has moved or deleted the directory: no start would find what is written.
    pub(super) is_displaced: Arc<AtomicBool>,
}

/// The segment that grows.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) number: u64,
    /// By which the index knows it; whoever makes it gives it one.
    pub(super) id: u32,
    pub(super) file: Arc<dyn LogFile>,
    /// Where the records end.
    pub(super) length: u64,
    /// Where the file ends: up to here it is zeros.
    pub(super) file_length: u64,
    /// Whether everything in it survives a power cut.
    pub(super) is_synced: bool,
    /// It is complete: the next record belongs into the next segment.
    pub(super) is_sealed: bool,
    /// A write failed on a disk that had become read-only; whatever it left behind has to be cut off before anything is written.
    pub(super) needs_cut: bool,
}

/// Why something was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// The disk took nothing; later attempts may succeed.
    #[error("the log could not be written: {0}")]
    NotStored(io::Error),
    /// Nobody knows what the disk holds; the log takes nothing more.
    #[error("the log could not be synced and is closed: {0}")]
    InDoubt(io::Error),
    /// It was closed before, and nothing was tried.
    #[error("the log is closed, because an earlier sync failed")]
    Fenced,
}

impl Log {
    pub(super) fn new(disk: Arc<dyn Disk>, settings: &StoreSettings, head: Head, fence: Fence) -> Self {
        let StoreSettings { segment_bytes: segment_bytes_max, ahead_bytes, .. } = *settings;
        Self {
            disk,
            segment_bytes_max,
            ahead_bytes,
            writes_ahead: true,
            is_large: false,
            head,
            fence,
            is_displaced: Arc::default(),
        }
    }

    /// Whether the next record belongs into a new segment.
    pub(super) fn is_full(&self) -> bool {
        self.head.is_sealed || self.head.length >= self.segment_bytes_max
    }

    /// Whether so many bytes of records belong into a new segment, too. Where files may not be longer than two segments, what is left of
    /// one may not take a group, or the seal behind it; a segment that has just begun is no place to leave.
    pub(super) fn is_full_for(&self, bytes: usize) -> bool {
        let length = self.head.length;
        let is_begun = length > self.segment_bytes_max / 2;
        self.is_full() || (is_begun && length + bytes as u64 + SEAL_ROOM > 2 * self.segment_bytes_max)
    }

    /// Appends records, and returns where they begin. A crash may take them until they are synced.
    pub(super) fn append(&mut self, records: &mut [u8]) -> Result<u64, AppendError> {
        self.check()?;
        self.check_place()?;
        if self.head.is_synced {
            mark(records);
        }
        let position = self.head.length;
        let cut = if self.head.needs_cut { self.cut() } else { Ok(()) };
        let result = cut
            .and_then(|()| failpoint::hit("append"))
            .and_then(|()| self.head.file.write_at(position, records));
        if let Err(error) = result {
            if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
                // It could not be cut either, but nobody else writes to it until it can.
                self.head.needs_cut = true;
                return Err(AppendError::NotStored(error));
            }
            return Err(match self.cut() {
                Ok(()) => AppendError::NotStored(error),
                Err(_) => self.close(error),
            });
        }
        failpoint::pass("after-append");
        self.head.is_synced = false;
        self.head.length += records.len() as u64;
        self.is_large = records.len() as u64 > self.ahead_bytes / 8;
        self.head.file_length = self.head.file_length.max(self.head.length);
        Ok(position)
    }

    /// Waits until everything survives a power cut.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        self.check()?;
        let synced = failpoint::hit("sync").and_then(|()| self.head.file.sync());
        synced.map_err(|error| self.close(error))?;
        self.head.is_synced = true;
        failpoint::pass("after-sync");
        Ok(())
    }

    /// Waits until everything survives a power cut. If that fails, what was appended from `position` on is taken back as well as
    /// can be: its publishers are told that nobody knows.
    pub(super) fn sync_from(&mut self, position: u64) -> Result<(), AppendError> {
        self.sync().inspect_err(|_| {
            self.head.length = position;
            // Nobody knows what the disk holds, whether this works or not.
            _ = self.cut();
        })
    }

    /// Writes zeros behind the end when few are left. That is done between groups, so that none of them waits for it.
    pub(super) fn write_ahead(&mut self) {
        let Head { length, file_length, .. } = self.head;
        let is_enough = file_length - length >= self.ahead_bytes / 4;
        if is_enough || !self.writes_ahead || self.is_large || self.is_full() || self.check().is_err() {
            return;
        }
        let end = (file_length + self.ahead_bytes).min(self.segment_bytes_max);
        while self.head.file_length < end {
            let position = self.head.file_length;
            let count = usize::try_from(end - position).map_or(ZEROS.len(), |count| count.min(ZEROS.len()));
            self.head.file_length += count as u64;
            if self.head.file.write_at(position, &ZEROS[..count]).is_err() {
                // The room is needed for something better. Zeros that cannot be cut off do no harm.
                _ = self.cut();
                self.writes_ahead = false;
                return;
            }
        }
    }

    /// Cuts off what lies behind the end.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.head.file.cut(self.head.length)?;
        self.head.file_length = self.head.length;
        self.head.needs_cut = false;
        Ok(())
    }

    /// Seals the last segment and goes on in a new one, which begins with a preface. The next sequence is `next`.
    pub(super) fn roll(&mut self, next: u64, preface: &[u8]) -> Result<(), AppendError> {
        self.check()?;
        self.check_place()?;
        if !self.head.is_sealed {
            self.seal(next)?;
        }
        let number = self.head.number + 1;
        self.head = start(&*self.disk, number, next, preface).map_err(|failure| match failure {
            AppendError::InDoubt(error) => self.close(error),
            failure @ (AppendError::NotStored(_) | AppendError::Fenced) => failure,
        })?;
        self.writes_ahead = true;
        Ok(())
    }

    /// Says that the segment is complete. The next sequence is `next`.
    pub(super) fn seal(&mut self, next: u64) -> Result<(), AppendError> {
        let mut seal = Vec::new();
        Record::Seal { next }.write(&mut seal);
        self.append(&mut seal)?;
        // Zeros behind a seal say nothing and do no harm.
        _ = self.cut();
        self.sync()?;
        self.head.is_sealed = true;
        Ok(())
    }

    /// Whether nothing is written any more.
    pub(super) fn is_closed(&self) -> bool {
        self.fence.is_closed()
    }

    fn check(&self) -> Result<(), AppendError> {
        if self.is_closed() {
            return Err(AppendError::Fenced);
        }
        Ok(())
    }

    fn check_place(&self) -> Result<(), AppendError> {
        if self.is_displaced.load(Ordering::Relaxed) {
            let why = "somebody has moved or deleted its directory, and no start would find it";
            return Err(AppendError::NotStored(io::Error::new(io::ErrorKind::NotFound, why)));
        }
        Ok(())
    }

    /// Closes the log, because a sync failed so.
    pub(super) fn close(&self, error: io::Error) -> AppendError {
        error!(%error, "the log could not be synced: nothing more is written; restart when the disk is well");
        self.fence.close();
        AppendError::InDoubt(error)
    }
}

/// Makes a new segment.
pub(super) fn start(disk: &dyn Disk, number: u64, next: u64, preface: &[u8]) -> Result<Head, AppendError> {
    let name = name_of(number);
    let file = disk.create(&name).map_err(|error| {
        let kind = if is_sync_failure(&error) { AppendError::InDoubt } else { AppendError::NotStored };
        kind(error)
    })?;
    let mut bytes = header(number, next);
    bytes.extend_from_slice(preface);
    debug_assert!(bytes.len() >= SEGMENT_HEADER_BYTES);
    if let Err(error) = file.write_at(0, &bytes) {
        // If it stays, the next one could not be made: then nobody knows what a start would find.
        return Err(match disk.remove(&name) {
            Ok(()) => AppendError::NotStored(error),
            Err(_) => AppendError::InDoubt(error),
        });
    }
    let length = bytes.len() as u64;
    Ok(Head {
        number,
        id: MEMORY,
        file,
        length,
        file_length: length,
        is_synced: false,
        is_sealed: false,
        needs_cut: false,
    })
}
