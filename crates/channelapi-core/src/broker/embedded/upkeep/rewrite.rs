//! Rewriting a sealed segment without what nobody needs any more.
//!
//! The new file is written beside the old one and takes its name when it is whole and synced: a crash at any moment leaves one or
//! the other, and both say the same. What was left out is marked, so that a start does not take it for damage.
//!
//! What stays: publications in the index, the newest record of every channel whose newest record is here, and the last preface of each
//! life. Of a channel that was forgotten, or is kept in memory now, nobody knows where its newest record is: of the last one here stays where
//! the channel stood then, without the data, which may have been purged; so it does of one of which nothing is kept. The last purge of each
//! channel stays while there are older segments: if what follows it is damaged one day, what is before it must not come back.

use super::super::index::{Entry, Index};
use super::super::log::MEMORY;
use super::super::log::disk::{Disk, is_gone};
use super::super::log::record::{Preface, Record, StoredPublication, StoredTop, tag_of};
use super::super::log::segment::{EndKind, Part, first_of, header, name_of, rewritten_name_of, scan};
use super::super::stored::{Segment, Stored};
use super::super::writer::command::Refusal;
use crate::broker::history::Gap;
use crate::failpoint;
use crate::model::ChannelName;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::warn;

/// A segment with less dead bytes than this is not worth rewriting: a header, a preface, markers.
pub(super) const DEAD_BYTES_MIN: u64 = if cfg!(test) { 600 } else { 1024 * 1024 };

/// What came of it.
pub(super) enum Rewritten {
    /// It takes less space now.
    Done {
        /// Bytes before.
        before: u64,
        /// Bytes now.
        after: u64,
    },
    /// It is not as it was written: nothing was changed.
    Damaged,
    /// What it relies on could not be made to survive: nothing was changed.
    Unsettled {
        /// Why.
        refusal: Refusal,
        /// Bytes that it would have now.
        bytes: u64,
    },
    /// The process ends: nothing was changed.
    Stopped,
}

/// Why it did not come off: nothing was changed.
pub(super) struct Failure {
    pub(super) error: io::Error,
    /// Bytes that were to be written, if it came to that.
    pub(super) bytes: Option<u64>,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { error, bytes: None }
    }
}

/// Records that are looked at before others get the lock, and the core.
const CHUNK: usize = 512;

/// An entry whose record moves.
struct Move {
    channel: ChannelName,
    from: Entry,
    to: u32,
}

/// Why a record stays.
enum Need {
    /// An entry points at it.
    Entry(Entry),
    /// It says something that no other record says.
    Whole,
    /// It says where its channel stood, and nobody needs its data; and why nothing older is here.
    Place(Gap),
}

