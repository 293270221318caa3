//! What readers share with the writer: the index, the segments it points into, and the lives of the log.

pub(super) mod hot;

use super::index::Index;
use super::log::disk::LogFile;
use super::log::record::{Generation, Preface};
use super::place::{CursorKey, Place};
use crate::broker::history::Top;
use crate::limits::LOG_GENERATIONS_MAX;
use hot::Hot;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything, under one lock.
pub(super) struct Stored {
    pub(super) index: Index,
    pub(super) segments: Segments,
    pub(super) hot: Hot,
    /// The lives of the log, the oldest first; the last one is this one.
    pub(super) generations: Vec<Generation>,
    /// Publications of this life that are kept in memory only.
    pub(super) in_memory: u64,
    /// The number of the oldest segment that counts.
    pub(super) begins: u64,
    /// What clients are told of places with.
    pub(super) key: Arc<CursorKey>,
}

/// The segments of the log.
#[derive(Default)]
pub(super) struct Segments {
    /// By their numbers.
    pub(super) list: BTreeMap<u64, Segment>,
    /// By the ids under which the index knows them. An id is given out once; a segment that is rewritten gets another.
    files: Vec<Option<Arc<dyn LogFile>>>,
}

/// One segment.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) id: u32,
    /// Its bytes, as far as they are stored for good.
    pub(super) length: u64,
    /// Those of them that the last rewriting left though no publication in use has them, such as the log's lives: another one would not
    /// give them back either. 0 if it was not rewritten since the start.
    pub(super) overhead: u64,
    /// Something in it is damaged: it is not touched until it is removed as a whole.
    pub(super) is_damaged: bool,
    /// When the newest publication with an idempotency key in it was published, by the [`super::writer::repeats::KeysClock`]; 0 if there
    /// is none.
    pub(super) keyed_at: u64,
}

impl Segments {
    /// An id for a file.
    pub(super) fn identify(&mut self, file: Arc<dyn LogFile>) -> u32 {
        // 0 is the memory's.
        if self.files.is_empty() {
            self.files.push(None);
        }
        self.files.push(Some(file));
        u32::try_from(self.files.len() - 1).expect("there are fewer segments")
    }

    /// The file with an id.
    pub(super) fn file(&self, id: u32) -> Option<&Arc<dyn LogFile>> {
        self.files.get(id as usize)?.as_ref()
    }

    /// Nothing points at this file any more.
    pub(super) fn close(&mut self, id: u32) {
        if let Some(file) = self.files.get_mut(id as usize) {
            *file = None;
        }
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.list.values().map(|segment| segment.length).sum()
    }
}

impl Stored {
    /// Where the newest publication is.
    pub(super) fn place(&self) -> Place {
        let sequence = self.index.next_sequence() - 1;
        Place { generation: self.generation(), sequence, memory: self.in_memory }
    }

    /// The same, as clients are told.
    pub(super) fn top(&self) -> Top {
        let place = self.place();
        Top { turn: place.turn(), cursor: self.key.of_moment(place) }
    }

    /// The name under which the log goes on since this process started.
    pub(super) fn generation(&self) -> u64 {
        self.generations.last().expect("opening adds one").id
    }

    /// What a segment that begins now has to say.
    pub(super) fn preface(&self, next: u64, begins: u64) -> Preface {
        let generations = remembered(&self.generations, LOG_GENERATIONS_MAX);
        Preface { next, begins, floor: self.index.floor().sequence, generations }
    }

    /// About how many bytes that takes: the lives are most of it.
    pub(super) fn preface_bytes(&self) -> u64 {
        (self.generations.len().min(LOG_GENERATIONS_MAX) * size_of::<Generation>()) as u64
    }
}

/// At most so many of the lives: the newest, and before them what is needed of the others to know, whatever is kept in memory only now,
/// which life was the newest in which something else was, and where it ended. Cursors of those left out are unknown.
fn remembered(lives: &[Generation], most: usize) -> Vec<Generation> {
    if lives.len() <= most {
        return lives.to_vec();
    }
    let (older, newest) = lives.split_at(lives.len() - (most - OLDER_MAX));
    let had_memory = |(_, life): &(usize, &Generation)| life.id != 0 && life.layout != 0;
    let mut with_memory = older.iter().enumerate().rev().filter(had_memory);
    let last = with_memory.next();
    let other = last.and_then(|(_, last)| with_memory.find(|(_, life)| life.layout != last.layout));
    let mut remembered = Vec::with_capacity(most);
    for (index, life) in other.into_iter().chain(last) {
        remembered.push(*life);
        // Where it ended, unless the next one of them says so.
        let next =
            older.get(index + 1).filter(|next| last.is_none_or(|(_, last)| !std::ptr::eq(*next, last)));
        remembered.extend(next.map(|next| Generation { id: 0, first: next.first, layout: 0 }));
    }
    remembered.extend_from_slice(newest);
    remembered
}

/// Two lives, and where each of them ended.
const OLDER_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left out must make no difference to which channels are doubted, whatever is kept in memory at the next start.
    #[test]
    fn of_the_lives_that_are_left_out_those_with_channels_in_memory_stay_known() {
        const MOST: usize = 8;
        let changed = |lives: &[Generation], now| {
            let was_other = |life: &Generation| life.id != 0 && life.may_hold_others(now);
            let found = lives.windows(2).rev().find(|lives| was_other(&lives[0]));
            found.map(|lives| (lives[0], lives[1].first))
        };
        let mut random = 1_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        let mut left_out_mattered = 0;
        for _ in 0..2_000 {
            let (mut lives, mut first) = (Vec::new(), 1);
            let rarity = below(12) + 1;
            for id in 1..=below(40) + 2 {
                let layout = if below(rarity) == 0 { below(4) } else { 0 };
                let id = if below(9) == 0 { 0 } else { id };
                lives.push(Generation { id, first, layout });
                first += below(3);
                // The list is written down by every life, from what the one before wrote.
                let kept = remembered(&lives, MOST);
                assert!(kept.len() <= MOST);
                assert_eq!(kept.last(), lives.last());
                for now in 0..5 {
                    assert_eq!(changed(&kept, now), changed(&lives, now), "{now} of {lives:?}");
                    let newest = &lives[lives.len().saturating_sub(MOST)..];
                    left_out_mattered += usize::from(changed(newest, now) != changed(&lives, now));
                }
                for next in kept.windows(2).filter(|lives| lives[0].id != 0) {
                    let whole = lives.iter().position(|life| life.id == next[0].id).unwrap();
                    assert_eq!(next[1].first, lives[whole + 1].first, "a life ends elsewhere");
                }
                lives = if below(2) == 0 { kept } else { lives };
            }
        }
        assert!(left_out_mattered > 100, "the lives left out made no difference");
    }
}
