//! Planning a batch: who is refused, who repeats an earlier publication, and where the others stand in their channels.
//!
//! Invariant: of the items of one batch, those of one channel are planned all or not at all.

use super::super::epoch::{random, successor};
use super::super::index::{Next, Standing};
use super::super::log::record::NUMBER_MAX;
use super::super::request::{PublishError, PublishRequest, Published};
use super::super::stored::Stored;
use super::Writer;
use super::command::{Requests, Waiting};
use super::group::{Group, Planned, Planning, Ticket, record_bytes_about};
use super::repeats::{Identity, Stands, fingerprint};
use crate::limits::DATA_BYTES_MAX;
use crate::model::{ChannelName, Durability};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What of a batch cannot be stored, and in which channels.
#[derive(Default)]
struct Refused {
    items: HashMap<usize, PublishError>,
    channels: HashSet<ChannelName>,
}

impl Writer {
    /// Finds the channels of a group. One right behind the other, because most of that is waiting for memory, which a processor does for
    /// several of them at once.
    pub(super) fn find(&self, group: &mut Group, batches: &[Waiting]) {
        let stored = self.stored.read();
        let requests = batches.iter().flat_map(|waiting| &waiting.requests);
        group.found.extend(requests.map(|request| stored.index.durability(&request.channel)));
    }

    /// Plans a batch, whose items begin with this one among those of the group. `now` is the time by which keys are aged.
    pub(super) fn plan(&self, group: &mut Group, first: usize, requests: Requests, now: u64) {
        let is_plain = |request: &PublishRequest| {
            request.idempotency_key.is_none() && request.data.len() <= DATA_BYTES_MAX
        };
        if requests.iter().all(is_plain) {
            // Nothing can be wrong with them, and none repeats another.
            let stored = self.stored.read();
            for (item, request) in (first..).zip(requests) {
                self.plan_one(&stored, group, Ticket { batch: first, item }, request, None);
            }
            return;
        }
        let identities: Vec<_> = requests.iter().map(identity_of).collect();
        let mut refused = self.refused(group, &requests, &identities, now);
        let stored = self.stored.read();
        for (place, (request, identity)) in requests.into_iter().zip(identities).enumerate() {
            let ticket = Ticket { batch: first, item: first + place };
            if let Some(error) = refused.items.remove(&place) {
                group.settle(ticket, Err(error));
            } else if self.is_repeat(group, ticket, identity.as_ref(), now) {
                // It is settled, or will be with the one that it repeats.
            } else if refused.channels.contains(&request.channel) {
                group.settle(ticket, Err(PublishError::BatchRefused));
            } else {
                self.plan_one(&stored, group, ticket, request, identity);
            }
        }
    }

    /// Looks at all items before any is planned.
    fn refused(
        &self,
        group: &Group,
        requests: &[PublishRequest],
        identities: &[Option<Identity>],
        now: u64,
    ) -> Refused {
        let mut refused = Refused::default();
        let mut keys = HashMap::new();
        for (item, (request, identity)) in requests.iter().zip(identities).enumerate() {
            let error = if request.data.len() > DATA_BYTES_MAX {
                PublishError::NotStored("the data is over the limit".into())
            } else if let Some((key, fingerprint)) = identity
                && (matches!(self.repeats.look_up(key, fingerprint, now), Some(Err(_)))
                    || group.twin(key).is_some_and(|(_, known)| known != *fingerprint)
                    || *keys.entry(key).or_insert(fingerprint) != fingerprint)
            {
                PublishError::KeyReused
            } else {
                continue;
            };
            refused.items.insert(item, error);
            refused.channels.insert(request.channel.clone());
        }
        refused
    }

    /// Whether an item repeats something that is stored, or planned in this group.
    fn is_repeat(&self, group: &mut Group, ticket: Ticket, identity: Option<&Identity>, now: u64) -> bool {
        let Some((key, fingerprint)) = identity else {
            return false;
        };
        if let Some(known) = self.repeats.look_up(key, fingerprint, now) {
            let published = known.map(|Stands { position, place, durability }| {
                let cursor = self.cursors.of_publication(place);
                Published { position, cursor, durability, is_duplicate: true }
            });
            group.settle(ticket, published);
            return true;
        }
        let twin = group.twin(key);
        group.repeats.extend(twin.map(|(planned, _)| (ticket, planned)));
        twin.is_some()
    }

    /// Whether a channel would be one too many. Those that are known go on, whatever others did.
    fn is_too_much(&self, stored: &Stored, group: &Group, ticket: Ticket, channel: &ChannelName) -> bool {
        let (_, id) = group.found[ticket.item];
        id.is_none()
            && stored.index.bytes() > self.settings.index_bytes_max
            && stored.index.channel(channel).is_none()
            && !group.standings.contains_key(channel)
    }

    /// Finds a publication its place in its channel and in the group.
    fn plan_one(
        &self,
        stored: &Stored,
        group: &mut Group,
        ticket: Ticket,
        request: PublishRequest,
        idempotency: Option<Identity>,
    ) {
        let bytes = record_bytes_about(&request);
        let PublishRequest { channel, event, data, expires_at, .. } = request;
        if self.is_too_much(stored, group, ticket, &channel) {
            group.settle(ticket, Err(PublishError::TooManyChannels));
            return;
        }
        if let Some((key, _)) = &idempotency {
            group.keys.insert(key.clone(), group.planned.len());
        }
        let (durability, id) = stored.index.durability_again(group.found[ticket.item], &channel);
        let is_in_memory = durability == Durability::Memory;
        let sequence = self.next + group.logged;
        let planning = group.standings.entry(channel.clone()).or_insert_with(|| {
            match stored.index.next(id, is_in_memory) {
                Next::Follows(standing, previous) => Planning { standing, previous, takes_over: false },
                Next::TakesOver(Standing { epoch, offset }, previous) => Planning {
                    standing: Standing { epoch: successor(epoch), offset },
                    previous: previous.min(sequence - 1),
                    takes_over: true,
                },
                Next::Begins(previous) => Planning {
                    standing: Standing { epoch: random(), offset: 1 },
                    previous: previous.unwrap_or(sequence - 1),
                    takes_over: false,
                },
            }
        });
        if planning.standing.offset + 1 >= NUMBER_MAX {
            planning.standing = Standing { epoch: random(), offset: 1 };
            planning.takes_over = false;
        }
        let Planning { standing, previous, takes_over } = *planning;
        planning.standing.offset += 1;
        planning.previous = sequence;
        planning.takes_over = false;
        group.logged += u64::from(!is_in_memory);
        group.must_sync |= durability == Durability::Fsync;
        let span = (!is_in_memory).then_some((0, 0));
        if !is_in_memory {
            group.bytes_about += bytes;
        }
        group.planned.push(Planned {
            ticket,
            channel,
            id,
            event,
            data,
            expires_at,
            idempotency,
            standing,
            previous,
            takes_over,
            sequence,
            durability,
            tag: 0,
            span,
        });
    }
}

fn identity_of(request: &PublishRequest) -> Option<Identity> {
    let key: Arc<str> = request.idempotency_key.as_deref()?.into();
    Some(((request.channel.clone(), key), fingerprint(&request.event, &request.data)))
}
