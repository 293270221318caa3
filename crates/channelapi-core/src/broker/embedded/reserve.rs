//! The file that is given up when the disk is full, so that upkeep has room to make more.
//!
//! Invariants:
//! - Nothing is written for publishers while it is not whole.
//! - What is left of it when it is given up is for nothing but writing down that the oldest segment goes, which makes room.

use super::disk::{Disk, LogFile, is_gone, is_sync_failure, sync_failed};
use super::log::AppendError;
use super::segment::RESERVE;
use super::upkeep::Poke;
use super::writer::{Appended, Writer};
use crate::limits::LOG_RESERVE_BYTES;
use std::io;
use std::sync::atomic::Ordering;
use tracing::warn;

impl Writer {
    /// Gives up the reserve if the disk is full, so that upkeep can go on.
    pub(super) fn meet_full_disk(&mut self, failure: &AppendError) {
        if let AppendError::NotStored(error) = failure
            && is_full(error)
            && self.has_reserve.load(Ordering::Relaxed)
        {
            match self.give_up_reserve() {
                // The disk is read-only rather than full: there is nothing to make room for.
                Err(error) => warn!(%error, "the reserve could not be given up"),
                Ok(()) => _ = self.pokes.try_send(Poke::default()),
            }
        }
    }

    fn give_up_reserve(&self) -> io::Result<()> {
        cut_reserve(&*self.disk, self.settings.segment_bytes)?;
        self.has_reserve.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Writes down at any cost that the log begins with another segment: the one before it goes then, and with it more bytes than that takes.
    pub(super) fn begin_making_room(&mut self, number: u64) -> Result<(), AppendError> {
        let mut begun = self.begin(number);
        let goes_on = self.stored.read().begins < number;
        for is_last in [false, true] {
            let has_no_room =
                matches!(&begun, Err(AppendError::NotStored(error)) if has_no_room(error)) && goes_on;
            if !has_no_room || self.give_up_reserve().is_err() {
                break;
            }
            if is_last && remove_reserve(&*self.disk).is_err() {
                break;
            }
            begun = self.begin(number);
        }
        begun
    }

    /// Looks whether a disk that took nothing takes something again: the reserve is made anew. Nobody sends a node publications to try with
    /// that calls itself not ready.
    pub(super) fn try_disk_again(&mut self) {
        let is_refusing = self.is_refusing.load(Ordering::Relaxed);
        if is_refusing && self.has_reserve.load(Ordering::Relaxed) && self.give_up_reserve().is_err() {
            return;
        }
        if self.restore_reserve().is_ok() && is_refusing {
            self.is_refusing.store(false, Ordering::Relaxed);
        }
    }

    /// Writes down at once what gives up something, also with the room that the reserve has left: whoever is to make room must be able to.
    pub(super) fn append_making_room(&mut self, bytes: Vec<u8>) -> Result<Appended, AppendError> {
        let had_reserve = self.has_reserve.load(Ordering::Relaxed);
        let appended = self.write(bytes.clone(), true);
        let Err(failure) = &appended else { return appended };
        self.meet_full_disk(failure);
        let has_room = had_reserve && !self.has_reserve.load(Ordering::Relaxed);
        if has_room { self.write(bytes, true) } else { appended }
    }

    /// Nothing is written for publishers while the reserve is not whole.
    pub(super) fn restore_reserve(&mut self) -> Result<(), AppendError> {
        if !self.has_reserve.load(Ordering::Relaxed) {
            let made = make_reserve(&*self.disk, self.settings.segment_bytes);
            made.map_err(|error| {
                if is_sync_failure(&error) { self.log.close(error) } else { AppendError::NotStored(error) }
            })?;
            self.has_reserve.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// How large the reserve is, beside segments of a size.
pub(super) fn reserve_bytes(segment_bytes: u64) -> u64 {
    let most = if cfg!(test) { 1_000 } else { LOG_RESERVE_BYTES };
    most.min(segment_bytes)
}

/// What is left of it when it is given up: room for three prefaces, of which one begins a new segment.
fn rest_bytes(segment_bytes: u64) -> u64 {
    reserve_bytes(segment_bytes) / 4
}

/// Gives up the reserve, but for what is left of it for the removal of a segment.
pub(super) fn cut_reserve(disk: &dyn Disk, segment_bytes: u64) -> io::Result<()> {
    match disk.open(RESERVE) {
        Ok((file, length)) => file.cut(length.min(rest_bytes(segment_bytes))),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives up all of the reserve.
pub(super) fn remove_reserve(disk: &dyn Disk) -> io::Result<()> {
    match disk.remove(RESERVE) {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Sets bytes aside: all of the reserve, or, if that fails, what should be left of it. They are no zeros, because a file system may not give
/// those any room.
pub(super) fn make_reserve(disk: &dyn Disk, segment_bytes: u64) -> io::Result<()> {
    let length = reserve_bytes(segment_bytes);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    let (file, length) = match disk.open(RESERVE) {
        Err(error) if is_gone(&error) => (disk.create(RESERVE)?, 0),
        opened => opened?,
    };
    let rest = rest_bytes(segment_bytes);
    if length < rest {
        let part = &bytes[..usize::try_from(rest).map_err(io::Error::other)?];
        file.write_at(0, part).inspect_err(|_| _ = disk.remove(RESERVE))?;
    }
    // There must be room for twice as much: otherwise the room is the reserve's own, just given up for upkeep.
    let write = |file: &dyn LogFile| {
        file.write_at(0, &bytes)?;
        file.write_at(bytes.len() as u64, &bytes)?;
        file.cut(bytes.len() as u64)?;
        file.sync().map_err(sync_failed)
    };
    write(&*file).inspect_err(|_| {
        if file.cut(rest).is_err() {
            _ = disk.remove(RESERVE);
        }
    })
}

/// Whether a disk that failed so takes no more bytes.
pub(super) fn is_full(error: &io::Error) -> bool {
    has_no_room(error) || error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Whether it would take some if others were given up.
pub(super) fn has_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
