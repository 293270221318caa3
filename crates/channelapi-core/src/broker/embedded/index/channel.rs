//! What is known of one channel: where its publications lie, and since when they are complete.
//!
//! An entry's record has the epoch in which it was written, and belongs to the channel's: one epoch may have taken over what others kept.
//!
//! An entry takes 32 bytes, a channel about 200: everything rare (a time to die, data in memory) is kept aside.

mod expiries;

use crate::broker::history::Gap;
use crate::model::ChannelName;
pub(in super::super) use expiries::Expiries;
use std::cmp::Reverse;
use std::collections::VecDeque;

/// What is known of one channel.
pub(in super::super) struct Channel {
    pub(in super::super) name: ChannelName,
    pub(in super::super) epoch: u64,
    /// The offset of the next publication; 0 as long as there was none.
    pub(in super::super) next_offset: u64,
    /// Every publication with at least this turn is here.
    pub(in super::super) complete_since: u64,
    /// Publications up to this offset are missing for another reason than that their time to live is over.
    pub(in super::super) lost_through: u64,
    /// Where its epoch began, if that took over what was kept.
    pub(in super::super) takeover: Takeover,
    /// The turn of the newest publication, kept or not: nothing of the channel follows.
    pub(in super::super) newest: u64,
    /// In the log, nothing of the channel has a higher sequence.
    pub(in super::super) last: u64,
    /// What is kept, the oldest first.
    pub(in super::super) entries: VecDeque<Entry>,
    /// When the oldest of them was published: a look at the entry itself is a wait for memory.
    pub(super) oldest_at: u64,
    /// When entries die that do not live for ever, by their turns.
    pub(in super::super) expiries: Expiries,
    pub(in super::super) bytes: u64,
    /// The segment with its newest record in the log.
    pub(in super::super) anchor: u32,
    /// The tag of the newest publication.
    pub(in super::super) tag: u32,
    /// The tag of the publication before the oldest entry, which was given up; 0 if it is not known.
    pub(super) given_up_tag: u32,
    /// Stretches of damage that what is known of it has outlived.
    pub(super) touched: u32,
    pub(super) policy: u16,
    /// Why publications with a lower turn are not here.
    pub(in super::super) loss: Gap,
    /// Whether it is kept in memory only.
    pub(super) is_in_memory: bool,
    /// Publications may be missing behind the last entry: the next one begins a new epoch, which takes over what is kept.
    pub(in super::super) is_in_doubt: bool,
}

/// Where an epoch began that took over what was kept: something may be missing right before that. 0 for one that began with nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Takeover {
    /// The offset of its own first publication.
    pub(in super::super) offset: u64,
    /// Nothing is missing from this turn on.
    pub(super) since: u64,
}

/// One publication that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Entry {
    pub(in super::super) turn: u64,
    /// By [`Clock::unix_millis`](crate::clock::Clock::unix_millis), as are the ends of its channel: its record may have another time.
    pub(in super::super) published_at: u64,
    pub(in super::super) tag: u32,
    /// The segment its record is in, or [`MEMORY`](super::super::log::MEMORY).
    pub(in super::super) segment: u32,
    /// Where in it.
    pub(in super::super) position: u32,
    /// Bytes of the record, header included.
    pub(in super::super) length: u32,
}

/// Where a publication stands in its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Standing {
    pub(in super::super) epoch: u64,
    pub(in super::super) offset: u64,
}

impl Channel {
    /// The offset of the oldest entry, or of the next publication if there is none.
    pub(in super::super) fn first_offset(&self) -> u64 {
        self.next_offset - self.entries.len() as u64
    }

    /// Where the entries of a later turn begin.
    pub(in super::super) fn behind(&self, turn: u64) -> usize {
        self.entries.partition_point(|entry| entry.turn <= turn)
    }

