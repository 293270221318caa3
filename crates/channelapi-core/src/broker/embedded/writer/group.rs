//! A group of publications on their way into the log, from plan to answer.

use super::super::index::Standing;
use super::super::log::record::{Record, StoredPublication};
use super::super::request::{Outcome, PublishRequest};
use super::answers::{Answers, Asker};
use super::repeats::{Identity, Key};
use super::times::Times;
use crate::broker::permit::Permit;
use crate::counters::COUNTERS;
use crate::model::{ChannelName, Durability, EventName};
use bytes::Bytes;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// A group that is being stored.
#[derive(Default)]
pub(super) struct Group {
    /// The records of what goes into the log.
    pub(super) bytes: Vec<u8>,
    /// Bytes that the records of everything planned so far will take, roughly.
    pub(super) bytes_about: usize,
    pub(super) planned: Vec<Planned>,
    /// Repeats of publications of this group: which item repeats which planned one.
    pub(super) repeats: Vec<(Ticket, usize)>,
    pub(super) batches: Vec<Batch>,
    /// Where the items of all batches go, one behind the other.
    pub(super) found: Vec<Found>,
    /// What came of the items of all batches, one behind the other.
    pub(super) outcomes: Vec<Option<Outcome>>,
    /// What was planned under which idempotency key.
    pub(super) keys: HashMap<Key, usize>,
    pub(super) standings: HashMap<ChannelName, Planning, RandomState>,
    /// Publications that go into the log.
    pub(super) logged: u64,
    /// Whether one of them has to survive a power cut.
    pub(super) must_sync: bool,
}

/// Where the next publication of a channel in this group stands, and the sequence of the newest one.
#[derive(Clone, Copy)]
pub(super) struct Planning {
    pub(super) standing: Standing,
    pub(super) previous: u64,
    /// Whether it begins an epoch that takes over what is kept.
    pub(super) takes_over: bool,
}

/// A batch on its way to its answer.
pub(super) struct Batch {
    pub(super) items: usize,
    pub(super) asker: Asker,
    pub(super) permit: Permit,
}

/// How safely an item's channel is kept, and the channel's number if it has one.
pub(super) type Found = (Durability, Option<u32>);

/// Which item of the group.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    /// The first item of its batch.
    pub(super) batch: usize,
    /// Among those of all batches.
    pub(super) item: usize,
}

/// A publication of the group.
pub(super) struct Planned {
    pub(super) ticket: Ticket,
    pub(super) channel: ChannelName,
    /// Its number in the index, unless it is new.
    pub(super) id: Option<u32>,
    pub(super) event: EventName,
    pub(super) data: Bytes,
    pub(super) expires_at: u64,
    pub(super) idempotency: Option<Identity>,
    pub(super) standing: Standing,
    /// Nothing of the channel has a sequence between this one and its own.
    pub(super) previous: u64,
    pub(super) takes_over: bool,
    pub(super) sequence: u64,
    pub(super) durability: Durability,
    pub(super) tag: u32,
    /// Where its record begins in the group's bytes, and its length; `None` if it is kept in memory only.
    pub(super) span: Option<(u32, u32)>,
}

/// Bytes of the record of a publication, roughly.
pub(super) fn record_bytes_about(request: &PublishRequest) -> usize {
    /// Besides data, channel, event and key.
    const REST: usize = 80;
    let PublishRequest { channel, event, data, idempotency_key, .. } = request;
    let key = idempotency_key.as_ref().map_or(0, |key| key.len());
    REST + channel.as_str().len() + event.as_str().len() + key + data.len()
}

impl Group {
    /// A group of about so many publications.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self {
            planned: Vec::with_capacity(count),
            batches: Vec::with_capacity(count),
            found: Vec::with_capacity(count),
            outcomes: Vec::with_capacity(count),
            standings: HashMap::with_capacity_and_hasher(count, RandomState::default()),
            ..Self::default()
        }
    }

    /// Writes the records of everything that is planned.
    pub(super) fn encode(&mut self, times: Times) {
        // At once: records that were written are not moved again, and the hot tail keeps no more room than they need.
        self.bytes.reserve_exact(self.bytes_about);
        for batch in self.planned.chunk_by_mut(|one, next| one.ticket.batch == next.ticket.batch) {
            encode_batch(batch, &mut self.bytes, times);
        }
    }

    /// What is planned under a key, and its fingerprint.
    pub(super) fn twin(&self, key: &Key) -> Option<(usize, [u8; 16])> {
        let planned = *self.keys.get(key)?;
        self.planned[planned].idempotency.as_ref().map(|(_, fingerprint)| (planned, *fingerprint))
    }

    pub(super) fn settle(&mut self, ticket: Ticket, outcome: Outcome) {
        self.outcomes[ticket.item] = Some(outcome);
    }

    /// Counts what was stored, and tells everybody.
    pub(super) fn answer(self) {
        let (mut stored, mut repeats) = (0, 0);
        for published in self.outcomes.iter().flatten().flatten() {
            if published.is_duplicate {
                repeats += 1;
            } else {
                stored += 1;
            }
        }
        COUNTERS.publications.add(stored);
        COUNTERS.repeats.add(repeats);
        let mut answers = Answers::default();
        let mut outcomes = self.outcomes.into_iter().map(|outcome| outcome.expect("every item is settled"));
        for Batch { items, asker, permit } in self.batches {
            // Whoever is answered finds room for the next one.
            drop(permit);
            answers.add(asker, outcomes.by_ref().take(items));
        }
        answers.send();
    }
}

/// Writes the records of one batch.
fn encode_batch(batch: &mut [Planned], bytes: &mut Vec<u8>, times: Times) {
    let last = batch.iter().rposition(|planned| planned.span.is_some());
    for (index, planned) in batch.iter_mut().enumerate() {
        if planned.span.is_none() {
            planned.tag = crc32fast::hash(&planned.data);
            continue;
        }
        let start = bytes.len();
        let key = planned.idempotency.as_ref();
        planned.tag = Record::Publication(StoredPublication {
            continues: Some(index) != last,
            takes_over: planned.takes_over,
            sequence: planned.sequence,
            previous: planned.previous,
            published_at: times.published_at(),
            expires_at: times.end(planned.expires_at),
            epoch: planned.standing.epoch,
            offset: planned.standing.offset,
            channel: planned.channel.as_str(),
            event: if planned.event.is_message() { "" } else { planned.event.as_str() },
            idempotency: key.map(|((_, key), fingerprint)| (&**key, *fingerprint)),
            data: &planned.data,
        })
        .write(bytes);
        let number = |value: usize| u32::try_from(value).expect("groups are smaller than 4 GiB");
        planned.span = Some((number(start), number(bytes.len() - start)));
    }
}
