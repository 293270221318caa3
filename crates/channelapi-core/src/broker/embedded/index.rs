//! What is kept, in memory: for each channel where its publications lie, and since when its history is complete.
//!
//! Invariants:
//! - Offsets of one channel's entries have no holes, and their turns grow.
//! - "Complete since T" means: every publication of the channel whose turn is at least T is here, or its time to live is over, provably. When what was known of a
//!   channel was given up, T is raised; for those in doubt (after damage) it is raised for all at once, in [`Index::complete_since`]:
//!   a resume may be called incomplete that was complete, never the other way round. What is kept of them is sound, and is shown; with their
//!   next publication a new epoch takes it over, and each remembers that something may be missing before that ([`Takeover`]).
//! - For every segment it is counted what of it is in use: entries, and channels whose newest record lies there (they are
//!   *anchored* in it).
//!
//! `index/trimming.rs` gives up what is too much, `index/forgetting.rs` channels of which nothing is left, `index/names.rs` numbers the channels, `index/channel.rs` is what is known of one.

mod channel;
pub(super) mod forgetting;
pub(super) mod held;
mod names;
mod trimming;
pub(super) mod usage;

use super::epoch::succeeds;
use super::log::MEMORY;
use super::log::record::Generation;
use crate::broker::history::Gap;
use crate::counters::COUNTERS;
use crate::model::{ChannelName, Durability, Policies, Policy};
pub(super) use channel::{Channel, Entry, Expiries, Standing, Takeover};
use foldhash::fast::RandomState;
use held::{Held, HeldPublication};
use slab::Slab;
use std::collections::HashMap;
use std::sync::Arc;
pub(super) use trimming::Ages;
#[cfg(test)]
pub(super) use trimming::EXPIRED_KEPT;
pub(super) use usage::Usage;
use usage::UsageTable;

/// All channels.
pub(super) struct Index {
    /// Publishers choose the names, so the hash is seeded; they hold a key, so it need not withstand more.
    names: HashMap<ChannelName, u32, RandomState>,
    channels: Slab<Channel>,
    policies: Arc<Policies>,
    /// The policies that channels have, each once.
    known_policies: Vec<Policy>,
    pub(super) held: Held,
    usage: UsageTable,
    floor: Floor,
    /// Channels in doubt are complete since this turn at the earliest.
    doubt: u64,
    /// The sequence the next publication in the log must have, if none is missing.
    next: u64,
    /// While the log is read: stretches of damage so far.
    gaps: u32,
    /// The first turn of this life; what is before it was read from the log.
    life: u64,
    publications: usize,
    /// Bytes of the names of all channels.
    name_bytes: usize,
}

/// Bytes that a channel takes beside its name, about: what is known of it, its place in the table of names, and room for its first entries.
pub(super) const CHANNEL_BYTES: usize = size_of::<Channel>() + 4 * size_of::<Entry>() + 64;

/// Of a channel that is not known, nothing older is provably known: by the turns of this life, and by the log's sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) turn: u64,
    pub(super) sequence: u64,
}

/// Where the next publication of a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The channel goes on; the sequence of its newest publication.
    Follows(Standing, u64),
    /// It goes on in an epoch of its own that takes over what is kept: something may be missing before it, and nothing of it has a sequence
    /// between this one and the next.
    TakesOver(Standing, u64),
    /// It begins anew, and nothing of it has a sequence between this one and the next.
    Begins(Option<u64>),
}

/// So many publications that are too old go with one that comes: more than one, so that they come to an end, and few, so that nobody waits.
const TOO_OLD_MAX: usize = 16;

/// A publication on its way into the index.
pub(super) struct Arrival {
    pub(super) standing: Standing,
    /// Whether its epoch takes over what the channel has kept.
    pub(super) takes_over: bool,
    /// Its sequence; `None` if it is kept in memory only.
    pub(super) sequence: Option<u64>,
    /// Since when the channel is complete if this publication follows nothing known, by its own record.
    pub(super) since: Option<u64>,
    pub(super) expires_at: u64,
    pub(super) entry: Entry,
    /// The time by which is given up what is too old.
    pub(super) ages: Ages,
}

/// What a top or a purge says of a channel.
pub(super) struct Reset {
    /// Where its next publication stands.
    pub(super) next: Standing,
    pub(super) last: u64,
    pub(super) complete_since: u64,
    pub(super) loss: Gap,
    pub(super) tag: u32,
    pub(super) segment: u32,
}

