//! Consumers: how far each reader of a channel has come, by its own word.
//!
//! Acks gather in memory, the furthest of each consumer, and are written together: a round. So thousands of clients that
//! acknowledge at once cost one write, and one that does so in a loop costs one row.
//!
//! Invariants:
//! - An ack is answered after it is on disk.
//! - In one epoch of a channel nobody goes back. A position of another epoch means nothing, and the next ack replaces it.

use crate::broker::{EmbeddedBroker, Standing};
use crate::clock::{Clock, millis_of};
use crate::limits::{
    ACK_INTERVAL, ACKS_WAITING_MAX, CONSUMER_IDLE_MAX, CONSUMER_PRUNE_INTERVAL, CONSUMERS_PER_CHANNEL_MAX,
};
use crate::model::{ChannelName, ConsumerName};
use crate::state::{Ack, StateError, StateStore, StoredPosition};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
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
    /// Later publications that are kept.
    pub unread: u64,
}

/// A consumer as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: ConsumerName,
    /// Where it stands.
    pub held: Held,
    /// When it got there, in milliseconds since 1970.
    pub acked_at: u64,
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
    /// The channel has too many consumers.
    #[error(
        "the channel has {CONSUMERS_PER_CHANNEL_MAX} consumers, which is the limit: use the name of one of them, or remove one"
    )]
    TooManyConsumers,
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Whose progress it is.
type Key = (ChannelName, ConsumerName);

/// What became of a round: where each of its consumers stands now, or why nothing was written.
type Outcome = Arc<Result<Vec<Option<StoredPosition>>, String>>;

/// Acks that are written together.
struct Round {
    acks: Vec<Ack>,
    /// Where a consumer's ack is among them.
    places: HashMap<Key, usize>,
    outcome: watch::Sender<Option<Outcome>>,
}

#[derive(Default)]
struct Rounds {
    gathering: Round,
    /// The round before, while it is being written.
    writing: Option<Round>,
}

/// The end of a round that somebody waits for.
struct Waiter {
    outcome: watch::Receiver<Option<Outcome>>,
    /// Its ack, unless the round was full.
    place: Option<usize>,
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

    /// A consumer has everything up to an offset. Answers where it stands now, which may be further; by then it is on disk.
    pub async fn ack(
        &self,
        channel: &ChannelName,
        consumer: &ConsumerName,
        offset: u64,
    ) -> Result<Held, AckError> {
        loop {
            let Some(waiter) = self.gather(channel, consumer, offset)? else {
                return Ok(Held { offset: 0, unread: 0 });
            };
            self.arrived.notify_one();
            let outcome = waiter.wait().await?;
            if let Some(place) = waiter.place {
                let positions = outcome.as_ref().as_ref();
                let positions = positions.map_err(|text| StateError::Failed(text.clone()))?;
                let held = positions[place].ok_or(AckError::TooManyConsumers)?;
                return Ok(held_of(self.broker.standing(channel), Some(held)));
            }
        }
    }

    /// Where a consumer stands. One that nobody knows has everything before it.
    pub async fn position(&self, channel: &ChannelName, consumer: &ConsumerName) -> Result<Held, StateError> {
        self.settle(channel, consumer).await;
        let stored = self.state.position(channel.clone(), consumer.clone()).await?;
        Ok(held_of(self.broker.standing(channel), stored))
    }

