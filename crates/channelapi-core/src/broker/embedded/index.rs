//! What the log holds, in memory: for each channel where its publications lie, and since when its history is complete.
//!
//! Invariants:
//! - Offsets of one channel's entries have no holes.
//! - "Complete since S" means: every publication of the channel whose sequence is at least S is here, provably. When in doubt (after
//!   damage, or when what was known of a channel was given up) S is raised: a resume may be called incomplete that was complete,
//!   never the other way round.

use super::log::Place;
use crate::model::ChannelName;
use std::collections::{HashMap, VecDeque};

/// How much of a channel is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Publications.
    pub messages: usize,
    /// Milliseconds since they were published.
    pub age: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

/// All channels of the log.
#[derive(Debug, Default)]
pub(super) struct Index {
    channels: HashMap<ChannelName, Channel>,
    /// Of a channel that is not in the map, nothing with a lower sequence is provably known.
    complete_since: u64,
    /// The sequence the next publication must have, if none is missing.
    next: u64,
}

/// What is known of one channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) epoch: u64,
    /// The offset of the next publication.
    pub(super) next_offset: u64,
    /// Every publication with at least this sequence is here.
    pub(super) complete_since: u64,
    /// What is kept, the oldest first.
    pub(super) entries: VecDeque<Entry>,
    bytes: u64,
    /// Publications may be missing behind the last entry: the next one begins a new epoch.
    is_in_doubt: bool,
}

/// One publication that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) published_at: u64,
    pub(super) place: Place,
}

/// Where a publication stands in its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) epoch: u64,
    pub(super) offset: u64,
}

impl Index {
    /// Where the next publication of a channel would stand; `None` if it must begin a new epoch, at offset 1.
    pub(super) fn next_standing(&self, channel: &ChannelName) -> Option<Standing> {
        let known = self.channels.get(channel).filter(|known| !known.is_in_doubt)?;
        Some(Standing { epoch: known.epoch, offset: known.next_offset })
    }

    /// Adds a publication, in the order of sequences. A gap in the sequence means that publications are missing.
    pub(super) fn insert(&mut self, channel: &ChannelName, standing: Standing, entry: Entry) {
        self.expect(entry.sequence);
        self.next = entry.sequence + 1;
        let bytes = u64::from(entry.place.length);
        let known = self.channels.entry(channel.clone()).or_insert_with(|| Channel {
            epoch: standing.epoch,
            next_offset: standing.offset,
            complete_since: if standing.offset == 1 { self.complete_since } else { entry.sequence },
            entries: VecDeque::new(),
            bytes: 0,
            is_in_doubt: false,
        });
        if known.epoch != standing.epoch || known.next_offset != standing.offset {
            // Something is missing in between, or was given up: what was before is no part of this history.
            known.entries.clear();
            known.bytes = 0;
            known.complete_since = entry.sequence;
        }
        known.epoch = standing.epoch;
        known.next_offset = standing.offset + 1;
        known.is_in_doubt = false;
        known.bytes += bytes;
        known.entries.push_back(entry);
    }

    /// The records before this sequence have all been seen; if the last of them were missing, every channel is in doubt.
    pub(super) fn expect(&mut self, next: u64) {
        if next <= self.next {
            return;
        }
        // At the beginning of the log, older segments were removed; later, something is damaged.
        self.complete_since = self.complete_since.max(next);
        for channel in self.channels.values_mut() {
            channel.is_in_doubt = true;
            channel.complete_since = channel.complete_since.max(next);
        }
        self.next = next;
    }

    /// The sequence of the next publication.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// What is known of a channel.
    pub(super) fn channel(&self, channel: &ChannelName) -> Option<&Channel> {
        self.channels.get(channel)
    }

    /// Since which sequence the history of a channel is complete, known or not.
    pub(super) fn complete_since(&self, channel: &ChannelName) -> u64 {
        self.channels.get(channel).map_or(self.complete_since, |known| known.complete_since)
    }

    /// Gives up whatever is older than `age` milliseconds.
    pub(super) fn trim_old(&mut self, age: u64, now: u64) {
        for known in self.channels.values_mut() {
            known.trim(|known| {
                known.entries.front().is_some_and(|oldest| now.saturating_sub(oldest.published_at) > age)
            });
        }
    }

    /// Whether anything is kept in a segment, which must be the oldest one.
    pub(super) fn uses(&self, segment: u64) -> bool {
        let mut oldest = self.channels.values().filter_map(|known| known.entries.front());
        oldest.any(|entry| entry.place.segment <= segment)
    }

    /// Number of channels and publications.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.channels.len(), self.channels.values().map(|channel| channel.entries.len()).sum())
    }

    /// Gives up what a channel has too much.
    pub(super) fn trim(&mut self, channel: &ChannelName, retention: Retention, now: u64) {
        if let Some(known) = self.channels.get_mut(channel) {
            known.trim(|known| {
                let oldest = known.entries.front().expect("it is asked about entries");
                known.entries.len() > retention.messages
                    || known.bytes > retention.bytes
                    || now.saturating_sub(oldest.published_at) > retention.age
            });
        }
    }

    /// Gives up everything in segments with a lower name, and forgets channels of which nothing is left.
    pub(super) fn trim_before(&mut self, segment: u64) {
        let mut forgotten = self.complete_since;
        self.channels.retain(|_, known| {
            known.trim(|known| known.entries.front().is_some_and(|oldest| oldest.place.segment < segment));
            let is_empty = known.entries.is_empty();
            if is_empty {
                forgotten = forgotten.max(known.complete_since);
            }
            !is_empty
        });
        self.complete_since = forgotten;
    }
}

impl Channel {
    /// The offset of the oldest entry, or of the next publication if there is none.
    pub(super) fn first_offset(&self) -> u64 {
        self.next_offset - self.entries.len() as u64
    }

    fn trim(&mut self, is_too_much: impl Fn(&Self) -> bool) {
        while !self.entries.is_empty() && is_too_much(self) {
            let oldest = self.entries.pop_front().expect("it is not empty");
            self.bytes -= u64::from(oldest.place.length);
            self.complete_since = self.complete_since.max(oldest.sequence + 1);
        }
    }
}