impl Reset {
    /// A new epoch begins, of which nothing was published yet: a purge, or what a top says of a channel in doubt.
    pub(super) fn begin(epoch: u64, last: u64, segment: u32) -> Self {
        let next = Standing { epoch, offset: 1 };
        Self { next, last, complete_since: last + 1, loss: Gap::Epoch, tag: 0, segment }
    }
}

impl Index {
    pub(super) fn new(policies: Arc<Policies>) -> Self {
        Self {
            names: HashMap::default(),
            channels: Slab::new(),
            policies,
            known_policies: Vec::new(),
            held: Held::with_room(0),
            usage: UsageTable::default(),
            floor: Floor { turn: 1, sequence: 1 },
            doubt: 1,
            next: 1,
            gaps: 0,
            life: u64::MAX,
            publications: 0,
            name_bytes: 0,
        }
    }

    /// Gives room to what is kept in memory only. There is none of it yet.
    pub(super) fn hold(&mut self, bytes_max: usize) {
        self.held = Held::with_room(bytes_max);
    }

    /// What is known of a channel.
    pub(super) fn channel(&self, name: &ChannelName) -> Option<&Channel> {
        let id = *self.names.get(name)?;
        // Some are only known for their name: nothing was published there.
        Some(&self.channels[id as usize]).filter(|known| known.next_offset > 0)
    }