/// Rewrites a sealed segment. What makes records superfluous may be newer than the last sync: `settle` sees to it that it survives, or
/// says that it cannot.
pub(super) fn rewrite(
    disk: &dyn Disk,
    stored: &RwLock<Stored>,
    number: u64,
    segment: &Segment,
    is_stopping: &AtomicBool,
    settle: impl FnOnce() -> Result<(), Refusal>,
) -> Result<Rewritten, Failure> {
    let name = name_of(number);
    let bytes = disk.read(&name)?;
    let Some(first) = first_of(&name, number, &bytes).ok().flatten() else {
        return Ok(Rewritten::Damaged);
    };
    let mut records = Vec::new();
    let mut is_damaged = false;
    let end = scan(&bytes, |part| match part {
        Part::Record(record, position, length) => {
            records.push((record, position, length));
            give_way(records.len());
        }
        Part::Damage(..) => is_damaged = true,
    });
    if is_damaged || end.kind != EndKind::Sealed || !is_contiguous(first, &records) {
        return Ok(Rewritten::Damaged);
    }
    let prefaces = last_prefaces(&records);
    let last = last_of_channels(&records, |_| true);
    let is_oldest = stored.read().segments.list.keys().next() == Some(&number);
    let purges = last_of_channels(&records, |record| !is_oldest && matches!(record, Record::Purge(_)));
    let mut out = header(number, first);
    let mut moves = Vec::new();
    let mut covered = first;
    for (chunk, records) in records.chunks(CHUNK).enumerate() {
        if is_stopping.load(Ordering::Relaxed) {
            return Ok(Rewritten::Stopped);
        }
        give_way(0);
        let stored = stored.read();
        for (place, (record, position, length)) in records.iter().enumerate() {
            let raw = &bytes[*position as usize..(position + length) as usize];
            let place = chunk * CHUNK + place;
            let kept = match record {
                Record::Preface(Preface { next, .. }) if prefaces.contains(&place) => {
                    skip(covered, *next, &mut out);
                    covered = *next;
                    Some(Need::Whole)
                }
                Record::Preface(_) | Record::Skip { .. } => None,
                Record::Seal { next } => {
                    skip(covered, *next, &mut out);
                    Some(Need::Whole)
                }
                Record::Purge(purge) if purges.get(purge.channel) == Some(&place) => Some(Need::Whole),
                record => {
                    let is_last = channel_of(record).is_some_and(|channel| last.get(channel) == Some(&place));
                    is_needed(&stored.index, record, segment.id, (*position, tag_of(raw)), is_last)
                }
            };
            let Some(need) = kept else {
                continue;
            };
            if let (Need::Place(loss), Record::Publication(publication)) = (&need, record) {
                skip(covered, publication.sequence + 1, &mut out);
                covered = publication.sequence + 1;
                top_behind(publication, tag_of(raw), *loss).write(&mut out);
                continue;
            }
            if let Some(sequence) = record.sequence() {
                skip(covered, sequence, &mut out);
                covered = sequence + 1;
            }
            if let (Need::Entry(from), Record::Publication(publication)) = (need, record)
                && let Ok(channel) = ChannelName::stored(publication.channel)
            {
                let to = u32::try_from(out.len()).expect("it is smaller than it was");
                moves.push(Move { channel, from, to });
            }
            out.extend_from_slice(raw);
        }
    }
    if moves.len() < stored.read().index.usage(segment.id).live as usize {
        // The index points at something that was not found.
        return Ok(Rewritten::Damaged);
    }
    let replaced = replace(disk, stored, number, segment, (&out, &moves), settle);
    replaced.map_err(|error| Failure { error, bytes: Some(out.len() as u64) })
}

/// Puts the new file into the place of the old one.
fn replace(
    disk: &dyn Disk,
    stored: &RwLock<Stored>,
    number: u64,
    segment: &Segment,
    (bytes, moves): (&[u8], &[Move]),
    settle: impl FnOnce() -> Result<(), Refusal>,
) -> io::Result<Rewritten> {
    let name = rewritten_name_of(number);
    // One may be left of a try that failed, and could not be removed then.
    match disk.remove(&name) {
        Err(error) if !is_gone(&error) => return Err(error),
        _ => {}
    }
    let file = disk.create(&name)?;
    if let Err(error) = file.write_at(0, bytes).and_then(|()| file.sync()) {
        disk.remove(&name)?;
        return Err(error);
    }
    // Not before it is known that it fits: what this writes is as much again for each try.
    if let Err(refusal) = settle() {
        disk.remove(&name)?;
        return Ok(Rewritten::Unsettled { refusal, bytes: bytes.len() as u64 });
    }
    failpoint::pass("before-rename");
    if let Err(error) = disk.rename(&name, &name_of(number)) {
        // Nobody knows which of the two has the name now. Both say the same; it is only not rewritten again.
        warn!(%error, "a rewritten segment could not be put into its place");
        _ = disk.remove(&name);
        return Ok(Rewritten::Damaged);
    }
    failpoint::pass("after-rename");
    let id = stored.write().segments.identify(file);
    for moves in moves.chunks(CHUNK) {
        give_way(0);
        let mut stored = stored.write();
        for Move { channel, from, to } in moves {
            stored.index.move_entry(channel, from, id, *to);
        }
    }
    let mut ids = 0..stored.read().index.ids();
    while !ids.is_empty() {
        let chunk = ids.start..ids.end.min(ids.start + 2 * u32::try_from(CHUNK).expect("it is small"));
        ids.start = chunk.end;
        give_way(0);
        let mut stored = stored.write();
        chunk.for_each(|channel| stored.index.move_anchor(channel, segment.id, id));
    }
    let mut stored = stored.write();
    let length = bytes.len() as u64;
    let overhead = length.saturating_sub(stored.index.usage(id).staying_bytes());
    stored.segments.list.insert(number, Segment { id, length, overhead, ..segment.clone() });
    stored.segments.close(segment.id);
    Ok(Rewritten::Done { before: segment.length, after: length })
}

