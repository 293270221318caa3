//! Looking things up: where somebody stands, what follows, what is kept.

use super::broker::EmbeddedBroker;
use super::index::held::HeldPublication;
use super::index::{Channel, Entry};
use super::log::MEMORY;
use super::log::disk::LogFile;
use super::log::record::{Found as FoundRecord, Record, tag_of};
use super::log::unreadable::{insist, is_damage};
use super::place::{Life, Place};
use super::standing::{Standing, standing_of};
use super::stored::Stored;
use crate::broker::history::{Depth, Gap, History, Loss, Page, Reading, Since, Start, Top};
use crate::limits::HISTORY_PAGE_BYTES_MAX;
use crate::model::{ChannelName, Cursor, Durability, EventName, Kept, Policy, Position, Publication};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use tracing::error;

/// What to show of a channel.
#[derive(Debug, Clone, Copy)]
pub struct HistoryQuery {
    /// Publications of a later turn.
    pub after: u64,
    /// Publications with a lower offset.
    pub before: u64,
    /// No more than so many.
    pub limit: usize,
    /// Whether the newest come first, and are the ones that count.
    pub is_reverse: bool,
}

/// A part of a channel's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// In the order that was asked for.
    pub publications: Vec<Publication>,
    /// Whether there is more in that direction.
    pub has_more: bool,
    /// Where a client stands that has this page and everything before it; with the newest first, one that has everything.
    pub cursor: Cursor,
    /// Where the channel stands.
    pub standing: Option<Standing>,
}

/// A place that says nothing about what is here: all of it may be new.
const DIVERGED: Start = Start { after: 0, gap: Some(Gap::Diverged) };

/// A publication that was found, but not read yet.
struct Found {
    channel: ChannelName,
    entry: Entry,
    standing: (u64, u64),
    source: Source,
}

/// Where it is.
enum Source {
    Held(Arc<HeldPublication>),
    Hot(Bytes),
    File(Arc<dyn LogFile>),
    /// The index points at nothing: that is damage.
    Nowhere,
}

impl Found {
    /// Whether it can only be had from the disk, or by way of repair.
    fn needs_disk(&self) -> bool {
        matches!(self.source, Source::File(_) | Source::Nowhere)
    }
}

/// Why a publication could not be read.
enum Failure {
    /// What is on the disk is something else: what is kept of the channel up to it is lost.
    Damaged(String),
    /// The disk cannot be read at all right now.
    Unavailable(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if is_damage(&error) { damaged(error) } else { Self::Unavailable(error) }
    }
}

fn damaged(reason: impl Display) -> Failure {
    Failure::Damaged(reason.to_string())
}

/// Tries until nothing is in the way any more that is damaged: it is given up, so that comes to an end.
fn read_past_damage<T>(read: impl Fn() -> Result<T, Failure>) -> io::Result<T> {
    loop {
        match read() {
            Ok(page) => return Ok(page),
            Err(Failure::Damaged(_)) => {}
            Err(Failure::Unavailable(error)) => return Err(error),
        }
    }
}

impl EmbeddedBroker {
    /// Where somebody stands in a channel, and whether everything that follows is here.
    pub fn locate(&self, channel: &ChannelName, since: Since) -> Start {
        let stored = self.stored.read();
        let start = match since {
            Since::Cursor(cursor) => self.locate_cursor(&stored, channel, cursor),
            Since::All => Ok(0),
            Since::Offset(offset) => match stored.index.channel(channel) {
                None if offset == 0 => Ok(0),
                None => Err(Start { after: 0, gap: Some(Gap::Ahead) }),
                Some(known) => locate_offset(known, offset),
            },
            Since::InEpoch { epoch, offset } => match stored.index.channel(channel) {
                Some(known) if known.epoch == epoch => locate_offset(known, offset),
                _ => Err(Start { after: 0, gap: Some(Gap::Epoch) }),
            },
            Since::Position(position) => match stored.index.channel(channel) {
                Some(known) if known.epoch != position.epoch => {
                    Err(Start { after: 0, gap: Some(Gap::Epoch) })
                }
                Some(known) => match known.tag_at(position.offset) {
                    Some(tag) if tag != position.tag => Err(Start { after: 0, gap: Some(Gap::Diverged) }),
                    Some(_) => locate_offset(known, position.offset),
                    None if position.offset >= known.next_offset => locate_offset(known, position.offset),
                    // It is over, and whether it is the same one is not known any more.
                    None if position.offset > known.lost_through => {
                        Err(Start { after: 0, gap: Some(Gap::Trimmed) })
                    }
                    None => Err(Start { after: 0, gap: Some(known.loss) }),
                },
                None => Err(Start { after: 0, gap: Some(Gap::Epoch) }),
            },
        };
        let (complete_since, loss) = stored.index.complete_since(channel);
        let Start { after, gap } = start.map_or_else(
            |incomplete| incomplete,
            |after| Start { after, gap: (complete_since > after + 1).then_some(loss) },
        );
        let known = stored.index.channel(channel);
        let gap = match since {
            // It may be from behind all doubt.
            Since::Cursor(_) | Since::All => gap,
            // Nobody knows what is missing, only that something may be.
            _ if known.is_some_and(|known| known.is_in_doubt) => Some(Gap::Epoch),
            Since::Offset(offset)
            | Since::InEpoch { offset, .. }
            | Since::Position(Position { offset, .. }) => {
                let is_before = known.is_some_and(|known| offset < known.takeover.offset);
                gap.or(is_before.then_some(Gap::Epoch))
            }
        };
        // What is gone is said to be gone once: reading begins behind it.
        Start { after: after.max(stored.index.kept_behind(channel).0), gap }
    }