    /// Bytes of memory that all of it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.names.len() * CHANNEL_BYTES + self.name_bytes + self.publications * size_of::<Entry>()
    }

    /// Channels that have a name here.
    pub(super) fn channel_count(&self) -> usize {
        self.names.len()
    }

    /// What is known of a channel, by a text that may be its name.
    pub(super) fn by_text(&self, name: &str) -> Option<&Channel> {
        self.names.get(name).map(|id| &self.channels[*id as usize]).filter(|known| known.next_offset > 0)
    }

    /// How safely a channel is kept, and its number if it has one.
    pub(super) fn durability(&self, name: &ChannelName) -> (Durability, Option<u32>) {
        match self.names.get(name) {
            Some(id) => (self.policy_of(&self.channels[*id as usize]).durability, Some(*id)),
            None => (self.policies.of(name).durability, None),
        }
    }

    /// The same, of a channel of which this was said a moment ago: it may have been forgotten since.
    pub(super) fn durability_again(
        &self,
        said: (Durability, Option<u32>),
        name: &ChannelName,
    ) -> (Durability, Option<u32>) {
        let is_it = said.1.is_some_and(|id| self.get(id).is_some_and(|known| known.name == *name));
        if is_it { said } else { self.durability(name) }
    }

    /// Where the next publication of a channel would stand.
    pub(super) fn next(&self, id: Option<u32>, is_in_memory: bool) -> Next {
        match id.and_then(|id| self.get(id)).filter(|known| known.next_offset > 0) {
            None => Next::Begins(Some(self.floor.sequence - 1)),
            Some(known) if known.is_in_memory != is_in_memory => Next::Begins(None),
            Some(known) => {
                let standing = Standing { epoch: known.epoch, offset: known.next_offset };
                if known.is_in_doubt {
                    Next::TakesOver(standing, self.quiet_through(known))
                } else {
                    Next::Follows(standing, known.last)
                }
            }
        }
    }

    /// Brings what [`insert`](Self::insert) needs of some channels into the processor's cache. One right behind the other, because most of
    /// that is waiting for memory, which a processor does for several of them at once.
    pub(super) fn fetch(&self, ids: impl Iterator<Item = u32>) {
        for known in ids.filter_map(|id| self.get(id)) {
            // The next one is written behind it.
            std::hint::black_box(known.entries.back().map(|entry| entry.turn));
        }
    }

    /// Adds a publication, in the order of turns, and gives up what the channel has too much then.
    pub(super) fn insert(&mut self, id: u32, arrival: &Arrival, held: Option<HeldPublication>) {
        let Arrival {
            standing: Standing { epoch, offset },
            takes_over,
            sequence,
            since,
            expires_at,
            entry,
            ages,
        } = *arrival;
        let (gaps, floor, doubt) = (self.gaps, self.floor.turn, self.doubt);
        let known = &mut self.channels[id as usize];
        if takes_over && offset < known.next_offset && succeeds(epoch, known.epoch) {
            self.cut(id, offset);
        }
        let known = &mut self.channels[id as usize];
        let is_new = known.next_offset == 0;
        let is_in_doubt = known.is_in_doubt || known.touched < gaps;
        let follows = known.next_offset == offset
            && if takes_over {
                succeeds(epoch, known.epoch)
            } else {
                known.epoch == epoch && (!is_in_doubt || since == Some(known.last + 1))
            };
        if !follows {
            // Something is missing in between, or was given up: what was before is no part of this history.
            let goes_on = !is_new && !is_in_doubt && known.epoch == epoch;
            let loss = if goes_on || is_new && offset > 1 { Gap::Trimmed } else { Gap::Epoch };
            self.clear(id);
            let known = &mut self.channels[id as usize];
            known.complete_since = since.unwrap_or(if is_new { floor } else { entry.turn });
            known.lost_through = offset - 1;
            known.given_up_tag = 0;
            known.loss = loss;
            known.takeover = Takeover::default();
        }
        if takes_over {
            let known = &mut self.channels[id as usize];
            // All that puts channels in doubt is before this life.
            let since = since.unwrap_or(doubt).max(known.takeover.since);
            known.takeover = Takeover { offset, since };
        }
        if let Some(held) = held {
            self.held.insert(entry.turn, held);
        }
        self.usage.add(&entry);
        self.anchor(id, entry.segment);
        self.publications += 1;
        let known = &mut self.channels[id as usize];
        known.epoch = epoch;
        known.next_offset = offset + 1;
        known.newest = entry.turn;
        known.last = sequence.unwrap_or(known.last);
        known.tag = entry.tag;
        known.is_in_memory = entry.segment == MEMORY;
        known.is_in_doubt = false;
        known.touched = gaps;
        known.bytes += u64::from(entry.length);
        if expires_at != 0 {
            known.expiries.push(entry.turn, expires_at);
        }
        if known.entries.len() == known.entries.capacity() {
            // Growing by a quarter instead of doubling, once there are some: most memory is here.
            let count = known.entries.len();
            known.entries.reserve_exact((count / 4).max(count.min(4)).max(2));
        }
        if known.entries.is_empty() {
            known.oldest_at = entry.published_at;
        }
        known.entries.push_back(entry);
        let retention = self.policy_of(&self.channels[id as usize]).retention;
        self.trim(id, retention, ages, &mut TOO_OLD_MAX.clone());
        while let Some((channel, turn)) =
            self.held.excess().map(|held| held.channel.clone()).and_then(|name| {
                let id = *self.names.get(&name)?;
                Some((id, self.channels[id as usize].entries.front()?.turn))
            })
        {
            let before = self.publications;
            self.trim_through(channel, turn, Gap::Trimmed);
            COUNTERS.given_up_in_memory.add((before - self.publications) as u64);
        }
    }

    /// A channel stands somewhere, and nothing of it is kept. Returns how many publications were.
    pub(super) fn reset(&mut self, id: u32, reset: &Reset) -> usize {
        let count = self.clear(id);
        self.anchor(id, reset.segment);
        let known = &mut self.channels[id as usize];
        known.epoch = reset.next.epoch;
        known.next_offset = reset.next.offset;
        known.last = reset.last;
        known.complete_since = reset.complete_since;
        known.lost_through = reset.next.offset - 1;
        known.takeover = Takeover::default();
        known.newest = reset.complete_since - 1;
        known.loss = reset.loss;
        known.tag = reset.tag;
        known.given_up_tag = reset.tag;
        known.is_in_memory = reset.segment == MEMORY;
        known.is_in_doubt = false;
        known.touched = self.gaps;
        count
    }

    /// While the log is read: the next record has this sequence. Returns whether something before it is missing.
    pub(super) fn expect(&mut self, next: u64) -> bool {
        if next <= self.next {
            return false;
        }
        self.next = next;
        self.doubt();
        true
    }

    /// While the log is read: something is missing here, and any channel may have been in it. Those of which a later record does
    /// not prove the contrary stay in doubt.
    pub(super) fn doubt(&mut self) {
        self.gaps += 1;
        self.raise_floor(self.next);
    }

    /// Of channels that are not known, nothing older is known.
    pub(super) fn raise_floor(&mut self, sequence: u64) {
        self.floor.sequence = self.floor.sequence.max(sequence);
        self.floor.turn = self.floor.turn.max(sequence);
    }

    /// The log was read: what is still in doubt stays so, and memory that was taken for growth is given back.
    pub(super) fn settle(&mut self) {
        self.doubt = self.floor.turn;
        self.life = self.next;
        for (_, known) in &mut self.channels {
            known.entries.shrink_to_fit();
            known.is_in_doubt = known.touched < self.gaps;
        }
    }

    /// Channels that are kept in memory now, or may have been in a life after their newest record: what they had then is not in the log,
    /// so nothing that they had before is known to be all.
    pub(super) fn doubt_what_was_in_memory(&mut self, lives: &[Generation]) {
        let Some(now) = lives.last() else { return };
        // The newest life in which other channels were, and where the one after it begins.
        let was_other = |life: &Generation| life.id != 0 && life.may_hold_others(now.layout);
        let changed = lives.windows(2).rev().find(|lives| was_other(&lives[0]));
        for (_, known) in &mut self.channels {
            let policy = self.known_policies[usize::from(known.policy)];
            // A purge is in the log in any case, and says nothing of what followed it in memory.
            let was_other = changed.filter(|lives| {
                known.last < lives[0].first || known.last < lives[1].first && known.next_offset == 1
            });
            if let Some(lives) = was_other {
                self.doubt = self.doubt.max(lives[1].first);
            }
            known.is_in_doubt |= was_other.is_some() || policy.durability == Durability::Memory;
        }
    }

    /// The log holds publications up to here.
    pub(super) fn advance(&mut self, sequence: u64) {
        self.next = sequence + 1;
    }

    /// The sequence of the next publication in the log.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Whether the log may have something of channels that are not known.
    pub(super) fn may_have_forgotten(&self) -> bool {
        self.floor.sequence > 1
    }

    /// See [`Floor`].
    pub(super) fn floor(&self) -> Floor {
        self.floor
    }

    /// Since which turn the history of a channel is complete, known or not, and why not for longer.
    pub(super) fn complete_since(&self, name: &ChannelName) -> (u64, Gap) {
        self.channel(name).map_or((self.floor.turn, Gap::Trimmed), |known| self.completeness(known))
    }

    fn completeness(&self, known: &Channel) -> (u64, Gap) {
        let doubt = if known.is_in_doubt { self.doubt } else { 0 };
        let since = known.takeover.since.max(doubt);
        if known.complete_since <= since { (since, Gap::Epoch) } else { (known.complete_since, known.loss) }
    }

    /// The turn behind which everything lies that is kept of a channel, and why nothing else is.
    pub(super) fn kept_behind(&self, name: &ChannelName) -> (u64, Gap) {
        let known = self.channel(name).map(|known| (known.complete_since, known.loss));
        let (since, loss) = known.unwrap_or((self.floor.turn, Gap::Trimmed));
        (since.saturating_sub(1), loss)
    }

    /// What is in use of a segment.
    pub(super) fn usage(&self, segment: u32) -> Usage {
        self.usage.of(segment)
    }

    /// Number of channels and publications.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.channels.len(), self.publications)
    }

    /// Channels are numbered up to here, for those who look at all of them a few at a time.
    pub(super) fn ids(&self) -> u32 {
        u32::try_from(self.channels.capacity()).expect("there are fewer channels")
    }

    /// The channel with a number.
    pub(super) fn get(&self, id: u32) -> Option<&Channel> {
        self.channels.get(id as usize)
    }

    /// An entry's record lies somewhere else now.
    pub(super) fn move_entry(&mut self, name: &ChannelName, from: &Entry, segment: u32, position: u32) {
        let Some(id) = self.names.get(name).copied() else {
            return;
        };
        let known = &mut self.channels[id as usize];
        let place = known.behind(from.turn.saturating_sub(1));
        let Some(entry) = known.entries.get_mut(place).filter(|entry| **entry == *from) else {
            return;
        };
        (entry.segment, entry.position) = (segment, position);
        self.usage.remove(from);
        self.usage.add(entry);
    }

    /// The newest records of these channels lie in another segment now.
    pub(super) fn move_anchor(&mut self, id: u32, from: u32, to: u32) {
        if self.channels.get(id as usize).is_some_and(|known| known.anchor == from) {
            self.anchor(id, to);
        }
    }

    /// In the log, nothing of a channel in doubt has a sequence behind its newest publication and up to here.
    pub(super) fn quiet_through(&self, known: &Channel) -> u64 {
        self.doubt.max(known.last + 1) - 1
    }

    fn policy_of(&self, known: &Channel) -> Policy {
        self.known_policies[usize::from(known.policy)]
    }

    fn anchor(&mut self, id: u32, segment: u32) {
        let known = &mut self.channels[id as usize];
        if known.anchor != segment {
            self.usage.move_anchor(known.anchor, segment);
            known.anchor = segment;
        }
    }
}
