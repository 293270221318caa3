//! The one thread that writes: it takes what waits, stores it as one group, and only then lets anyone know.
//!
//! The order of a group: plan (places in channels, repeats), append, sync, index, deliver, answer. Nothing of a group that could
//! not be stored is visible anywhere.

use super::disk::LogFile;
use super::index::{Entry, Index, Retention, Standing};
use super::log::{AppendError, Log, Place};
use super::record::{Generation, Idempotency, Record, StoredPublication};
use super::{PublishError, PublishRequest, Published};
use crate::broker::PublicationSink;
use crate::clock::Clock;
use crate::limits::{
    IDEMPOTENCY_WINDOW, LOG_BYTES_MAX, LOG_GROUP_BYTES_MAX, LOG_GROUP_MAX, LOG_SWEEP_INTERVAL,
};
use crate::model::{ChannelName, Publication};
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

/// What readers share with the writer.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) index: Index,
    pub(super) files: BTreeMap<u64, Arc<dyn LogFile>>,
    pub(super) generations: Vec<Generation>,
}

/// A publication that waits to be stored.
pub(super) struct Waiting {
    pub(super) request: PublishRequest,
    pub(super) answer: oneshot::Sender<Result<Published, PublishError>>,
}

pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) stored: Arc<RwLock<Stored>>,
    pub(super) sink: Arc<dyn PublicationSink>,
    pub(super) clock: Clock,
    pub(super) retention: Retention,
    /// The sequence of the next publication.
    pub(super) next: u64,
    pub(super) repeats: Repeats,
}

/// A publication of the group that is being stored.
struct Planned {
    publication: StoredPublication,
    /// Where its record begins in the group's bytes, and its length.
    span: (u32, u32),
    answer: oneshot::Sender<Result<Published, PublishError>>,
}

/// A repeat of a publication of the same group, which is answered with it.
struct Repeat {
    published: Published,
    answer: oneshot::Sender<Result<Published, PublishError>>,
}

impl Writer {
    /// Stores what comes until nobody can send any more.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut group = Vec::with_capacity(LOG_GROUP_MAX);
        let mut swept_at = self.clock.monotonic_millis();
        while waiting.blocking_recv_many(&mut group, LOG_GROUP_MAX) > 0 {
            let mut rest = group.drain(..).peekable();
            while rest.peek().is_some() {
                self.store(&mut rest);
            }
            let now = self.clock.monotonic_millis();
            if now.saturating_sub(swept_at) >= crate::clock::millis_of(LOG_SWEEP_INTERVAL) {
                swept_at = now;
                self.sweep();
            }
        }
    }

    /// Stores as much of what waits as fits into one group.
    fn store(&mut self, waiting: &mut impl Iterator<Item = Waiting>) {
        let mut bytes = Vec::new();
        let mut planned = Vec::new();
        let mut repeats = Vec::new();
        let mut standings = HashMap::new();
        let now = self.clock.unix_millis();
        while bytes.len() < LOG_GROUP_BYTES_MAX
            && let Some(Waiting { request, answer }) = waiting.next()
        {
            let idempotency = request
                .idempotency_key
                .map(|key| Idempotency { key, fingerprint: fingerprint(&request.data) });
            match self.repeats.look_up(&request.channel, idempotency.as_ref(), now) {
                Some(Ok(published)) => {
                    repeats.push(Repeat { published, answer });
                    continue;
                }
                Some(Err(error)) => {
                    _ = answer.send(Err(error));
                    continue;
                }
                None => {}
            }
            let standing = self.next_standing(&request.channel, &mut standings);
            let publication = StoredPublication {
                sequence: self.next + planned.len() as u64,
                published_at: now,
                expires_at: request.expires_at,
                epoch: standing.epoch,
                offset: standing.offset,
                channel: request.channel,
                idempotency,
                data: request.data,
            };
            // Known before it is stored, so that a repeat in the same group finds it; forgotten if it is not stored.
            self.repeats.remember(&publication);
            let start = bytes.len();
            Record::Publication(publication.clone()).write(&mut bytes);
            let number = |value: usize| u32::try_from(value).expect("groups are smaller than 4 GiB");
            let span = (number(start), number(bytes.len() - start));
            planned.push(Planned { publication, span, answer });
        }
        if planned.is_empty() {
            repeats.into_iter().for_each(Repeat::answer);
            return;
        }
        match self.log.append(self.next, &bytes) {
            Ok((segment, position)) => {
                self.publish(planned, segment, position);
                repeats.into_iter().for_each(Repeat::answer);
            }
            Err(failure) => self.refuse(planned, repeats, &failure),
        }
    }

    /// A group is durable: now it is indexed, delivered and answered, in this order.
    fn publish(&mut self, planned: Vec<Planned>, segment: u64, position: u64) {
        self.next += planned.len() as u64;
        {
            let mut stored = self.stored.write();
            if !stored.files.contains_key(&segment) {
                stored.files = self.log.files();
            }
            for Planned { publication, span: (start, length), .. } in &planned {
                let position = u32::try_from(position).expect("segments are smaller than 4 GiB") + start;
                let place = Place { segment, position, length: *length };
                stored.index.insert(
                    &publication.channel,
                    standing_of(publication),
                    entry_of(publication, place),
                );
                stored.index.trim(&publication.channel, self.retention, publication.published_at);
            }
        }
        for Planned { publication, answer, .. } in planned {
            let published = Published {
                epoch: publication.epoch,
                offset: publication.offset,
                sequence: publication.sequence,
                is_duplicate: false,
            };
            let StoredPublication { channel, sequence, data, .. } = publication;
            self.sink.deliver(Publication { channel, sequence, data });
            // Whoever asked may be gone; what is stored stays stored.
            _ = answer.send(Ok(published));
        }
    }

    fn refuse(&mut self, planned: Vec<Planned>, repeats: Vec<Repeat>, failure: &AppendError) {
        error!(error = %failure, publications = planned.len(), "publications could not be stored");
        let error = match failure {
            AppendError::Fenced(_) => PublishError::Fenced,
            AppendError::NotStored(error) if is_full(error) => PublishError::StorageFull,
            AppendError::NotStored(error) => PublishError::NotStored(error.to_string()),
        };
        for Planned { publication, answer, .. } in planned {
            self.repeats.forget(&publication);
            _ = answer.send(Err(error.clone()));
        }
        for Repeat { published, answer } in repeats {
            // One of an earlier group is stored, one of this group is not.
            let is_stored = published.sequence < self.next;
            _ = answer.send(if is_stored { Ok(published) } else { Err(error.clone()) });
        }
    }

    fn next_standing(&self, channel: &ChannelName, planned: &mut HashMap<ChannelName, Standing>) -> Standing {
        let known = planned.get(channel).copied();
        let standing = known
            .or_else(|| self.stored.read().index.next_standing(channel))
            .unwrap_or_else(|| Standing { epoch: random(), offset: 1 });
        planned.insert(channel.clone(), Standing { offset: standing.offset + 1, ..standing });
        standing
    }

    /// Gives up what is too old, and the segments that nobody needs any more.
    fn sweep(&mut self) {
        let now = self.clock.unix_millis();
        self.repeats.forget_old(now);
        self.stored.write().index.trim_old(self.retention.age, now);
        loop {
            let is_unused = self.log.oldest().is_some_and(|oldest| !self.stored.read().index.uses(oldest));
            if !is_unused && self.log.bytes() <= LOG_BYTES_MAX {
                return;
            }
            match self.log.remove_oldest() {
                Ok(Some(removed)) => {
                    let mut stored = self.stored.write();
                    stored.index.trim_before(removed + 1);
                    stored.files.remove(&removed);
                }
                Ok(None) => return,
                Err(error) => {
                    warn!(%error, "an old segment could not be removed");
                    return;
                }
            }
        }
    }
}