    /// The entry at an offset.
    pub(in super::super) fn at(&self, offset: u64) -> Option<&Entry> {
        let index = offset.checked_sub(self.first_offset())?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The offset of an entry.
    pub(in super::super) fn offset_of(&self, entry: &Entry) -> u64 {
        self.first_offset() + self.behind(entry.turn) as u64 - 1
    }

    /// The turn behind which everything lies that follows the publication at an offset: it is kept, or its time to live is over. `None` if
    /// something of that is missing. The channel has got so far.
    pub(in super::super) fn turn_behind(&self, offset: u64) -> Option<u64> {
        if offset + 1 == self.next_offset {
            return Some(self.newest);
        }
        let next = (offset + 1).max(self.first_offset());
        (offset >= self.lost_through).then(|| self.at(next).map_or(self.newest, |next| next.turn - 1))
    }

    /// The tag of the publication at an offset, as far as it is known.
    pub(in super::super) fn tag_at(&self, offset: u64) -> Option<u32> {
        if offset == self.next_offset - 1 {
            return Some(self.tag);
        }
        let is_known = offset == self.first_offset() - 1 && self.given_up_tag != 0;
        self.at(offset).map(|entry| entry.tag).or(is_known.then_some(self.given_up_tag))
    }

    /// Gives back memory of which little is used any more: a start takes in what upkeep finds too old ten seconds later.
    pub(super) fn give_back(&mut self) {
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        self.expiries.give_back();
    }

    /// The place of the first entry that may still be shown, from one place on and before another; that one if there is none.
    pub(in super::super) fn shown_from(&self, mut place: usize, before: usize, now: u64) -> usize {
        while place < before {
            let Some(end) = self.expiries.find(self.entries[place].turn) else { return place };
            if !self.expiries.is_over(end, now) {
                return place;
            }
            // None of these lives for ever.
            let most = (before - place).min(self.expiries.len() - end);
            let count = largest(most, |count| {
                self.entries[place + count - 1].turn == self.expiries.turn(end + count - 1)
            });
            match self.expiries.first_living(end..end + count, now) {
                Some(living) => return place + (living - end),
                None => place += count,
            }
        }
        before
    }

    /// The same backwards: behind the last one that may still be shown, from one place on and before another.
    pub(in super::super) fn shown_before(&self, mut before: usize, place: usize, now: u64) -> usize {
        while place < before {
            let Some(end) = self.expiries.find(self.entries[before - 1].turn) else { return before };
            if !self.expiries.is_over(end, now) {
                return before;
            }
            let most = (before - place).min(end + 1);
            let count = largest(most, |count| {
                self.entries[before - count].turn == self.expiries.turn(end + 1 - count)
            });
            match self.expiries.last_living(end + 1 - count..end + 1, now) {
                Some(living) => return before - (end - living),
                None => before -= count,
            }
        }
        place
    }

    /// The newest entry that may be shown and has so many behind it that may. Whoever asks chooses how many: of a channel whose publications
    /// live for ever, that costs nothing, and of another one little more for each block of ends.
    pub(in super::super) fn before_newest(&self, count: usize, now: u64) -> Option<&Entry> {
        let mut place = self.entries.len().checked_sub(count.checked_add(1)?)?;
        for piece in self.expiries.pieces(0..self.expiries.len()).rev() {
            if self.expiries.turn(piece.end - 1) < self.entries[place].turn {
                break;
            }
            let over = self.expiries.over(piece.clone(), now);
            if over == 0 {
                continue;
            }
            if place < self.behind(self.expiries.turn(piece.start) - 1) + over {
                // All of them come before it, each of which moves it by one.
                place = place.checked_sub(over)?;
                continue;
            }
            for end in piece.rev() {
                if self.expiries.turn(end) < self.entries[place].turn {
                    break;
                }
                if self.expiries.is_over(end, now) {
                    place = place.checked_sub(1)?;
                }
            }
            break;
        }
        self.entries.get(place)
    }

    /// How many entries behind each of some offsets may not be shown any more.
    pub(in super::super) fn expired(&self, behind: &[u64], now: u64) -> Vec<u64> {
        let mut expired = vec![0; behind.len()];
        if self.expiries.len() == 0 {
            return expired;
        }
        let mut order: Vec<_> = (0..behind.len()).collect();
        order.sort_unstable_by_key(|index| Reverse(behind[*index]));
        // From the newest on, so that each is counted once.
        let (mut from, mut count) = (self.expiries.len(), 0);
        for index in order {
            let place = behind[index].saturating_add(1).saturating_sub(self.first_offset());
            let Some(following) = usize::try_from(place).ok().and_then(|place| self.entries.get(place))
            else {
                continue;
            };
            let until = std::mem::replace(&mut from, self.expiries.first_from(following.turn));
            count += self.expiries.over(from..until, now) as u64;
            expired[index] = count;
        }
        expired
    }
}

/// The largest number of which something is true, which is true of 1, and of all others below it.
fn largest(most: usize, is_true: impl Fn(usize) -> bool) -> usize {
    if is_true(most) {
        return most;
    }
    let (mut low, mut high) = (1, most);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_true(middle) { low = middle } else { high = middle }
    }
    low
}
