//! What comes of a group: what is stored is indexed, delivered and answered, in this order; what is not stored is refused.

use super::super::index::held::HeldPublication;
use super::super::index::{Arrival, Entry};
use super::super::log::AppendError;
use super::super::log::MEMORY;
use super::super::log::disk::is_full;
use super::super::request::{PublishError, Published};
use super::super::stored::Stored;
use super::group::{Group, Planned};
use super::repeats::Stands;
use super::times::Times;
use super::{Appended, Writer};
use crate::failpoint;
use crate::model::{Kept, Position, Publication};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use tracing::{debug, error};

impl Writer {
    /// A group is as durable as it was to be: now it is indexed, delivered and answered, in this order.
    pub(super) fn publish(&mut self, group: &mut Group, appended: Option<Appended>, times: Times) {
        failpoint::pass("before-index");
        self.next += group.logged;
        let mut planned = std::mem::take(&mut group.planned);
        let mut places = Vec::with_capacity(planned.len());
        let is_logged = appended.is_some();
        {
            let stored = self.stored.clone();
            let mut stored = stored.write();
            let is_keyed =
                planned.iter().any(|planned| planned.span.is_some() && planned.idempotency.is_some());
            stored.index.fetch(planned.iter().filter_map(|planned| planned.id));
            let place = appended.as_ref().map(|appended| (appended.segment, appended.position));
            for planned in &mut planned {
                places.push(self.keep(&mut stored, planned, place, times));
            }
            if let Some(Appended { segment, position, bytes }) = appended {
                let head = &self.log.head;
                if let Some(known) = stored.segments.list.get_mut(&head.number) {
                    known.length = head.length;
                    known.keyed_at = if is_keyed { times.keys } else { known.keyed_at };
                }
                stored.hot.push(segment, position, bytes);
            }
        }
        if is_logged {
            // It may have to tell, and nobody waits for that.
            self.note_disk_takes();
        }
        failpoint::pass("before-deliver");
        let published_at = times.published_at();
        for (planned, (turn, published)) in planned.into_iter().zip(&places) {
            let Planned { ticket, channel, event, data, .. } = planned;
            let Published { position, cursor, .. } = *published;
            let kept = Some(Kept { position, turn: *turn, cursor });
            self.sink.deliver(Publication { channel, event, data, published_at, kept });
            group.settle(ticket, Ok(*published));
        }
        for (ticket, twin) in std::mem::take(&mut group.repeats) {
            group.settle(ticket, Ok(Published { is_duplicate: true, ..places[twin].1 }));
        }
    }

    /// Puts a publication into the index. Returns its turn, and what its publisher is told.
    fn keep(
        &mut self,
        stored: &mut Stored,
        planned: &mut Planned,
        place: Option<(u32, u64)>,
        times: Times,
    ) -> (u64, Published) {
        let Planned { id, standing, takes_over, sequence, durability, tag, expires_at, .. } = *planned;
        let (mut segment, mut position, mut length) = (MEMORY, 0, planned.data.len());
        let mut logged = None;
        if let (Some((start, bytes)), Some((id, at))) = (planned.span, place) {
            stored.index.advance(sequence);
            segment = id;
            position = u32::try_from(at).expect("segments are smaller than 4 GiB") + start;
            length = bytes as usize;
            logged = Some(sequence);
        } else {
            stored.in_memory += 1;
        }
        let newest = stored.place();
        let turn = newest.turn();
        let length = u32::try_from(length).expect("data is limited");
        let entry = Entry { turn, published_at: times.now, tag, segment, position, length };
        let held = (segment == MEMORY).then(|| HeldPublication {
            channel: planned.channel.clone(),
            event: planned.event.clone(),
            data: Bytes::copy_from_slice(&planned.data),
            sequence: newest.sequence,
            published_at: times.published_at(),
        });
        let id = stored.index.intern_again(id, &planned.channel);
        let arrival = Arrival {
            standing,
            takes_over,
            sequence: logged,
            since: None,
            expires_at,
            entry,
            ages: times.ages,
        };
        stored.index.insert(id, &arrival, held);
        let position = Position { epoch: standing.epoch, offset: standing.offset, tag };
        if let Some((key, fingerprint)) = planned.idempotency.take() {
            self.repeats.remember(
                key,
                fingerprint,
                times.keys,
                Stands { position, place: newest, durability },
            );
        }
        let published = Published {
            position,
            cursor: stored.key.of_publication(newest),
            durability,
            is_duplicate: false,
        };
        (turn, published)
    }

    /// What should have gone into the log is not stored. What is kept in memory only needs no disk.
    pub(super) fn refuse(&mut self, group: &mut Group, failure: &AppendError, times: Times) {
        let error = refusal(failure);
        let passing = match failure {
            AppendError::NotStored(error) => Some(error.kind()),
            AppendError::InDoubt(_) | AppendError::Fenced => None,
        };
        // Once for each reason, and not for every publication that is refused until it is over: the log may be on the same disk.
        if passing.is_some() && self.told_failure == passing {
            debug!(error = %failure, publications = group.logged, "publications could not be stored");
        } else {
            let until = passing.map_or("", |_| ", nor are others before the disk takes something again");
            error!(error = %failure, publications = group.logged, "publications could not be stored{until}");
        }
        if passing.is_some() {
            self.is_refusing.store(true, Ordering::Relaxed);
            self.told_failure = passing;
        }
        let repeats = std::mem::take(&mut group.repeats);
        let (mut kept, mut places) = (Vec::new(), HashMap::new());
        for (index, planned) in std::mem::take(&mut group.planned).into_iter().enumerate() {
            if planned.span.is_some() {
                group.settle(planned.ticket, Err(error.clone()));
            } else {
                places.insert(index, kept.len());
                kept.push(planned);
            }
        }
        for (ticket, twin) in repeats {
            match places.get(&twin) {
                Some(place) => group.repeats.push((ticket, *place)),
                None => group.settle(ticket, Err(error.clone())),
            }
        }
        group.logged = 0;
        group.planned = kept;
        self.publish(group, None, times);
    }
}

/// What publishers are told.
pub(super) fn refusal(failure: &AppendError) -> PublishError {
    match failure {
        AppendError::InDoubt(_) => PublishError::InDoubt,
        AppendError::Fenced => PublishError::Fenced,
        AppendError::NotStored(error) if is_full(error) => PublishError::StorageFull,
        AppendError::NotStored(error) => PublishError::NotStored(error.to_string()),
    }
}
