//! What is kept in memory only: the publications of channels whose policy says so, bounded over all of them.

use crate::model::{ChannelName, EventName};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All of them, by their turns.
#[derive(Debug)]
pub(in super::super) struct Held {
    publications: BTreeMap<u64, Arc<HeldPublication>>,
    bytes: usize,
    bytes_max: usize,
}

/// One of them.
#[derive(Debug)]
pub(in super::super) struct HeldPublication {
    pub(in super::super) channel: ChannelName,
    pub(in super::super) event: EventName,
    /// A copy: a part of a request would keep all of it in memory.
    pub(in super::super) data: Bytes,
    /// The newest sequence of the log when it was published.
    pub(in super::super) sequence: u64,
    /// As it was told.
    pub(in super::super) published_at: u64,
}

/// What a publication costs besides its data.
const OVERHEAD: usize = 200;

impl Held {
    /// Nothing, with room for so many bytes.
    pub(super) fn with_room(bytes_max: usize) -> Self {
        Self { publications: BTreeMap::new(), bytes: 0, bytes_max }
    }

    pub(in super::super) fn insert(&mut self, turn: u64, publication: HeldPublication) {
        self.bytes += publication.data.len() + OVERHEAD;
        self.publications.insert(turn, Arc::new(publication));
    }

    pub(in super::super) fn remove(&mut self, turn: u64) {
        if let Some(publication) = self.publications.remove(&turn) {
            self.bytes -= publication.data.len() + OVERHEAD;
        }
    }

    pub(in super::super) fn get(&self, turn: u64) -> Option<&Arc<HeldPublication>> {
        self.publications.get(&turn)
    }

    /// The oldest publication, if there are too many.
    pub(in super::super) fn excess(&self) -> Option<&HeldPublication> {
        let oldest = self.publications.first_key_value().filter(|_| self.bytes > self.bytes_max)?;
        Some(oldest.1)
    }
}
