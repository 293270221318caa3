//! What is given up: what is too much or too old, what lies in a segment that must go, channels that nobody uses.
//!
//! Whatever is given up raises the turn since which the channel is complete, or, for a channel that is forgotten, the floor.

use super::{Channel, Entry, Index, MEMORY};
use crate::broker::Gap;
use crate::model::{ChannelName, Retention};
use std::collections::VecDeque;
use std::ops::Range;

impl Index {
    /// Gives up what is too old in some of the channels.
    pub(in super::super) fn trim_old(&mut self, ids: Range<u32>, now: u64) {
        for id in ids {
            if let Some(known) = self.channels.get(id as usize) {
                let retention = self.policy_of(known).retention;
                self.trim(id, retention, now);
            }
        }
    }

    /// Gives up what some of the channels have in a segment, and before it.
    pub(in super::super) fn give_up(&mut self, ids: Range<u32>, segment: u32) {
        for id in ids {
            while let Some(turn) = self.channels.get(id as usize).and_then(|known| {
                let newest = known.entries.iter().rfind(|entry| entry.segment == segment)?;
                Some(newest.turn)
            }) {
                self.trim_through(id, turn, Gap::Trimmed);
            }
        }
    }

    /// What a channel had up to this turn turned out to be damaged.
    pub(in super::super) fn lose(&mut self, name: &ChannelName, turn: u64) {
        if let Some(id) = self.names.get(name).copied() {
            self.trim_through(id, turn, Gap::Epoch);
        }
    }

    /// Forgets channels of which nothing is kept, the longest idle first, until so many are left.
    pub(in super::super) fn forget_idle(&mut self, most: usize) {
        let idle = |known: &Channel| known.entries.is_empty();
        let mut idle: Vec<(u64, usize)> = self
            .channels
            .iter()
            .filter(|(_, known)| idle(known))
            .map(|(id, known)| (known.complete_since, id))
            .collect();
        if idle.len() <= most {
            return;
        }
        // More than needed, so that it is not done again for every single one.
        let excess = idle.len() - most + most / 8;
        let last = idle.len() - 1;
        idle.select_nth_unstable(excess.min(last));
        for (_, id) in idle.into_iter().take(excess) {
            self.forget(u32::try_from(id).expect("ids fit"));
        }
    }

    /// Forgets those of some channels whose newest record is in a segment, and of which nothing is kept.
    pub(in super::super) fn forget_anchored(&mut self, ids: Range<u32>, segment: u32) {
        for id in ids {
            let known = self.channels.get(id as usize);
            if known.is_some_and(|known| known.anchor == segment && known.entries.is_empty()) {
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: u32) {
        self.anchor(id, MEMORY);
        let forgotten = self.channels.remove(id as usize);
        self.names.remove(&forgotten.name);
        self.floor.turn = self.floor.turn.max(self.completeness(&forgotten).0);
        self.floor.sequence = self.floor.sequence.max(forgotten.last + 1);
    }

    /// Gives up everything that is kept of a channel, whatever follows from it. Returns how many publications were.
    pub(super) fn clear(&mut self, id: u32) -> usize {
        let count = self.channels[id as usize].entries.len();
        while self.pop(id).is_some() {}
        count
    }

    /// Gives up what a channel has too much, or for too long.
    pub(super) fn trim(&mut self, id: u32, retention: Retention, now: u64) {
        let loss = if retention.messages == 0 { Gap::NoHistory } else { Gap::Trimmed };
        loop {
            let known = &self.channels[id as usize];
            debug_assert!(known.entries.front().is_none_or(|oldest| oldest.published_at == known.oldest_at));
            let is_too_much = known.entries.len() > retention.messages
                || known.bytes > retention.bytes
                || now.saturating_sub(known.oldest_at) > retention.age;
            if known.entries.is_empty() || !is_too_much {
                return;
            }
            self.give_up_oldest(id, loss);
        }
    }

    /// Gives up what a channel has up to a turn.
    pub(super) fn trim_through(&mut self, id: u32, turn: u64, loss: Gap) {
        while self.channels[id as usize].entries.front().is_some_and(|oldest| oldest.turn <= turn) {
            self.give_up_oldest(id, loss);
        }
    }

    fn give_up_oldest(&mut self, id: u32, loss: Gap) {
        if let Some(oldest) = self.pop(id) {
            let known = &mut self.channels[id as usize];
            known.complete_since = known.complete_since.max(oldest.turn + 1);
            known.loss = loss;
            if known.entries.is_empty() {
                known.entries = VecDeque::new();
            }
        }
    }

    fn pop(&mut self, id: u32) -> Option<Entry> {
        let known = &mut self.channels[id as usize];
        let oldest = known.entries.pop_front()?;
        known.oldest_at = known.entries.front().map_or(0, |next| next.published_at);
        known.bytes -= u64::from(oldest.length);
        known.expiries.remove(&oldest.turn);
        self.usage.remove(&oldest);
        if oldest.segment == MEMORY {
            self.held.remove(oldest.turn);
        }
        self.publications -= 1;
        Some(oldest)
    }
}