    fn locate_cursor(&self, stored: &Stored, channel: &ChannelName, cursor: Cursor) -> Result<u64, Start> {
        let (place, top) = (stored.key.open(cursor), stored.place());
        if place.generation == top.generation {
            let is_known = place.sequence <= top.sequence && place.memory <= top.memory;
            return if is_known { Ok(place.turn()) } else { Err(DIVERGED) };
        }
        let mut lives = stored.generations.iter().skip_while(|known| known.id != place.generation);
        let (Some(life), Some(next)) = (lives.next().filter(|life| life.id != 0), lives.next()) else {
            return Err(DIVERGED);
        };
        // An earlier life ends where the next one begins.
        if place.sequence >= next.first {
            return Err(DIVERGED);
        }
        // What was kept in memory only is gone with its life. Which channels that were is known only if they still are.
        let layout = stored.generations.last().map_or(0, |now| now.layout);
        let were_others = [life, next].into_iter().chain(lives).any(|life| life.may_hold_others(layout));
        if were_others || self.policies.of(channel).durability == Durability::Memory {
            return Err(Start { after: place.sequence, gap: Some(Gap::Epoch) });
        }
        Ok(place.sequence)
    }

    /// The turn behind which only the newest `count` publications of a channel follow, of those whose time is not over.
    pub fn after_all_but(&self, channel: &ChannelName, count: usize) -> u64 {
        let now = self.clock.unix_millis();
        let stored = self.stored.read();
        let Some(known) = stored.index.channel(channel) else {
            return stored.index.kept_behind(channel).0;
        };
        known.before_newest(count, now).map_or(known.complete_since.saturating_sub(1), |last| last.turn)
    }

    /// A cursor for a turn. Of one from before this life it is exact; of another it may be of an earlier place in a later life, never of
    /// a later one.
    pub fn cursor_at(&self, turn: u64) -> Cursor {
        let stored = self.stored.read();
        let top = stored.place();
        // Nothing of this life is before it, neither in the log nor in memory.
        if stored.generations.last().is_some_and(|life| turn < life.first) {
            return stored.key.of_moment(Place { sequence: turn, memory: 0, ..top });
        }
        // Whatever of it was kept in memory only is of no use to a later life.
        let memory = top.memory.min(turn);
        stored.key.of_moment(Place { sequence: (turn - memory).min(top.sequence), memory, ..top })
    }

    /// A cursor for the turn behind which somebody is served that came with a place: its own one, if that is of this life and says the same.
    pub fn cursor_from(&self, since: Option<Since>, turn: u64) -> Cursor {
        if let Some(Since::Cursor(own)) = since {
            let stored = self.stored.read();
            let place = stored.key.open(own);
            if place.generation == stored.generation() && place.turn() == turn {
                return own;
            }
        }
        self.cursor_at(turn)
    }

    /// A part of a channel's history. It may wait for the disk.
    pub fn history(&self, channel: &ChannelName, query: HistoryQuery) -> io::Result<HistoryPage> {
        let page = read_past_damage(|| self.try_history(channel, query, Depth::Disk))?;
        Ok(page.expect("whoever may wait for the disk gets a page"))
    }

    /// The same, if it can be had without waiting for the disk.
    pub fn recent_history(&self, channel: &ChannelName, query: HistoryQuery) -> Option<HistoryPage> {
        self.try_history(channel, query, Depth::Memory).ok().flatten()
    }

