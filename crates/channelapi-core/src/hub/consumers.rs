//! Consumers: how far each reader of a channel has come, by its own word.
//!
//! Acks gather in memory, the furthest of each consumer, and are written together: a round (`consumers/rounds.rs`). So thousands
//! of clients that acknowledge at once cost one write, and one that does so in a loop costs one row.
//!
//! Invariants:
//! - An ack is answered after it is on disk, and what it is about before: no position is ahead of what a power cut leaves.
//! - In one epoch of a channel nobody goes back. A position of another epoch means nothing, and the next ack replaces it.

mod rounds;
#[cfg(test)]
mod tests;

use self::rounds::{Rounds, Waiter};
use crate::broker::{EmbeddedBroker, Gap, Since, Standing};
use crate::clock::{Clock, millis_of};
use crate::limits::{ACK_INTERVAL, CONSUMER_IDLE_MAX, CONSUMER_PRUNE_INTERVAL, CONSUMERS_PER_CHANNEL_MAX};
use crate::model::{ChannelName, ConsumerName, Position};
use crate::state::{Ack, StateError, StateStore, StoredPosition};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;
use tracing::error;

/// Keeps the positions of consumers. Acks wait for [`Consumers::keep_up`] to write them.
pub struct Consumers {
    state: StateStore,
    broker: Arc<EmbeddedBroker>,
    clock: Clock,
    rounds: Mutex<Rounds>,
    /// Rounds are written one after the other.
    writing: tokio::sync::Mutex<()>,
    arrived: Notify,
}

/// Where a consumer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The last publication it acknowledged, and everything before; 0 if none.
    pub offset: u64,
    /// Later publications that are kept, and whose time is not over.
    pub unread: u64,
}

/// A consumer as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: ConsumerName,
    /// Where it stands.
    pub held: Held,
    /// When it last said so, or up to a day before, in milliseconds since 1970.
    pub acked_at: u64,
}

/// How far a consumer says that it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Up to this offset, of whatever history there is when the ack arrives.
    Offset(u64),
    /// Up to the publication with this id, of the history that it is of and no other.
    Id(Position),
}

