//! The file that is given up when the disk is full, so that upkeep has room to make more.
//!
//! Invariants:
//! - Nothing is written for publishers while it is not whole.
//! - What is left of it when it is given up is for nothing but writing down that the oldest segment goes, which makes room; and before
//!   that, where the oldest is the one that grows, for going on in another.

use super::disk::{Disk, LogFile, is_gone, sync_failed};
use super::segment::RESERVE;
use crate::limits::LOG_RESERVE_BYTES;
use std::io;

/// How large the reserve is, beside segments of a size.
pub(in super::super) fn reserve_bytes(segment_bytes: u64) -> u64 {
    let most = if cfg!(test) { 1_000 } else { LOG_RESERVE_BYTES };
    most.min(segment_bytes)
}

/// What is left of it when it is given up: room for three prefaces, of which one begins a new segment.
fn rest_bytes(segment_bytes: u64) -> u64 {
    reserve_bytes(segment_bytes) / 4
}

/// Gives up the reserve, but for what is left of it for the removal of a segment.
pub(in super::super) fn cut_reserve(disk: &dyn Disk, segment_bytes: u64) -> io::Result<()> {
    match disk.open(RESERVE) {
        Ok((file, length)) => file.cut(length.min(rest_bytes(segment_bytes))),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives up all of the reserve.
pub(in super::super) fn remove_reserve(disk: &dyn Disk) -> io::Result<()> {
    match disk.remove(RESERVE) {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Sets bytes aside: all of the reserve, or, if that fails, what should be left of it. They are no zeros, because a file system may not give
/// those any room.
pub(in super::super) fn make_reserve(disk: &dyn Disk, segment_bytes: u64) -> io::Result<()> {
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