    fn try_history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
        depth: Depth,
    ) -> Result<Option<HistoryPage>, Failure> {
        let now = self.clock.unix_millis();
        let stored = self.stored.read();
        let (top, life) = (stored.top(), self.life(&stored));
        let Some(known) = stored.index.channel(channel) else {
            return Ok(Some(HistoryPage {
                publications: Vec::new(),
                has_more: false,
                cursor: top.cursor,
                standing: None,
            }));
        };
        let first = known.behind(query.after);
        let before = query.before.min(known.next_offset).saturating_sub(known.first_offset());
        let before = usize::try_from(before).unwrap_or(usize::MAX).clamp(first, known.entries.len());
        let mut room = Room::new(query.limit);
        let mut found = Vec::new();
        let mut take = |place: usize| {
            let entry = &known.entries[place];
            let fits = room.takes(entry);
            if fits {
                found.push(stored.find(known, entry));
            }
            fits
        };
        // What is left between them.
        let (mut low, mut high) = (first, before);
        if query.is_reverse {
            high = known.shown_before(high, low, now);
            while low < high && take(high - 1) {
                high = known.shown_before(high - 1, low, now);
            }
        } else {
            low = known.shown_from(low, high, now);
            while low < high && take(low) {
                low = known.shown_from(low + 1, high, now);
            }
        }
        let has_more = low < high;
        let standing = standing_of(known);
        // Reading forward ends here, if not with the newest: whoever goes on does so with this one.
        let following = (!query.is_reverse).then(|| known.entries.get(low)).flatten();
        let following = following.map(|entry| stored.find(known, entry));
        drop(stored);
        if depth == Depth::Memory && found.iter().chain(&following).any(Found::needs_disk) {
            return Ok(None);
        }
        let publications =
            found.into_iter().map(|found| self.load(found, life)).collect::<Result<Vec<_>, _>>()?;
        let last = publications.last().and_then(|last| last.kept);
        let cursor = match (following, last) {
            (Some(_), Some(kept)) => kept.cursor,
            (Some(following), None) => self.before(following, life)?,
            // Not the last one's own, not even with nothing behind it: it would say that.
            (None, _) => top.cursor,
        };
        Ok(Some(HistoryPage { publications, has_more, cursor, standing: Some(standing) }))
    }

    /// Where a client stands that has everything before a publication.
    fn before(&self, following: Found, life: Life<'_>) -> Result<Cursor, Failure> {
        let is_in_memory = following.entry.segment == MEMORY;
        let cursor = self.load(following, life)?.kept.expect("it was read from what is kept").cursor;
        let place = life.key.open(cursor);
        Ok(life.key.of_moment(if is_in_memory {
            Place { memory: place.memory - 1, ..place }
        } else {
            Place { sequence: place.sequence - 1, ..place }
        }))
    }

    /// The settings of a channel.
    pub fn policy(&self, channel: &ChannelName) -> Policy {
        self.policies.of(channel)
    }

    /// Channels and publications that are kept.
    pub fn size(&self) -> (usize, usize) {
        self.stored.read().index.size()
    }

    fn life(&self, stored: &Stored) -> Life<'_> {
        Life { generation: stored.generation(), key: &self.cursors }
    }

    fn load(&self, found: Found, life: Life<'_>) -> Result<Publication, Failure> {
        let turn = found.entry.turn;
        let channel = found.channel.clone();
        load(found, life).inspect_err(|failure| {
            if let Failure::Damaged(reason) = failure {
                error!(
                    %channel, turn, reason,
                    "a publication that was stored cannot be read: the disk is damaged; what is kept of its channel up to it is given up"
                );
                self.stored.write().index.lose(&channel, turn);
            }
        })
    }

    fn try_read(&self, readings: &[Reading], depth: Depth) -> Result<Option<Page>, Failure> {
        let now = self.clock.unix_millis();
        let stored = self.stored.read();
        let life = self.life(&stored);
        let mut losses = Vec::new();
        // Which entry of which reading is next, the one with the lowest turn first.
        let mut next = BinaryHeap::new();
        for (index, reading) in readings.iter().enumerate() {
            let known = stored.index.channel(&reading.channel);
            let (after, gap) = stored.index.kept_behind(&reading.channel);
            if after > reading.after && !reading.is_first {
                losses.push(Loss { reading: index, gap, after });
            }
            if let Some(known) = known {
                let place = known.shown_from(known.behind(reading.after), known.entries.len(), now);
                next.extend(known.entries.get(place).map(|entry| Reverse((entry.turn, index, place))));
            }
        }
        let mut found = Vec::new();
        let mut room = Room::new(usize::MAX);
        let mut is_complete = true;
        while let Some(Reverse((_, index, place))) = next.pop() {
            let known = stored.index.channel(&readings[index].channel).expect("it was there a moment ago");
            let entry = &known.entries[place];
            if !room.takes(entry) {
                is_complete = false;
                break;
            }
            let one = stored.find(known, entry);
            if depth == Depth::Memory && one.needs_disk() {
                return Ok(None);
            }
            found.push(one);
            let place = known.shown_from(place + 1, known.entries.len(), now);
            next.extend(known.entries.get(place).map(|entry| Reverse((entry.turn, index, place))));
        }
        let top = stored.top();
        drop(stored);
        let publications =
            found.into_iter().map(|found| self.load(found, life)).collect::<Result<Vec<_>, _>>()?;
        let last = publications.last().and_then(|last| last.kept);
        let reached = match last {
            Some(kept) if !is_complete => Top { turn: kept.turn, cursor: kept.cursor },
            // Also if the last one is the newest of all: who gets the same cursor twice would know that nothing was stored in between.
            _ => top,
        };
        Ok(Some(Page { publications, reached, is_complete, losses }))
    }
}