impl Repeat {
    fn answer(self) {
        _ = self.answer.send(Ok(self.published));
    }
}

/// What was published under which key, for as long as a publisher may repeat it.
#[derive(Default)]
pub(super) struct Repeats {
    known: HashMap<(ChannelName, Box<str>), Known>,
    by_age: VecDeque<(u64, (ChannelName, Box<str>))>,
}

struct Known {
    fingerprint: [u8; 16],
    published_at: u64,
    published: Published,
}

impl Repeats {
    /// The first publication under the same key, if there was one; an error if that was another.
    fn look_up(
        &self,
        channel: &ChannelName,
        idempotency: Option<&Idempotency>,
        now: u64,
    ) -> Option<Result<Published, PublishError>> {
        let Idempotency { key, fingerprint } = idempotency?;
        let known = self.known.get(&(channel.clone(), key.clone()))?;
        if now.saturating_sub(known.published_at) > crate::clock::millis_of(IDEMPOTENCY_WINDOW) {
            return None;
        }
        let is_same = known.fingerprint == *fingerprint;
        Some(if is_same {
            Ok(Published { is_duplicate: true, ..known.published })
        } else {
            Err(PublishError::KeyReused)
        })
    }

    /// Keeps a publication's key in mind.
    pub(super) fn remember(&mut self, publication: &StoredPublication) {
        let Some(Idempotency { key, fingerprint }) = &publication.idempotency else {
            return;
        };
        let key = (publication.channel.clone(), key.clone());
        let &StoredPublication { epoch, offset, sequence, published_at, .. } = publication;
        let published = Published { epoch, offset, sequence, is_duplicate: false };
        self.known.insert(key.clone(), Known { fingerprint: *fingerprint, published_at, published });
        self.by_age.push_back((published_at, key));
    }

    fn forget(&mut self, publication: &StoredPublication) {
        if let Some(Idempotency { key, .. }) = &publication.idempotency {
            self.known.remove(&(publication.channel.clone(), key.clone()));
        }
    }

    fn forget_old(&mut self, now: u64) {
        let window = crate::clock::millis_of(IDEMPOTENCY_WINDOW);
        while let Some((_, key)) = self.by_age.pop_front_if(|(at, _)| now.saturating_sub(*at) > window) {
            if self.known.get(&key).is_some_and(|known| now.saturating_sub(known.published_at) > window) {
                self.known.remove(&key);
            }
        }
    }
}

/// Where a stored publication stands.
pub(super) fn standing_of(publication: &StoredPublication) -> Standing {
    Standing { epoch: publication.epoch, offset: publication.offset }
}

/// What the index keeps of a publication.
pub(super) fn entry_of(publication: &StoredPublication, place: Place) -> Entry {
    Entry { sequence: publication.sequence, published_at: publication.published_at, place }
}

pub(super) fn random() -> u64 {
    getrandom::u64().expect("the operating system has random numbers")
}

fn fingerprint(data: &[u8]) -> [u8; 16] {
    let hash = Sha256::digest(data);
    *hash.first_chunk().expect("a hash is longer")
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