    /// The consumers of a channel, by name.
    pub async fn list(&self, channel: &ChannelName) -> Result<Vec<Consumer>, StateError> {
        let positions = self.state.positions(channel.clone()).await?;
        let standing = self.broker.standing(channel);
        let consumer = |(name, stored): (ConsumerName, StoredPosition)| Consumer {
            name,
            held: held_of(standing, Some(stored)),
            acked_at: stored.acked_at,
        };
        Ok(positions.into_iter().map(consumer).collect())
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
                let before = self.clock.unix_millis().saturating_sub(millis_of(CONSUMER_IDLE_MAX));
                if let Err(error) = self.state.prune_consumers(before).await {
                    error!(%error, "idle consumers could not be removed");
                }
            }
            tokio::time::sleep(ACK_INTERVAL).await;
        }
    }

    /// Writes the acks that wait, and answers them.
    pub async fn flush(&self) {
        let _one_at_a_time = self.writing.lock().await;
        let acks = {
            let mut rounds = self.rounds.lock();
            let mut round = std::mem::take(&mut rounds.gathering);
            let acks = std::mem::take(&mut round.acks);
            rounds.writing = Some(round);
            acks
        };
        let count = acks.len();
        let written = if count == 0 { Ok(Vec::new()) } else { self.state.acknowledge(acks).await };
        if let Err(error) = &written {
            error!(%error, count, "acks could not be written");
        }
        let round = self.rounds.lock().writing.take().expect("only one round is written at a time");
        round.outcome.send_replace(Some(Arc::new(written.map_err(|error| error.to_string()))));
    }

    /// Adds an ack to the round that gathers. `None` if there is nothing to store: nothing was ever published.
    fn gather(
        &self,
        channel: &ChannelName,
        consumer: &ConsumerName,
        offset: u64,
    ) -> Result<Option<Waiter>, AckError> {
        let mut rounds = self.rounds.lock();
        // Asked under the lock, so that acks are in the order of the epochs they are for.
        let standing = self.broker.standing(channel);
        let newest = standing.map_or(0, |standing| standing.next_offset - 1);
        if offset > newest {
            return Err(AckError::Ahead { offset, newest });
        }
        Ok(standing.map(|Standing { epoch, .. }| {
            let position = StoredPosition { epoch, offset, acked_at: self.clock.unix_millis() };
            rounds.gathering.add(Ack { channel: channel.clone(), consumer: consumer.clone(), position })
        }))
    }

    /// Waits until what a consumer acknowledged so far is on disk, or could not be written.
    async fn settle(&self, channel: &ChannelName, consumer: &ConsumerName) {
        let key = (channel.clone(), consumer.clone());
        let waiter = {
            let rounds = self.rounds.lock();
            let mut rounds = [Some(&rounds.gathering), rounds.writing.as_ref()].into_iter().flatten();
            rounds.find_map(|round| round.places.get(&key).map(|place| round.waiter(Some(*place))))
        };
        if let Some(waiter) = waiter {
            // Whoever acknowledged is told of the failure.
            _ = waiter.wait().await;
        }
    }
}

impl Default for Round {
    fn default() -> Self {
        Self { acks: Vec::new(), places: HashMap::new(), outcome: watch::Sender::new(None) }
    }
}

impl Round {
    fn add(&mut self, ack: Ack) -> Waiter {
        let is_full = self.acks.len() >= ACKS_WAITING_MAX;
        let place = match self.places.entry((ack.channel.clone(), ack.consumer.clone())) {
            Entry::Occupied(place) => {
                let place = *place.get();
                let waiting = &mut self.acks[place].position;
                if waiting.epoch != ack.position.epoch || waiting.offset < ack.position.offset {
                    *waiting = ack.position;
                }
                Some(place)
            }
            Entry::Vacant(_) if is_full => None,
            Entry::Vacant(place) => {
                place.insert(self.acks.len());
                self.acks.push(ack);
                Some(self.acks.len() - 1)
            }
        };
        self.waiter(place)
    }

    fn waiter(&self, place: Option<usize>) -> Waiter {
        Waiter { outcome: self.outcome.subscribe(), place }
    }
}

impl Waiter {
    async fn wait(&self) -> Result<Outcome, StateError> {
        let mut outcome = self.outcome.clone();
        let outcome = outcome.wait_for(Option::is_some).await;
        let stopped = || StateError::Failed("the server is stopping".into());
        outcome.ok().and_then(|outcome| outcome.clone()).ok_or_else(stopped)
    }
}

