//! Reading the records of a log, in order, into what is known of it.
//!
//! Damage is stepped over and never read; what it may have hidden is in doubt until a later record proves the contrary.

use super::super::index::{Ages, Arrival, Entry, Index, Reset, Standing};
use super::super::log::record::{Generation, Preface, Record, StoredPublication, tag_of};
use super::super::log::segment::{End, EndKind, Part, SEGMENT_HEADER_BYTES, scan};
use super::super::place::Place;
use super::super::stored::Segment;
use super::super::writer::repeats::{Repeats, Stands};
use crate::model::{ChannelName, Policies, Position};
use std::sync::Arc;
use tracing::warn;

/// What the log says, as it is read.
pub(in super::super) struct Replay {
    pub(in super::super) index: Index,
    pub(super) repeats: Repeats,
    pub(super) policies: Arc<Policies>,
    pub(in super::super) generations: Vec<Generation>,
    /// The time at the start. Whatever is said to be from later is from a time when the machine's clock was ahead: it counts as new.
    started_at: u64,
    /// The number of the segment with which the log begins.
    pub(in super::super) begins: u64,
    /// The time of the newest publication so far, by the [`super::super::writer::repeats::KeysClock`].
    pub(super) keys_now: u64,
    /// The same, by its own record; `None` if none was read since its life began or the clock was set.
    newest: Option<u64>,
    /// The numbers of the channels of the newest publications, by the rest of their sequences: a publication names the one before it
    /// in its channel, and looking there is faster than looking up a name. It is only a hint.
    recent: Vec<u32>,
    /// Bytes that what is known of channels may take.
    index_bytes_max: usize,
    /// When it takes so many, some that are idle are forgotten.
    room_at: usize,
}

/// So many publications are looked back to find a channel.
const RECENT: usize = 1 << 20;

fn place_of(sequence: u64) -> usize {
    usize::try_from(sequence % RECENT as u64).expect("it is small")
}

impl Replay {
    pub(in super::super) fn new(
        policies: &Arc<Policies>,
        keys_max: usize,
        index_bytes_max: usize,
        started_at: u64,
    ) -> Self {
        Self {
            index: Index::new(policies.clone()),
            repeats: Repeats::with_room(keys_max),
            policies: policies.clone(),
            generations: Vec::new(),
            started_at,
            begins: 0,
            // 0 means never.
            keys_now: 1,
            newest: None,
            recent: vec![u32::MAX; RECENT],
            index_bytes_max,
            room_at: index_bytes_max,
        }
    }

    /// Something is missing here.
    pub(super) fn damage(&mut self) {
        self.index.doubt();
        self.cap();
    }

    /// The missing stretch may have held the beginning of a life.
    fn cap(&mut self) {
        self.generations.push(Generation { id: 0, first: self.index.next_sequence(), layout: 0 });
    }

    /// The next record has this sequence. What should have been before it and is not, is damage.
    fn expect(&mut self, next: u64, name: &str, segment: &mut Segment) {
        let before = self.index.next_sequence();
        if self.index.expect(next) {
            warn!(
                segment = name,
                missing = next - before,
                "publications are missing: channels that may have had them begin a new epoch"
            );
            self.generations.push(Generation { id: 0, first: before, layout: 0 });
            segment.is_damaged = true;
        }
    }

    /// Reads all records of a segment.
    pub(in super::super) fn segment(
        &mut self,
        name: &str,
        bytes: &[u8],
        is_last: bool,
        segment: &mut Segment,
    ) -> End {
        let end = scan(bytes, |part| match part {
            Part::Record(record, position, length) => {
                let tag = tag_of(&bytes[position as usize..]);
                self.record(&record, name, (position, length, tag), segment);
            }
            Part::Damage(from, to) => {
                warn!(
                    segment = name,
                    from,
                    to,
                    "damage in the log: channels that may have had publications there begin a new epoch"
                );
                segment.is_damaged = true;
                self.damage();
            }
        });
        if !is_last && end.kind == EndKind::Torn {
            warn!(
                segment = name,
                from = end.position,
                "the end of a segment is missing: channels that may have had publications there begin a new epoch"
            );
            segment.is_damaged = true;
            self.damage();
        }
        end
    }

