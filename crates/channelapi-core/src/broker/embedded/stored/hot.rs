//! The newest bytes of the log, kept in memory, so that whoever was away for a moment is served without the disk.
//!
//! It holds groups of records as they were written: nothing is done for a single publication, neither when it is stored nor
//! when it is given up, and no request's body is kept alive by a part of it.

use super::super::index::Entry;
use bytes::Bytes;
use std::collections::VecDeque;

/// The newest groups, the oldest first.
pub(in super::super) struct Hot {
    groups: VecDeque<Group>,
    bytes: usize,
    bytes_max: usize,
}

struct Group {
    segment: u32,
    position: u64,
    bytes: Bytes,
    /// What it takes in memory.
    cost: usize,
}

/// What a group costs besides its bytes.
const GROUP_OVERHEAD: usize = 128;

impl Hot {
    /// Nothing, with room for so many bytes.
    pub(in super::super) fn with_room(bytes_max: usize) -> Self {
        Self { groups: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// How many bytes there is room for.
    pub(in super::super) fn room(&self) -> usize {
        self.bytes_max
    }

    /// Keeps a group, which lies behind all earlier ones.
    pub(in super::super) fn push(&mut self, segment: u32, position: u64, group: Vec<u8>) {
        let cost = group.capacity() + GROUP_OVERHEAD;
        self.bytes += cost;
        self.groups.push_back(Group { segment, position, bytes: group.into(), cost });
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.groups.pop_front()
        {
            self.bytes -= oldest.cost;
        }
    }

    /// The record of an entry, if it is here.
    pub(in super::super) fn find(&self, entry: &Entry) -> Option<Bytes> {
        let place = (entry.segment, u64::from(entry.position));
        let behind = self.groups.partition_point(|group| (group.segment, group.position) <= place);
        let group = self.groups.get(behind.checked_sub(1)?).filter(|group| group.segment == entry.segment)?;
        let start = usize::try_from(place.1 - group.position).ok()?;
        let end = start + entry.length as usize;
        (end <= group.bytes.len()).then(|| group.bytes.slice(start..end))
    }
}
