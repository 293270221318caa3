//! What is in use of each segment.
//!
//! A segment of which nothing is in use says nothing that is not said elsewhere.

use super::super::log::MEMORY;
use super::channel::Entry;

/// What is in use of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Usage {
    /// Entries.
    pub(in super::super) live: u32,
    /// Channels whose newest record is in it.
    pub(super) anchors: u32,
    /// Bytes of the entries' records.
    pub(in super::super) live_bytes: u64,
}

/// About how many bytes of a segment say where a channel stands, but for its name.
pub(in super::super) const TOP_BYTES_ABOUT: u64 = 64;

impl Usage {
    /// Bytes that stay when the segment is rewritten, at least. Where a channel stands that has nothing in it takes some, too.
    pub(in super::super) fn staying_bytes(self) -> u64 {
        let tops = self.anchors.saturating_sub(self.live);
        self.live_bytes + u64::from(tops) * TOP_BYTES_ABOUT
    }
}

/// What is in use of each segment, by its id.
#[derive(Default)]
pub(in super::super) struct UsageTable(Vec<Usage>);

impl UsageTable {
    /// What is in use of a segment.
    pub(in super::super) fn of(&self, segment: u32) -> Usage {
        self.0.get(segment as usize).copied().unwrap_or_default()
    }

    /// An entry is in its segment.
    pub(super) fn add(&mut self, entry: &Entry) {
        let usage = self.place(entry.segment);
        usage.live += 1;
        usage.live_bytes += u64::from(entry.length);
    }

    /// An entry is not in its segment any more.
    pub(super) fn remove(&mut self, entry: &Entry) {
        let usage = self.place(entry.segment);
        usage.live -= 1;
        usage.live_bytes -= u64::from(entry.length);
    }

    /// A channel's newest record is in another segment.
    pub(super) fn move_anchor(&mut self, from: u32, to: u32) {
        if from != MEMORY {
            self.place(from).anchors -= 1;
        }
        if to != MEMORY {
            self.place(to).anchors += 1;
        }
    }

    /// Of a segment that may be new.
    fn place(&mut self, segment: u32) -> &mut Usage {
        let place = segment as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, Usage::default());
        }
        &mut self.0[place]
    }
}
