//! What is given up: what is too much or too old, and what lies in a segment that must go.
//!
//! Whatever is given up raises the turn since which the channel is complete.

use super::super::log::MEMORY;
use super::{Channel, Entry, Index};
use crate::broker::history::Gap;
use crate::model::{ChannelName, Retention};
use std::collections::VecDeque;
use std::ops::Range;

/// Milliseconds for which a publication is still known whose time to live is over: whoever has it as the newest one that they know may come
/// back to where they were.
pub(in super::super) const EXPIRED_KEPT: u64 = if cfg!(test) { 300 } else { 60 * 60 * 1000 };

/// The time by which is given up what is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Ages {
    /// For what the log says, by [`Clock::cautious_millis`](crate::clock::Clock::cautious_millis): what it was written by is the machine's clock of
    /// another life, and the one of this life may have begun ahead.
    pub(in super::super) read: u64,
    /// For what was published since the start, by [`Clock::unix_millis`](crate::clock::Clock::unix_millis), as its own time is: however far that is
    /// ahead or behind, its age is right.
    pub(in super::super) own: u64,
}

impl Ages {
    /// Leaves it for later.
    pub(in super::super) const LATER: Self = Self { read: 0, own: 0 };
}

impl Index {
    /// The time for a publication by its turn.
    fn time(&self, ages: Ages, turn: u64) -> u64 {
        if turn < self.life { ages.read } else { ages.own }
    }

    /// Gives up what is too old in some of the channels, or has been over for a while; so many publications at most. Leaves the channels
    /// that there may be more in.
    pub(in super::super) fn trim_old(&mut self, ids: &mut Range<u32>, ages: Ages, mut most: usize) {
        while ids.start < ids.end {
            let id = ids.start;
            if let Some(known) = self.channels.get(id as usize) {
                let retention = self.policy_of(known).retention;
                self.trim(id, retention, ages, &mut most);
                self.trim_expired(id, ages, &mut most);
                if most == 0 {
                    return;
                }
                self.channels[id as usize].give_back();
            }
            ids.start += 1;
        }
    }

    /// Gives up the oldest publications of a channel whose own time to live is over. Nobody is owed them, so that nothing is missing without
    /// them. Those behind one that lives on stay as long as it does: offsets have no holes.
    fn trim_expired(&mut self, id: u32, ages: Ages, most: &mut usize) {
        while *most > 0 {
            let known = &self.channels[id as usize];
            let oldest = known.entries.front().map(|oldest| oldest.turn);
            let dies = oldest.and_then(|oldest| Some((known.expiries.of(oldest)?, self.time(ages, oldest))));
            if dies.is_none_or(|(dies_at, now)| dies_at.saturating_add(EXPIRED_KEPT) > now) {
                return;
            }
            *most -= 1;
            self.pop(id);
            let known = &mut self.channels[id as usize];
            if known.entries.is_empty() {
                known.entries = VecDeque::new();
            }
        }
    }

    /// Gives up what some of the channels have in the oldest segment; so many publications at most. Leaves the channels that there may be
    /// more in.
    pub(in super::super) fn give_up(&mut self, ids: &mut Range<u32>, segment: u32, mut most: usize) {
        while ids.start < ids.end {
            let id = ids.start;
            // Its entries are in the order of segments, and it is the oldest.
            let is_in_it = |known: &Channel| known.entries.front().is_some_and(|it| it.segment == segment);
            while self.channels.get(id as usize).is_some_and(is_in_it) {
                if most == 0 {
                    return;
                }
                most -= 1;
                self.give_up_oldest(id, Gap::Trimmed);
            }
            debug_assert!(
                self.get(id).is_none_or(|known| known.entries.iter().all(|it| it.segment != segment))
            );
            ids.start += 1;
        }
    }

    /// What a channel had up to this turn turned out to be damaged.
    pub(in super::super) fn lose(&mut self, name: &ChannelName, turn: u64) {
        if let Some(id) = self.names.get(name).copied() {
            self.trim_through(id, turn, Gap::Epoch);
        }
    }

    /// Gives up everything that is kept of a channel, whatever follows from it. Returns how many publications were.
    pub(super) fn clear(&mut self, id: u32) -> usize {
        let count = self.channels[id as usize].entries.len();
        while self.pop(id).is_some() {}
        count
    }

    /// Gives up what a channel has from an offset on: a start could not read it, and another epoch took over what was before it.
    pub(super) fn cut(&mut self, id: u32, offset: u64) {
        let known = &self.channels[id as usize];
        if offset <= known.first_offset() {
            return;
        }
        while self.channels[id as usize].next_offset > offset {
            let known = &mut self.channels[id as usize];
            let newest = known.entries.pop_back().expect("the oldest one stays");
            known.next_offset -= 1;
            self.dropped(id, &newest);
        }
    }

    /// Gives up what a channel has too much, and what it has for too long: of that so many at most, which are counted down.
    pub(super) fn trim(&mut self, id: u32, retention: Retention, ages: Ages, most: &mut usize) {
        let loss = if retention.messages == 0 { Gap::NoHistory } else { Gap::Trimmed };
        loop {
            let known = &self.channels[id as usize];
            debug_assert!(known.entries.front().is_none_or(|oldest| oldest.published_at == known.oldest_at));
            let is_too_much = known.entries.len() > retention.messages || known.bytes > retention.bytes;
            let now = known.entries.front().map_or(0, |oldest| self.time(ages, oldest.turn));
            let is_too_old = now.saturating_sub(known.oldest_at) > retention.age && *most > 0;
            if known.entries.is_empty() || !is_too_much && !is_too_old {
                return;
            }
            *most = most.saturating_sub(1);
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
            known.lost_through = known.first_offset() - 1;
            known.loss = loss;
            if known.entries.is_empty() {
                known.entries = VecDeque::new();
            }
        }
    }

    fn pop(&mut self, id: u32) -> Option<Entry> {
        let known = &mut self.channels[id as usize];
        let oldest = known.entries.pop_front()?;
        known.given_up_tag = oldest.tag;
        known.oldest_at = known.entries.front().map_or(0, |next| next.published_at);
        self.dropped(id, &oldest);
        Some(oldest)
    }

    /// An entry was taken from those of its channel.
    fn dropped(&mut self, id: u32, entry: &Entry) {
        let known = &mut self.channels[id as usize];
        known.bytes -= u64::from(entry.length);
        known.expiries.remove(entry.turn);
        self.usage.remove(entry);
        if entry.segment == MEMORY {
            self.held.remove(entry.turn);
        }
        self.publications -= 1;
    }
}