/// What a stored position means in a channel as it stands now. Unread is what is still there: what was given up cannot be read.
fn held_of(standing: Option<Standing>, stored: Option<StoredPosition>) -> Held {
    let Some(Standing { epoch, first_offset, next_offset }) = standing else {
        return Held { offset: 0, unread: 0 };
    };
    let offset = stored.filter(|stored| stored.epoch == epoch).map_or(0, |stored| stored.offset);
    Held { offset, unread: next_offset.saturating_sub(first_offset.max(offset + 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{PublicationSink, PublishRequest, StoreSettings};
    use crate::model::{Durability, EventName, Policies, Policy, Publication, Retention};
    use crate::state::DataDirectory;
    use std::path::Path;
    use std::time::Duration;

    struct Nobody;

    impl PublicationSink for Nobody {
        fn deliver(&self, _: Publication) {}
    }

    struct House {
        consumers: Arc<Consumers>,
        clock: Clock,
        _directory: DataDirectory,
    }

    /// Keeps three publications of each channel.
    fn open(folder: &Path, durability: Durability) -> House {
        let clock = Clock::manual(1_000_000);
        let directory = DataDirectory::open(folder).unwrap();
        let state = StateStore::open(&directory).unwrap();
        let retention = Retention { messages: 3, age: u64::MAX, bytes: u64::MAX };
        let policies = Policies::new(Vec::new(), Policy { durability, retention, replay_on_join: 0 });
        let settings = StoreSettings::default();
        let broker =
            EmbeddedBroker::open(&folder.join("log"), Arc::new(Nobody), clock.clone(), policies, settings);
        let consumers = Consumers::new(state, Arc::new(broker.unwrap()), clock.clone());
        House { consumers: Arc::new(consumers), clock, _directory: directory }
    }

    impl House {
        async fn publish(&self, count: usize) {
            for _ in 0..count {
                let request = PublishRequest {
                    channel: channel(),
                    event: EventName::default(),
                    data: "1".into(),
                    expires_at: 0,
                    idempotency_key: None,
                };
                self.consumers.broker.publish(request).await.unwrap();
            }
        }

        /// An ack that waits for a flush.
        async fn start_ack(
            &self,
            name: &str,
            offset: u64,
        ) -> tokio::task::JoinHandle<Result<Held, AckError>> {
            let (consumers, name) = (self.consumers.clone(), consumer(name));
            let ack = tokio::spawn(async move { consumers.ack(&channel(), &name, offset).await });
            // On one thread, this lets it run until it waits.
            tokio::task::yield_now().await;
            ack
        }

        async fn ack(&self, name: &str, offset: u64) -> Result<Held, AckError> {
            let ack = self.start_ack(name, offset).await;
            self.consumers.flush().await;
            ack.await.unwrap()
        }

        async fn position(&self, name: &str) -> (u64, u64) {
            let held = self.consumers.position(&channel(), &consumer(name)).await.unwrap();
            (held.offset, held.unread)
        }
    }

    fn channel() -> ChannelName {
        ChannelName::parse("a").unwrap()
    }

    fn consumer(name: &str) -> ConsumerName {
        ConsumerName::parse(name).unwrap()
    }

    #[tokio::test]
    async fn a_consumer_goes_forward_only_and_a_restart_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let house = open(folder.path(), Durability::Fsync);
        assert_eq!(house.position("x").await, (0, 0), "nothing was published");
        assert!(matches!(house.ack("x", 1).await, Err(AckError::Ahead { offset: 1, newest: 0 })));
        assert_eq!(house.ack("x", 0).await.unwrap(), Held { offset: 0, unread: 0 });
        house.publish(3).await;
        assert_eq!(house.position("x").await, (0, 3));
        assert_eq!(house.ack("x", 2).await.unwrap(), Held { offset: 2, unread: 1 });
        house.clock.advance(Duration::from_secs(1));
        assert_eq!(house.ack("x", 1).await.unwrap(), Held { offset: 2, unread: 1 });
        assert!(matches!(house.ack("x", 4).await, Err(AckError::Ahead { offset: 4, newest: 3 })));
        drop(house);

        let house = open(folder.path(), Durability::Fsync);
        assert_eq!(house.position("x").await, (2, 1));
        assert_eq!(house.ack("y", 3).await.unwrap(), Held { offset: 3, unread: 0 });
        let list = house.consumers.list(&channel()).await.unwrap();
        let shown: Vec<_> = list.iter().map(|consumer| (consumer.name.as_str(), consumer.acked_at)).collect();
        assert_eq!(shown, [("x", 1_000_000), ("y", 1_000_000)], "the time of the last step forward");
        assert_eq!(house.consumers.acked_by(&channel(), 2).await.unwrap(), [consumer("x"), consumer("y")]);
        assert_eq!(house.consumers.acked_by(&channel(), 3).await.unwrap(), [consumer("y")]);
    }

    #[tokio::test]
    async fn what_was_given_up_is_not_unread() {
        let folder = tempfile::tempdir().unwrap();
        let house = open(folder.path(), Durability::Fsync);
        house.publish(10).await;
        assert_eq!(house.position("x").await, (0, 3));
        assert_eq!(house.ack("x", 5).await.unwrap(), Held { offset: 5, unread: 3 });
        assert_eq!(house.ack("x", 8).await.unwrap(), Held { offset: 8, unread: 2 });
    }

    #[tokio::test]
    async fn a_position_of_another_epoch_means_nothing_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let house = open(folder.path(), Durability::Memory);
        house.publish(3).await;
        house.ack("x", 3).await.unwrap();
        drop(house);
        let house = open(folder.path(), Durability::Memory);
        house.publish(2).await;
        assert_eq!(house.position("x").await, (0, 2));
        assert_eq!(house.consumers.acked_by(&channel(), 1).await.unwrap(), []);
        assert_eq!(house.ack("x", 1).await.unwrap(), Held { offset: 1, unread: 1 });
        assert_eq!(house.position("x").await, (1, 1));
    }

    #[tokio::test]
    async fn acks_are_answered_after_one_write_for_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let house = open(folder.path(), Durability::Fsync);
        house.publish(3).await;
        let mut acks = Vec::new();
        for number in 0..1000 {
            acks.push((house.start_ack(&number.to_string(), 2).await, 2));
            acks.push((house.start_ack("busy", 1 + number % 3).await, 3));
        }
        assert_eq!(house.consumers.rounds.lock().gathering.acks.len(), 1001, "a row for each consumer");
        assert!(acks.iter().all(|(ack, _)| !ack.is_finished()));
        house.consumers.flush().await;
        for (ack, expected) in acks {
            assert_eq!(ack.await.unwrap().unwrap().offset, expected);
        }
    }

    #[tokio::test]
    async fn a_removal_and_a_question_come_after_the_ack_that_waits() {
        let folder = tempfile::tempdir().unwrap();
        let house = open(folder.path(), Durability::Fsync);
        house.publish(3).await;
        let ack = house.start_ack("x", 2).await;
        let (position, ()) = tokio::join!(house.position("x"), house.consumers.flush());
        assert_eq!(position, (2, 1));
        ack.await.unwrap().unwrap();
        let ack = house.start_ack("x", 3).await;
        let name = consumer("x");
        let place = channel();
        let (removed, ()) = tokio::join!(house.consumers.remove(&place, &name), house.consumers.flush());
        assert!(removed.unwrap());
        ack.await.unwrap().unwrap();
        assert_eq!(house.position("x").await, (0, 3));
        assert!(!house.consumers.remove(&place, &name).await.unwrap());
    }

    #[tokio::test]
    async fn acks_need_nobody_to_push_them() {
        let folder = tempfile::tempdir().unwrap();
        let house = open(folder.path(), Durability::Fsync);
        house.publish(3).await;
        let consumers = house.consumers.clone();
        let upkeep = tokio::spawn(async move { consumers.keep_up().await });
        for offset in 1..=3 {
            let (place, name) = (channel(), consumer("x"));
            let ack = house.consumers.ack(&place, &name, offset);
            let held = tokio::time::timeout(Duration::from_secs(30), ack).await.unwrap().unwrap();
            assert_eq!(held.offset, offset);
        }
        upkeep.abort();
    }

    #[tokio::test]
    async fn an_ack_that_cannot_be_written_is_not_called_so() {
        let folder = tempfile::tempdir().unwrap();
        let house = open(folder.path(), Durability::Fsync);
        house.publish(3).await;
        let saboteur = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
        saboteur.execute_batch("ALTER TABLE consumer RENAME TO gone").unwrap();
        assert!(matches!(house.ack("x", 2).await, Err(AckError::State(_))));
        saboteur.execute_batch("ALTER TABLE gone RENAME TO consumer").unwrap();
        assert_eq!(house.position("x").await, (0, 3));
        assert_eq!(house.ack("x", 2).await.unwrap().offset, 2);
    }

    #[tokio::test]
    async fn acks_of_a_full_round_wait_for_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let house = open(folder.path(), Durability::Fsync);
        house.publish(3).await;
        let epoch = house.consumers.broker.standing(&channel()).unwrap().epoch;
        for number in 0..ACKS_WAITING_MAX {
            // Spread over channels, so that none of them is full.
            let channel = ChannelName::parse(&format!("other {}", number / 1000)).unwrap();
            let position = StoredPosition { epoch, offset: 1, acked_at: 1 };
            let ack = Ack { channel, consumer: consumer(&number.to_string()), position };
            assert!(house.consumers.rounds.lock().gathering.add(ack).place.is_some());
        }
        let ack = house.start_ack("x", 2).await;
        house.consumers.flush().await;
        assert!(!ack.is_finished());
        tokio::time::timeout(Duration::from_mins(1), async {
            while house.consumers.rounds.lock().gathering.acks.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        house.consumers.flush().await;
        assert_eq!(ack.await.unwrap().unwrap().offset, 2);
    }
}