/// Why an ack was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AckError {
    /// There is no such publication yet.
    #[error("offset {offset} is ahead of the channel, whose newest message has offset {newest}")]
    Ahead {
        /// What was acknowledged.
        offset: u64,
        /// What there is.
        newest: u64,
    },
    /// The id is of another epoch.
    #[error("the id is of a history that the channel does not have, or not any more")]
    Epoch,
    /// Another publication is where the id says, or may be.
    #[error(
        "the id is of another history: its place has another message, or nobody knows any more which one it had"
    )]
    Diverged,
    /// The channel has too many consumers.
    #[error(
        "the channel has {CONSUMERS_PER_CHANNEL_MAX} consumers, which is the limit: use the name of one of them, or remove one"
    )]
    TooManyConsumers,
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Consumers {
    /// The consumers of a state store, who read what this broker keeps.
    pub fn new(state: StateStore, broker: Arc<EmbeddedBroker>, clock: Clock) -> Self {
        Self {
            state,
            broker,
            clock,
            rounds: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// A consumer has everything up to a mark. Answers where it stands now, which may be further; by then it is on disk.
    pub async fn ack(
        &self,
        channel: &ChannelName,
        consumer: &ConsumerName,
        mark: Mark,
    ) -> Result<Held, AckError> {
        loop {
            let Some(waiter) = self.gather(channel, consumer, mark)? else {
                return Ok(Held { offset: 0, unread: 0 });
            };
            self.arrived.notify_one();
            let outcome = waiter.wait().await?;
            if let Some(place) = waiter.place {
                let positions = outcome.as_ref().as_ref();
                let positions = positions.map_err(|text| StateError::Failed(text.clone()))?;
                let held = positions[place].ok_or(AckError::TooManyConsumers)?;
                return Ok(self.held(channel, Some(held)));
            }
        }
    }

    /// Where a consumer stands. One that nobody knows has everything before it.
    pub async fn position(&self, channel: &ChannelName, consumer: &ConsumerName) -> Result<Held, StateError> {
        self.settle(channel, consumer).await;
        let stored = self.state.position(channel.clone(), consumer.clone()).await?;
        Ok(self.held(channel, stored))
    }

    /// Where what a consumer has not acknowledged begins: in the history that it knows, which may be another than there is now.
    pub async fn unread_since(
        &self,
        channel: &ChannelName,
        consumer: &ConsumerName,
    ) -> Result<Since, StateError> {
        self.settle(channel, consumer).await;
        let stored = self.state.position(channel.clone(), consumer.clone()).await?;
        Ok(stored
            .map_or(Since::Offset(0), |stored| Since::InEpoch { epoch: stored.epoch, offset: stored.offset }))
    }

    /// The consumers of a channel, by name.
    pub async fn list(&self, channel: &ChannelName) -> Result<Vec<Consumer>, StateError> {
        let positions = self.state.positions(channel.clone()).await?;
        let known = self.broker.standing_and_expired(channel, |standing| {
            positions.iter().map(|(_, stored)| offset_in(standing, Some(*stored))).collect()
        });
        let consumer = |(place, (name, stored)): (usize, (ConsumerName, StoredPosition))| Consumer {
            name,
            held: held_of(known.as_ref().map(|(standing, expired)| (standing, expired[place])), Some(stored)),
            acked_at: stored.acked_at,
        };
        Ok(positions.into_iter().enumerate().map(consumer).collect())
    }

    /// The consumers that have acknowledged a publication, by name.
    pub async fn acked_by(
        &self,
        channel: &ChannelName,
        offset: u64,
    ) -> Result<Vec<ConsumerName>, StateError> {
        match self.broker.standing(channel) {
            Some(standing) => self.state.consumers_at(channel.clone(), standing.epoch, offset).await,
            None => Ok(Vec::new()),
        }
    }

    /// Forgets a consumer, and says whether there was one.
    pub async fn remove(&self, channel: &ChannelName, consumer: &ConsumerName) -> Result<bool, StateError> {
        self.settle(channel, consumer).await;
        self.state.remove_consumer(channel.clone(), consumer.clone()).await
    }

    /// Writes acks as they come and forgets idle consumers from time to time, until it is dropped.
    pub async fn keep_up(&self) {
        let mut pruned_at = self.clock.monotonic_millis();
        loop {
            _ = tokio::time::timeout(CONSUMER_PRUNE_INTERVAL, self.arrived.notified()).await;
            self.flush().await;
            let now = self.clock.monotonic_millis();
            if now.saturating_sub(pruned_at) >= millis_of(CONSUMER_PRUNE_INTERVAL) {
                pruned_at = now;
                self.prune().await;
            }
            tokio::time::sleep(ACK_INTERVAL).await;
        }
    }

    async fn prune(&self) {
        let before = self.clock.cautious_millis().saturating_sub(millis_of(CONSUMER_IDLE_MAX));
        if let Err(error) = self.state.prune_consumers(before, self.clock.written_millis()).await {
            error!(%error, "idle consumers could not be removed");
        }
    }

    /// Writes the acks that wait, and answers them.
    pub async fn flush(&self) {
        let _one_at_a_time = self.writing.lock().await;
        let acks = self.rounds.lock().close();
        let count = acks.len();
        let written = if count == 0 {
            Ok(Vec::new())
        } else if self.broker.settle().await {
            self.state.acknowledge(acks).await
        } else {
            Err(StateError::Failed("what was acknowledged is not on disk".into()))
        };
        if let Err(error) = &written {
            error!(%error, count, "acks could not be written");
        }
        self.rounds.lock().finish(written);
    }

    /// Adds an ack to the round that gathers. `None` if there is nothing to store: nothing was ever published.
    fn gather(
        &self,
        channel: &ChannelName,
        consumer: &ConsumerName,
        mark: Mark,
    ) -> Result<Option<Waiter>, AckError> {
        let mut rounds = self.rounds.lock();
        // Asked under the lock, so that acks are in the order of the epochs they are for.
        Ok(self.find(channel, mark)?.map(|(epoch, offset)| {
            let position = StoredPosition { epoch, offset, acked_at: self.clock.written_millis() };
            rounds.add(Ack { channel: channel.clone(), consumer: consumer.clone(), position })
        }))
    }

    /// The epoch and the offset of a mark. `None` if nothing was ever published.
    fn find(&self, channel: &ChannelName, mark: Mark) -> Result<Option<(u64, u64)>, AckError> {
        let newest_of = |standing: Option<Standing>| standing.map_or(0, |standing| standing.next_offset - 1);
        match mark {
            Mark::Offset(offset) => {
                let standing = self.broker.standing(channel);
                let newest = newest_of(standing);
                if offset > newest {
                    return Err(AckError::Ahead { offset, newest });
                }
                Ok(standing.map(|standing| (standing.epoch, offset)))
            }
            Mark::Id(id) => match self.broker.recognize(channel, id) {
                Ok(()) => Ok(Some((id.epoch, id.offset))),
                Err(Gap::Ahead) => {
                    let newest = newest_of(self.broker.standing(channel));
                    Err(AckError::Ahead { offset: id.offset, newest })
                }
                Err(Gap::Diverged) => Err(AckError::Diverged),
                Err(_) => Err(AckError::Epoch),
            },
        }
    }

    /// What a stored position means in its channel.
    fn held(&self, channel: &ChannelName, stored: Option<StoredPosition>) -> Held {
        let known = self.broker.standing_and_expired(channel, |standing| vec![offset_in(standing, stored)]);
        held_of(known.as_ref().map(|(standing, expired)| (standing, expired[0])), stored)
    }

    /// Waits until what a consumer acknowledged so far is on disk, or could not be written.
    async fn settle(&self, channel: &ChannelName, consumer: &ConsumerName) {
        let waiter = self.rounds.lock().waiter_of(&(channel.clone(), consumer.clone()));
        if let Some(waiter) = waiter {
            // Whoever acknowledged is told of the failure.
            _ = waiter.wait().await;
        }
    }
}

/// What a stored position means in a channel as it stands now, of which so much behind it has expired. Unread is what is still there:
/// what was given up cannot be read, nor what has expired.
fn held_of(known: Option<(&Standing, u64)>, stored: Option<StoredPosition>) -> Held {
    let Some((standing, expired)) = known else {
        return Held { offset: 0, unread: 0 };
    };
    let offset = offset_in(standing, stored);
    let first = standing.first_offset.max(offset + 1);
    Held { offset, unread: standing.next_offset.saturating_sub(first).saturating_sub(expired) }
}

/// The offset of a stored position in the history that there is now.
fn offset_in(standing: &Standing, stored: Option<StoredPosition>) -> u64 {
    stored.filter(|stored| stored.epoch == standing.epoch).map_or(0, |stored| stored.offset)
}
