//! What readers share with the writer: the index, the segments it points into, and the lives of the log.

use super::disk::LogFile;
use super::hot::Hot;
use super::index::Index;
use super::record::{Generation, Preface};
use crate::broker::Top;
use crate::limits::LOG_GENERATIONS_MAX;
use crate::model::Cursor;
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
    /// When the newest publication with an idempotency key in it was published, by the [`super::repeats::KeysClock`]; 0 if there
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
    pub(super) fn top(&self) -> Top {
        let sequence = self.index.next_sequence() - 1;
        let cursor = Cursor { generation: self.generation(), sequence, memory: self.in_memory };
        Top { turn: sequence + self.in_memory, cursor }
    }

    /// The name under which the log goes on since this process started.
    pub(super) fn generation(&self) -> u64 {
        self.generations.last().expect("opening adds one").id
    }

    /// What a segment that begins now has to say.
    pub(super) fn preface(&self, next: u64, begins: u64) -> Preface {
        let excess = self.generations.len().saturating_sub(LOG_GENERATIONS_MAX);
        let generations = self.generations[excess..].to_vec();
        Preface { next, begins, floor: self.index.floor().sequence, generations }
    }

    /// About how many bytes that takes: the lives are most of it.
    pub(super) fn preface_bytes(&self) -> u64 {
        (self.generations.len().min(LOG_GENERATIONS_MAX) * size_of::<Generation>()) as u64
    }
}