    fn record(&mut self, record: &Record<'_>, name: &str, place: (u32, u32, u32), segment: &mut Segment) {
        if let Some(sequence) = record.sequence() {
            if sequence < self.index.next_sequence() {
                warn!(segment = name, sequence, "a record of the log comes twice and is left out");
                segment.is_damaged = true;
                return self.damage();
            }
            self.expect(sequence, name, segment);
        }
        match record {
            Record::Publication(publication) => self.publication(publication, place, segment),
            Record::Preface(Preface { next, begins: _, floor, generations }) => {
                self.expect(*next, name, segment);
                self.index.raise_floor(*floor);
                let life = |lives: &[Generation]| lives.last().map(|life| life.id);
                if life(generations) != life(&self.generations) {
                    self.newest = None;
                } else if place.0 as usize > SEGMENT_HEADER_BYTES {
                    // It may say that the clock was set, which a rewriting might lose.
                    self.newest = None;
                    segment.keyed_at = self.keys_now;
                }
                self.generations.clone_from(generations);
            }
            Record::Top(top) => {
                if let Some(id) = self.index.intern_text(top.channel) {
                    self.index.reset(
                        id,
                        &Reset {
                            next: Standing { epoch: top.epoch, offset: top.next_offset },
                            last: top.last,
                            complete_since: top.last + 1,
                            loss: top.loss,
                            tag: top.tag,
                            segment: segment.id,
                        },
                    );
                }
            }
            Record::Purge(purge) => {
                if let Some(id) = self.index.intern_text(purge.channel) {
                    self.index.reset(id, &Reset::begin(purge.epoch, purge.sequence, segment.id));
                }
                self.index.advance(purge.sequence);
            }
            Record::Skip { from, to } => {
                self.expect(*from, name, segment);
                if *to > self.index.next_sequence() {
                    self.index.advance(to - 1);
                }
            }
            Record::Seal { next } => self.expect(*next, name, segment),
        }
        if self.index.bytes() > self.room_at {
            self.index.make_room(self.index_bytes_max);
            // There may be few that are idle: looking for them again must be worth it.
            self.room_at =
                self.index_bytes_max.max(self.index.bytes().saturating_add(self.index_bytes_max / 4));
        }
    }

    fn publication(
        &mut self,
        publication: &StoredPublication<'_>,
        (position, length, tag): (u32, u32, u32),
        segment: &mut Segment,
    ) {
        let sequence = publication.sequence;
        let published_at = publication.published_at.min(self.started_at);
        let ahead = publication.published_at - published_at;
        // 0 is never.
        let expires_at = publication.expires_at.saturating_sub(ahead).max(publication.expires_at.min(1));
        let arrival = Arrival {
            standing: Standing { epoch: publication.epoch, offset: publication.offset },
            takes_over: publication.takes_over,
            sequence: Some(sequence),
            since: Some(publication.previous + 1),
            expires_at,
            entry: Entry { turn: sequence, published_at, tag, segment: segment.id, position, length },
            // The clock may be ahead, or have been when this was published.
            ages: Ages::LATER,
        };
        let hint = self.recent[place_of(publication.previous)];
        if let Some(id) = self.index.intern_text_again(hint, publication.channel) {
            self.recent[place_of(sequence)] = id;
            self.index.insert(id, &arrival, None);
        }
        self.index.advance(sequence);
        let before = *self.newest.get_or_insert(publication.published_at);
        self.keys_now = self.keys_now.saturating_add(publication.published_at.saturating_sub(before));
        self.newest = Some(before.max(publication.published_at));
        if let Some((key, fingerprint)) = publication.idempotency {
            segment.keyed_at = self.keys_now;
            self.repeats.forget_old(self.keys_now);
            if let Ok(name) = ChannelName::stored(publication.channel) {
                let position = Position { epoch: publication.epoch, offset: publication.offset, tag };
                let place = Place { generation: 0, sequence, memory: 0 };
                let durability = self.policies.of(&name).durability;
                let stands = Stands { position, place, durability };
                self.repeats.remember((name, key.into()), fingerprint, self.keys_now, stands);
            }
        }
    }
}
