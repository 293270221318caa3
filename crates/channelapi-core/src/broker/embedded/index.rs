//! What is kept, in memory: for each channel where its publications lie, and since when its history is complete.
//!
//! Invariants:
//! - Offsets of one channel's entries have no holes, and their turns grow.
//! - "Complete since T" means: every publication of the channel whose turn is at least T is here, provably. When in doubt (after
//!   damage, or when what was known of a channel was given up) T is raised: a resume may be called incomplete that was complete,
//!   never the other way round.
//! - For every segment it is counted what of it is in use: entries, and channels whose newest record lies there (they are
//!   *anchored* in it). A segment of which nothing is in use says nothing that is not said elsewhere.
//!
//! An entry takes 32 bytes, a channel about 200: everything rare (a time to die, data in memory) is kept aside.

use super::held::{Held, HeldPublication};
use crate::broker::Gap;
use crate::model::{ChannelName, Durability, Policies, Policy, Retention};
use foldhash::fast::RandomState;
use slab::Slab;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// All channels.
pub(super) struct Index {
    /// Publishers choose the names, so the hash is seeded; they hold a key, so it need not withstand more.
    names: HashMap<ChannelName, u32, RandomState>,
    channels: Slab<Channel>,
    policies: Arc<Policies>,
    /// The policies that channels have, each once.
    known_policies: Vec<Policy>,
    pub(super) held: Held,
    /// What is in use of each segment, by its id.
    usage: Vec<Usage>,
    floor: Floor,
    /// The sequence the next publication in the log must have, if none is missing.
    next: u64,
    /// While the log is read: stretches of damage so far.
    gaps: u32,
    publications: usize,
}

/// Of a channel that is not known, nothing older is provably known: by the turns of this life, and by the log's sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) turn: u64,
    pub(super) sequence: u64,
}

/// What is in use of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Entries.
    pub(super) live: u32,
    /// Channels whose newest record is in it.
    pub(super) anchors: u32,
    /// Bytes of the entries' records.
    pub(super) live_bytes: u64,
}

/// What is known of one channel.
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) epoch: u64,
    /// The offset of the next publication; 0 as long as there was none.
    pub(super) next_offset: u64,
    /// Every publication with at least this turn is here.
    pub(super) complete_since: u64,
    /// In the log, nothing of the channel has a higher sequence.
    pub(super) last: u64,
    /// What is kept, the oldest first.
    pub(super) entries: VecDeque<Entry>,
    /// When entries die that do not live for ever, by their turns.
    expiries: BTreeMap<u64, u64>,
    bytes: u64,
    /// The segment with its newest record in the log.
    pub(super) anchor: u32,
    /// The tag of the newest publication.
    pub(super) tag: u32,
    /// Stretches of damage that what is known of it has outlived.
    touched: u32,
    policy: u16,
    /// Why publications with a lower turn are not here.
    pub(super) loss: Gap,
    /// Whether it is kept in memory only.
    is_in_memory: bool,
    /// Publications may be missing behind the last entry: the next one begins a new epoch.
    pub(super) is_in_doubt: bool,
}

/// One publication that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) turn: u64,
    pub(super) published_at: u64,
    pub(super) tag: u32,
    /// The segment its record is in, or [`MEMORY`].
    pub(super) segment: u32,
    /// Where in it.
    pub(super) position: u32,
    /// Bytes of the record, header included.
    pub(super) length: u32,
}

/// The segment of what is in none.
pub(super) const MEMORY: u32 = 0;

/// Where a publication stands in its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) epoch: u64,
    pub(super) offset: u64,
}

/// Where the next publication of a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The channel goes on; the sequence of its newest publication.
    Follows(Standing, u64),
    /// It begins anew, and nothing of it has a sequence between this one and the next.
    Begins(Option<u64>),
}

