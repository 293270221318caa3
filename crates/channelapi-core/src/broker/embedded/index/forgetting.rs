//! Channels of which nothing is kept: where they stand is forgotten when others need the room, or the disk has none for it.
//!
//! Whatever is forgotten raises the floor: whoever comes back to it, or to any other channel that is not known, with a place from before is
//! told that something may be missing. So it is never more than must be, and the longest idle.

use super::super::log::MEMORY;
use super::{CHANNEL_BYTES, Channel, Index};
use crate::counters::COUNTERS;
use crate::limits::{IDLE_CHANNELS_FRACTION, IDLE_CHANNELS_MAX};
use std::ops::Range;

/// Which channels are to be forgotten: so many of those to which nothing was published behind a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct TooIdle {
    pub(in super::super) count: usize,
    pub(in super::super) newest: u64,
}

/// What all channels take, and may.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Room {
    /// See [`Index::bytes`].
    pub(in super::super) taken: usize,
    pub(in super::super) most: usize,
}

impl Room {
    /// Bytes by which it is more than three quarters.
    pub(in super::super) fn excess(self) -> usize {
        self.taken.saturating_sub(self.most / 4 * 3)
    }

    /// Which of the idle channels have to go: as many as free the excess, but for the part that they have to themselves, and all that are
    /// too many in any case.
    pub(in super::super) fn too_idle(self, mut idle: Vec<Idle>) -> Option<TooIdle> {
        idle.sort_unstable_by_key(|one| one.newest);
        let all: usize = idle.iter().map(|one| one.bytes).sum();
        let too_much = self.excess().min(all.saturating_sub(self.most / IDLE_CHANNELS_FRACTION));
        let mut freed = 0;
        let is_needed = |one: &&Idle| {
            let is_needed = freed < too_much;
            freed += one.bytes;
            is_needed
        };
        let needed = idle.iter().take_while(is_needed).count();
        let count = needed.max(idle.len().saturating_sub(IDLE_CHANNELS_MAX));
        let newest = idle[..count].last()?.newest;
        Some(TooIdle { count, newest })
    }
}

/// A channel of which nothing is kept.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Idle {
    /// The turn of its newest publication.
    pub(in super::super) newest: u64,
    /// What is known of it takes so many.
    bytes: usize,
}

impl Index {
    /// Those of some channels of which nothing is kept.
    pub(in super::super) fn idle(&self, ids: Range<u32>) -> impl Iterator<Item = Idle> {
        let known = ids.filter_map(|id| self.get(id)).filter(|known| known.entries.is_empty());
        known.map(|known| Idle { newest: known.newest, bytes: CHANNEL_BYTES + known.name.as_str().len() })
    }

    /// Forgets those of some channels that are too idle, which are counted down.
    pub(in super::super) fn forget_idle(&mut self, ids: Range<u32>, too_idle: &mut TooIdle) {
        let is_too_idle = |known: &Channel, newest| known.entries.is_empty() && known.newest <= newest;
        let before = too_idle.count;
        for id in ids {
            if too_idle.count > 0 && self.get(id).is_some_and(|known| is_too_idle(known, too_idle.newest)) {
                self.forget(id);
                too_idle.count -= 1;
            }
        }
        COUNTERS.channels_forgotten.add((before - too_idle.count) as u64);
    }

    /// While the log is read, and nobody waits: forgets at once what the last process had forgotten by and by. Otherwise every channel would
    /// be known again of which the log has a record, and that is any number.
    ///
    /// What is kept of others does not count: some of it is too old, which upkeep finds out when the machine knows what time it is. While a
    /// server runs, those of which nothing is kept take no more than `most` either, so that none goes that was known.
    pub(in super::super) fn make_room(&mut self, most: usize) {
        let all = 0..self.ids();
        let idle: Vec<Idle> = self.idle(all.clone()).collect();
        let taken = idle.iter().map(|one| one.bytes).sum();
        if taken > most
            && let Some(mut too_idle) = (Room { taken, most }).too_idle(idle)
        {
            self.forget_idle(all, &mut too_idle);
        }
    }

    /// Forgets those of some channels whose newest record is in a segment, and of which nothing is kept.
    pub(in super::super) fn forget_anchored(&mut self, ids: Range<u32>, segment: u32) {
        for id in ids {
            let known = self.get(id);
            if known.is_some_and(|known| known.anchor == segment && known.entries.is_empty()) {
                self.forget(id);
                COUNTERS.channels_forgotten.add(1);
            }
        }
    }

    fn forget(&mut self, id: u32) {
        self.anchor(id, MEMORY);
        let forgotten = self.channels.remove(id as usize);
        self.names.remove(&forgotten.name);
        self.name_bytes -= forgotten.name.as_str().len();
        self.floor.turn = self.floor.turn.max(self.completeness(&forgotten).0);
        self.floor.sequence = self.floor.sequence.max(forgotten.last + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_go_and_no_more_than_must() {
        let check = |(taken, most), idle: &[(u64, usize)], expected: Option<(usize, u64)>| {
            let idle = idle.iter().map(|(newest, bytes)| Idle { newest: *newest, bytes: *bytes });
            let found = Room { taken, most }.too_idle(idle.collect());
            assert_eq!(found.map(|found| (found.count, found.newest)), expected, "{taken} of {most}");
        };
        let idle = [(5, 100), (1, 300), (9, 100), (3, 100)];
        check((750, 1_000), &idle, None);
        check((751, 1_000), &idle, Some((1, 1)));
        check((1_050, 1_000), &idle, Some((1, 1)));
        check((1_051, 1_000), &idle, Some((2, 3)));
        // They keep a sixteenth, and what is begun is done.
        check((9_999, 1_000), &idle, Some((4, 9)));
        check((9_999, 1_600), &idle, Some((3, 5)));
        check((9_999, 100), &[], None);
        let many: Vec<_> = (0..IDLE_CHANNELS_MAX as u64 + 2).map(|newest| (newest, 1)).collect();
        check((0, usize::MAX), &many, Some((2, 1)));
    }
}