/// Whether nothing is missing between the records.
fn is_contiguous(first: u64, records: &[(Record<'_>, u32, u32)]) -> bool {
    let mut next = first;
    records.iter().all(|(record, ..)| match record {
        Record::Skip { from, to } => {
            let fits = *from == next;
            next = *to;
            fits
        }
        Record::Seal { next: end } => *end == next,
        record => record.sequence().is_none_or(|sequence| {
            let fits = sequence == next;
            next = sequence + 1;
            fits
        }),
    })
}

/// The places of the last preface of each life. That a life begins says that the clock may have jumped.
fn last_prefaces(records: &[(Record<'_>, u32, u32)]) -> Vec<usize> {
    let mut last: Vec<(u64, usize)> = Vec::new();
    for (place, (record, ..)) in records.iter().enumerate() {
        if let Record::Preface(preface) = record {
            let life = preface.generations.last().map_or(0, |life| life.id);
            last.pop_if(|(before, _)| *before == life);
            last.push((life, place));
        }
    }
    last.into_iter().map(|(_, place)| place).collect()
}

/// The places of the last record of each channel, of those that `counts` says do.
fn last_of_channels<'a>(
    records: &'a [(Record<'_>, u32, u32)],
    counts: impl Fn(&Record<'_>) -> bool,
) -> HashMap<&'a str, usize> {
    let mut last = HashMap::new();
    for (place, (record, ..)) in records.iter().enumerate() {
        if let Some(channel) = channel_of(record).filter(|_| counts(record)) {
            last.insert(channel, place);
        }
        give_way(place);
    }
    last
}

/// Lets others run, who may have only this core, after each [`CHUNK`] of what was counted: publishers wait for them, and nobody waits
/// for this.
fn give_way(count: usize) {
    if count.is_multiple_of(CHUNK) {
        std::thread::yield_now();
    }
}

/// The channel that a record is about.
fn channel_of<'a>(record: &'a Record<'_>) -> Option<&'a str> {
    match record {
        Record::Publication(StoredPublication { channel, .. }) => Some(channel),
        Record::Top(top) => Some(top.channel),
        Record::Purge(purge) => Some(purge.channel),
        _ => None,
    }
}

/// Says that records were here.
fn skip(from: u64, to: u64, out: &mut Vec<u8>) {
    if from < to {
        Record::Skip { from, to }.write(out);
    }
}

/// Where a channel stands behind a publication that is not kept.
fn top_behind<'a>(publication: &StoredPublication<'a>, tag: u32, loss: Gap) -> Record<'a> {
    let StoredPublication { epoch, offset, sequence: last, channel, .. } = *publication;
    Record::Top(StoredTop { epoch, next_offset: offset + 1, last, tag, loss, channel })
}

/// Whether and why somebody needs a record. `is_last` is the last one of its channel in the segment.
fn is_needed(
    index: &Index,
    record: &Record<'_>,
    segment: u32,
    (position, tag): (u32, u32),
    is_last: bool,
) -> Option<Need> {
    let channel = channel_of(record)?;
    let Some(known) = index.by_text(channel).filter(|known| known.anchor != MEMORY) else {
        // Without its newest record, what older segments have of it would come back with the next start.
        let is_publication = matches!(record, Record::Publication(_));
        return is_last.then_some(if is_publication { Need::Place(Gap::Trimmed) } else { Need::Whole });
    };
    let is_anchor = known.anchor == segment;
    match record {
        Record::Publication(publication) => {
            // Its epoch need not be the channel's: that may have taken it over.
            let entry = known
                .at(publication.offset)
                .filter(|entry| (entry.segment, entry.position, entry.tag) == (segment, position, tag));
            let is_newest =
                is_anchor && known.epoch == publication.epoch && known.next_offset == publication.offset + 1;
            let is_idle = known.entries.is_empty();
            let newest = is_newest.then_some(if is_idle { Need::Place(known.loss) } else { Need::Whole });
            entry.map(|entry| Need::Entry(*entry)).or(newest)
        }
        Record::Top(top) => (is_anchor && known.epoch == top.epoch && known.next_offset == top.next_offset)
            .then_some(Need::Whole),
        Record::Purge(purge) => (is_anchor && known.last == purge.sequence).then_some(Need::Whole),
        _ => None,
    }
}