impl History for EmbeddedBroker {
    fn read(&self, readings: &[Reading], depth: Depth) -> io::Result<Option<Page>> {
        read_past_damage(|| self.try_read(readings, depth))
    }

    fn top(&self) -> Top {
        self.stored.read().top()
    }
}

impl Stored {
    fn find(&self, known: &Channel, entry: &Entry) -> Found {
        let source = if entry.segment == MEMORY {
            self.index.held.get(entry.turn).map(|held| Source::Held(held.clone()))
        } else if let Some(bytes) = self.hot.find(entry) {
            Some(Source::Hot(bytes))
        } else {
            self.segments.file(entry.segment).map(|file| Source::File(file.clone()))
        };
        let source = source.unwrap_or(Source::Nowhere);
        let offset = known.offset_of(entry);
        Found { channel: known.name.clone(), entry: *entry, standing: (known.epoch, offset), source }
    }
}

/// Reads a publication, and makes sure that it is the one that was looked for.
fn load(found: Found, life: Life<'_>) -> Result<Publication, Failure> {
    let Found { channel, entry, standing: (epoch, offset), source } = found;
    let kept = |sequence| {
        let position = Position { epoch, offset, tag: entry.tag };
        let place = Place { generation: life.generation, sequence, memory: entry.turn - sequence };
        Some(Kept { position, turn: entry.turn, cursor: life.key.of_publication(place) })
    };
    let bytes = match source {
        Source::Held(held) => {
            let (event, data) = (held.event.clone(), held.data.clone());
            let kept = kept(held.sequence);
            return Ok(Publication { channel, event, data, published_at: held.published_at, kept });
        }
        Source::Hot(bytes) => bytes,
        Source::File(file) => insist(|| file.read_at(entry.position.into(), entry.length as usize))?,
        Source::Nowhere => return Err(damaged("its segment is gone")),
    };
    let FoundRecord::Record(Record::Publication(publication), _) = Record::find(&bytes) else {
        return Err(damaged("its record is damaged"));
    };
    // Its epoch need not be the channel's, which may have taken it over; the tag is of all that it says.
    if (tag_of(&bytes), publication.offset, publication.channel) != (entry.tag, offset, channel.as_str())
        || publication.sequence > entry.turn
    {
        return Err(damaged("another record is in its place"));
    }
    let event = match publication.event {
        "" => EventName::default(),
        name => EventName::parse(name).map_err(damaged)?,
    };
    let (published_at, kept) = (publication.published_at, kept(publication.sequence));
    let data = bytes.slice_ref(publication.data);
    Ok(Publication { channel, event, data, published_at, kept })
}

/// What a publication takes of a page at least, however small it is: its frame has a head, too, and it is handled one by one.
const ENTRY_BYTES_MIN: u64 = 128;

/// What still fits into a page: a number, and [`HISTORY_PAGE_BYTES_MAX`] but for a single publication that is larger.
struct Room {
    count: usize,
    bytes: u64,
}

impl Room {
    fn new(count: usize) -> Self {
        Self { count, bytes: HISTORY_PAGE_BYTES_MAX as u64 }
    }

    fn takes(&mut self, entry: &Entry) -> bool {
        let bytes = u64::from(entry.length).max(ENTRY_BYTES_MIN);
        let is_first = self.bytes == HISTORY_PAGE_BYTES_MAX as u64;
        let fits = self.count > 0 && (is_first || bytes <= self.bytes);
        if fits {
            self.count -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        fits
    }
}

fn locate_offset(known: &Channel, offset: u64) -> Result<u64, Start> {
    if offset >= known.next_offset {
        return Err(Start { after: known.newest, gap: Some(Gap::Ahead) });
    }
    known.turn_behind(offset).ok_or(Start { after: 0, gap: Some(known.loss) })
}