/// A publication on its way into the index.
pub(super) struct Arrival {
    pub(super) standing: Standing,
    /// Its sequence; `None` if it is kept in memory only.
    pub(super) sequence: Option<u64>,
    /// Since when the channel is complete if this publication follows nothing known, by its own record.
    pub(super) since: Option<u64>,
    pub(super) expires_at: u64,
    pub(super) entry: Entry,
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
    /// What a purge says.
    pub(super) fn purge(epoch: u64, sequence: u64, segment: u32) -> Self {
        let next = Standing { epoch, offset: 1 };
        Self { next, last: sequence, complete_since: sequence + 1, loss: Gap::Epoch, tag: 0, segment }
    }
}

impl Index {
    pub(super) fn new(policies: Arc<Policies>) -> Self {
        Self {
            names: HashMap::default(),
            channels: Slab::new(),
            policies,
            known_policies: Vec::new(),
            held: Held::default(),
            usage: Vec::new(),
            floor: Floor { turn: 1, sequence: 1 },
            next: 1,
            gaps: 0,
            publications: 0,
        }
    }

    /// What is known of a channel.
    pub(super) fn channel(&self, name: &ChannelName) -> Option<&Channel> {
        let id = *self.names.get(name)?;
        // Some are only known for their name: nothing was published there.
        Some(&self.channels[id as usize]).filter(|known| known.next_offset > 0)
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

    /// Where the next publication of a channel would stand.
    pub(super) fn next(&self, id: Option<u32>, is_in_memory: bool) -> Next {
        match id.and_then(|id| self.get(id)).filter(|known| known.next_offset > 0) {
            None => Next::Begins(Some(self.floor.sequence - 1)),
            Some(known) if known.is_in_doubt || known.is_in_memory != is_in_memory => Next::Begins(None),
            Some(known) => {
                Next::Follows(Standing { epoch: known.epoch, offset: known.next_offset }, known.last)
            }
        }
    }

    /// Adds a publication, in the order of turns, and gives up what the channel has too much then.
    pub(super) fn insert(&mut self, id: u32, arrival: &Arrival, held: Option<HeldPublication>) {
        let Arrival { standing: Standing { epoch, offset }, sequence, since, expires_at, entry } = *arrival;
        let (gaps, floor) = (self.gaps, self.floor.turn);
        let known = &mut self.channels[id as usize];
        let is_new = known.next_offset == 0;
        let is_in_doubt = known.is_in_doubt || known.touched < gaps;
        let follows = known.epoch == epoch
            && known.next_offset == offset
            && (!is_in_doubt || since == Some(known.last + 1));
        if !follows {
            // Something is missing in between, or was given up: what was before is no part of this history.
            let goes_on = !is_new && !is_in_doubt && known.epoch == epoch;
            let loss = if goes_on || is_new && offset > 1 { Gap::Trimmed } else { Gap::Epoch };
            self.clear(id);
            let known = &mut self.channels[id as usize];
            known.complete_since = since.unwrap_or(if is_new { floor } else { entry.turn });
            known.loss = loss;
        }
        if let Some(held) = held {
            self.held.insert(entry.turn, held);
        }
        let usage = usage_of(&mut self.usage, entry.segment);
        usage.live += 1;
        usage.live_bytes += u64::from(entry.length);
        self.anchor(id, entry.segment);
        self.publications += 1;
        let known = &mut self.channels[id as usize];
        known.epoch = epoch;
        known.next_offset = offset + 1;
        known.last = sequence.unwrap_or(known.last);
        known.tag = entry.tag;
        known.is_in_memory = entry.segment == MEMORY;
        known.is_in_doubt = false;
        known.touched = gaps;
        known.bytes += u64::from(entry.length);
        if expires_at != 0 {
            known.expiries.insert(entry.turn, expires_at);
        }
        if known.entries.len() == known.entries.capacity() {
            // Growing by a quarter instead of doubling: most memory is here.
            known.entries.reserve_exact((known.entries.len() / 4).max(2));
        }
        known.entries.push_back(entry);
        let retention = self.policy_of(&self.channels[id as usize]).retention;
        self.trim(id, retention, entry.published_at);
        while let Some((channel, turn)) =
            self.held.excess().map(|held| held.channel.clone()).and_then(|name| {
                let id = *self.names.get(&name)?;
                Some((id, self.channels[id as usize].entries.front()?.turn))
            })
        {
            self.trim_through(channel, turn, Gap::Trimmed);
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
        known.loss = reset.loss;
        known.tag = reset.tag;
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
        let (gaps, next) = (self.gaps, self.floor.turn);
        for (_, known) in &mut self.channels {
            known.entries.shrink_to_fit();
            if known.touched < gaps {
                known.is_in_doubt = true;
                known.complete_since = known.complete_since.max(next);
                known.loss = Gap::Epoch;
            }
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

    /// See [`Floor`].
    pub(super) fn floor(&self) -> Floor {
        self.floor
    }

    /// Since which turn the history of a channel is complete, known or not, and why not for longer.
    pub(super) fn complete_since(&self, name: &ChannelName) -> (u64, Gap) {
        let known = self.channel(name).map(|known| (known.complete_since, known.loss));
        known.unwrap_or((self.floor.turn, Gap::Trimmed))
    }

    /// What is in use of a segment.
    pub(super) fn usage(&self, segment: u32) -> Usage {
        self.usage.get(segment as usize).copied().unwrap_or_default()
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

    /// Gives up what is too old in some of the channels.
    pub(super) fn trim_old(&mut self, ids: std::ops::Range<u32>, now: u64) {
        for id in ids {
            if let Some(known) = self.channels.get(id as usize) {
                let retention = self.policy_of(known).retention;
                self.trim(id, retention, now);
            }
        }
    }

    /// Gives up what some of the channels have in a segment, and before it.
    pub(super) fn give_up(&mut self, ids: std::ops::Range<u32>, segment: u32) {
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
    pub(super) fn lose(&mut self, name: &ChannelName, turn: u64) {
        if let Some(id) = self.names.get(name).copied() {
            self.trim_through(id, turn, Gap::Epoch);
        }
    }

    /// Forgets channels of which nothing is kept, the longest idle first, until so many are left.
    pub(super) fn forget_idle(&mut self, most: usize) {
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
            self.anchor(u32::try_from(id).expect("ids fit"), MEMORY);
            let forgotten = self.channels.remove(id);
            self.names.remove(&forgotten.name);
            self.floor.turn = self.floor.turn.max(forgotten.complete_since);
            self.floor.sequence = self.floor.sequence.max(forgotten.last + 1);
        }
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
        let usage = usage_of(&mut self.usage, from.segment);
        usage.live -= 1;
        usage.live_bytes -= u64::from(from.length);
        let usage = usage_of(&mut self.usage, segment);
        usage.live += 1;
        usage.live_bytes += u64::from(from.length);
    }

    /// The newest records of these channels lie in another segment now.
    pub(super) fn move_anchor(&mut self, id: u32, from: u32, to: u32) {
        if self.channels.get(id as usize).is_some_and(|known| known.anchor == from) {
            self.anchor(id, to);
        }
    }

    /// A channel in doubt goes on in an epoch of its own, of which nothing was published yet.
    pub(super) fn begin_epoch(&mut self, id: u32, epoch: u64, last: u64) {
        let gaps = self.gaps;
        let known = &mut self.channels[id as usize];
        (known.epoch, known.next_offset, known.last) = (epoch, 1, last);
        (known.is_in_doubt, known.touched) = (false, gaps);
    }

    /// The number of a channel, by a text that is its name; `None` if it cannot be one.
    pub(super) fn intern_text(&mut self, name: &str) -> Option<u32> {
        match self.names.get(name) {
            Some(id) => Some(*id),
            None => ChannelName::parse(name).ok().map(|name| self.intern(&name)),
        }
    }

    /// The same, of a channel that probably has this number.
    pub(super) fn intern_text_again(&mut self, id: u32, name: &str) -> Option<u32> {
        let is_it = self.get(id).is_some_and(|known| known.name.as_str() == name);
        if is_it { Some(id) } else { self.intern_text(name) }
    }

    /// The number of a channel that had this one a moment ago.
    pub(super) fn intern_again(&mut self, id: Option<u32>, name: &ChannelName) -> u32 {
        match id.filter(|id| self.get(*id).is_some_and(|known| known.name == *name)) {
            Some(id) => id,
            None => self.intern(name),
        }
    }

    /// The number of a channel.
    pub(super) fn intern(&mut self, name: &ChannelName) -> u32 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let policy = self.policies.of(name);
        let place = self.known_policies.iter().position(|known| *known == policy).unwrap_or_else(|| {
            self.known_policies.push(policy);
            self.known_policies.len() - 1
        });
        let id = self.channels.insert(Channel {
            name: name.clone(),
            epoch: 0,
            next_offset: 0,
            complete_since: self.floor.turn,
            last: 0,
            entries: VecDeque::new(),
            expiries: BTreeMap::new(),
            bytes: 0,
            anchor: MEMORY,
            tag: 0,
            touched: self.gaps,
            policy: u16::try_from(place).expect("a configuration has fewer policies"),
            loss: Gap::Trimmed,
            is_in_memory: false,
            is_in_doubt: false,
        });
        let id = u32::try_from(id).expect("there are fewer channels");
        self.names.insert(name.clone(), id);
        id
    }

    fn policy_of(&self, known: &Channel) -> Policy {
        self.known_policies[usize::from(known.policy)]
    }

    fn anchor(&mut self, id: u32, segment: u32) {
        let known = &mut self.channels[id as usize];
        if known.anchor != segment {
            if known.anchor != MEMORY {
                usage_of(&mut self.usage, known.anchor).anchors -= 1;
            }
            if segment != MEMORY {
                usage_of(&mut self.usage, segment).anchors += 1;
            }
            known.anchor = segment;
        }
    }

    fn clear(&mut self, id: u32) -> usize {
        let count = self.channels[id as usize].entries.len();
        while self.pop(id).is_some() {}
        count
    }

    fn trim(&mut self, id: u32, retention: Retention, now: u64) {
        let loss = if retention.messages == 0 { Gap::NoHistory } else { Gap::Trimmed };
        loop {
            let known = &self.channels[id as usize];
            let is_too_much = known.entries.front().is_some_and(|oldest| {
                known.entries.len() > retention.messages
                    || known.bytes > retention.bytes
                    || now.saturating_sub(oldest.published_at) > retention.age
            });
            if !is_too_much {
                return;
            }
            self.give_up_oldest(id, loss);
        }
    }

    fn trim_through(&mut self, id: u32, turn: u64, loss: Gap) {
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
        known.bytes -= u64::from(oldest.length);
        known.expiries.remove(&oldest.turn);
        let usage = usage_of(&mut self.usage, oldest.segment);
        usage.live -= 1;
        usage.live_bytes -= u64::from(oldest.length);
        if oldest.segment == MEMORY {
            self.held.remove(oldest.turn);
        }
        self.publications -= 1;
        Some(oldest)
    }
}

/// The usage of a segment that may be new.
fn usage_of(usage: &mut Vec<Usage>, segment: u32) -> &mut Usage {
    let place = segment as usize;
    if usage.len() <= place {
        usage.resize(place + 1, Usage::default());
    }
    &mut usage[place]
}

impl Channel {
    /// The offset of the oldest entry, or of the next publication if there is none.
    pub(super) fn first_offset(&self) -> u64 {
        self.next_offset - self.entries.len() as u64
    }

    /// Where the entries of a later turn begin.
    pub(super) fn behind(&self, turn: u64) -> usize {
        self.entries.partition_point(|entry| entry.turn <= turn)
    }

    /// The entry at an offset.
    pub(super) fn at(&self, offset: u64) -> Option<&Entry> {
        let index = offset.checked_sub(self.first_offset())?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The offset of an entry.
    pub(super) fn offset_of(&self, entry: &Entry) -> u64 {
        self.first_offset() + self.behind(entry.turn) as u64 - 1
    }

    /// The turn of the newest publication: nothing of the channel follows.
    pub(super) fn newest_turn(&self) -> u64 {
        self.entries.back().map_or(self.complete_since - 1, |entry| entry.turn)
    }

    /// Whether an entry may still be shown.
    pub(super) fn shows(&self, entry: &Entry, now: u64) -> bool {
        self.expiries.get(&entry.turn).is_none_or(|dies_at| *dies_at > now)
    }
}
