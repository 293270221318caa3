//! Consumers of a broker and a data directory: how far they are, what a restart keeps, what waits for what.

use super::*;
use crate::broker::{CursorKey, Gap, HistoryQuery, PublicationSink, PublishRequest, Start, StoreSettings};
use crate::limits::ACKS_WAITING_MAX;
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
    let (log, cursors) = (folder.join("log"), CursorKey::from_secret(&[1; 32]));
    let broker = EmbeddedBroker::open(&log, Arc::new(Nobody), clock.clone(), policies, settings, cursors);
    let consumers = Consumers::new(state, Arc::new(broker.unwrap()), clock.clone());
    House { consumers: Arc::new(consumers), clock, _directory: directory }
}

impl House {
    async fn publish(&self, count: usize) {
        self.publish_until(count, 0).await;
    }

    /// Publishes one, and returns its id.
    async fn publish_one(&self) -> Position {
        let request = PublishRequest {
            channel: channel(),
            event: EventName::default(),
            data: "1".into(),
            expires_at: 0,
            idempotency_key: None,
        };
        self.consumers.broker.publish(request).await.unwrap().position
    }

    async fn publish_until(&self, count: usize, expires_at: u64) {
        for _ in 0..count {
            let request = PublishRequest {
                channel: channel(),
                event: EventName::default(),
                data: "1".into(),
                expires_at,
                idempotency_key: None,
            };
            self.consumers.broker.publish(request).await.unwrap();
        }
    }

    /// An ack that waits for a flush.
    async fn start_ack(&self, name: &str, offset: u64) -> tokio::task::JoinHandle<Result<Held, AckError>> {
        self.start_ack_of(name, Mark::Offset(offset)).await
    }

    async fn start_ack_of(&self, name: &str, mark: Mark) -> tokio::task::JoinHandle<Result<Held, AckError>> {
        let (consumers, name) = (self.consumers.clone(), consumer(name));
        let ack = tokio::spawn(async move { consumers.ack(&channel(), &name, mark).await });
        // On one thread, this lets it run until it waits.
        tokio::task::yield_now().await;
        ack
    }

    async fn ack(&self, name: &str, offset: u64) -> Result<Held, AckError> {
        self.ack_of(name, Mark::Offset(offset)).await
    }

    async fn ack_of(&self, name: &str, mark: Mark) -> Result<Held, AckError> {
        let ack = self.start_ack_of(name, mark).await;
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

/// It was counted as unread for as long as it was kept, and whoever asked for what is unread got nothing.
#[tokio::test]
async fn what_nobody_gets_any_more_is_not_unread() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Durability::Fsync);
    house.publish_until(3, house.clock.unix_millis() + 1_000).await;
    assert_eq!(house.position("x").await, (0, 3));
    assert_eq!(house.ack("y", 1).await.unwrap(), Held { offset: 1, unread: 2 });
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(house.position("x").await, (0, 0));
    house.publish(1).await;
    assert_eq!(house.position("x").await, (0, 1), "two of three that are kept have expired");
    let list = house.consumers.list(&channel()).await.unwrap();
    assert_eq!(list[0].held, Held { offset: 1, unread: 1 });
    assert_eq!(house.ack("y", 3).await.unwrap(), Held { offset: 3, unread: 1 });
    assert_eq!(house.ack("y", 4).await.unwrap(), Held { offset: 4, unread: 0 });
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

/// Nobody knows what was kept in memory in between: a new epoch takes over what is here.
#[tokio::test]
async fn a_consumer_of_a_channel_that_was_in_doubt_is_told_until_it_is_behind_that() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Durability::Fsync);
    house.publish(3).await;
    house.ack("early", 2).await.unwrap();
    drop(house);
    drop(open(folder.path(), Durability::Memory));
    let house = open(folder.path(), Durability::Fsync);
    house.publish(1).await;
    house.ack("late", 3).await.unwrap();
    house.ack("behind", 4).await.unwrap();
    let check = async |house: &House| {
        for (name, held, told) in [("early", (0, 3), true), ("late", (3, 1), true), ("behind", (4, 0), false)]
        {
            assert_eq!(house.position(name).await, held, "{name}");
            let since = house.consumers.unread_since(&channel(), &consumer(name)).await.unwrap();
            let Start { after, gap } = house.consumers.broker.locate(&channel(), since);
            assert_eq!(gap, told.then_some(Gap::Epoch), "{name}");
            let query = HistoryQuery { after, before: u64::MAX, limit: 10, is_reverse: false };
            let page = house.consumers.broker.history(&channel(), query).unwrap();
            assert_eq!(page.publications.len() as u64, held.1, "{name}");
        }
    };
    check(&house).await;
    drop(house);
    check(&open(folder.path(), Durability::Fsync)).await;
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
    assert_eq!(house.consumers.rounds.lock().gathering(), 1001, "a row for each consumer");
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

/// Once, an ack could only name an offset, and one that arrived after a purge confirmed what nobody had seen.
#[tokio::test]
async fn an_id_confirms_its_own_history_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Durability::Fsync);
    let first = house.publish_one().await;
    let second = house.publish_one().await;
    assert_eq!(house.ack_of("x", Mark::Id(first)).await.unwrap(), Held { offset: 1, unread: 1 });
    assert_eq!(house.ack_of("x", Mark::Id(second)).await.unwrap(), Held { offset: 2, unread: 0 });
    assert_eq!(house.ack_of("x", Mark::Id(first)).await.unwrap().offset, 2, "nobody goes back");
    let never = |offset, tag| Mark::Id(Position { epoch: first.epoch, offset, tag });
    assert!(matches!(house.ack_of("y", never(2, !second.tag)).await, Err(AckError::Diverged)));
    let ahead = house.ack_of("y", never(3, 0)).await;
    assert!(matches!(ahead, Err(AckError::Ahead { offset: 3, newest: 2 })));
    // Three are kept, and what is gone can still be confirmed.
    house.publish(3).await;
    assert_eq!(house.ack_of("y", Mark::Id(first)).await.unwrap(), Held { offset: 1, unread: 3 });

    house.consumers.broker.purge(&channel()).await.unwrap();
    let others = [house.publish_one().await, house.publish_one().await];
    for id in [first, second] {
        assert!(matches!(house.ack_of("x", Mark::Id(id)).await, Err(AckError::Epoch)));
    }
    assert_eq!((house.position("x").await, house.position("y").await), ((0, 2), (0, 2)));
    assert_eq!(house.ack_of("x", Mark::Id(others[0])).await.unwrap(), Held { offset: 1, unread: 1 });
    let unknown = ChannelName::parse("never used").unwrap();
    let refused = house.consumers.ack(&unknown, &consumer("x"), Mark::Id(first)).await;
    assert!(matches!(refused, Err(AckError::Epoch)));
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
        let ack = house.consumers.ack(&place, &name, Mark::Offset(offset));
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
        assert!(house.consumers.rounds.lock().add(ack).place.is_some());
    }
    let ack = house.start_ack("x", 2).await;
    house.consumers.flush().await;
    assert!(!ack.is_finished());
    tokio::time::timeout(Duration::from_mins(1), async {
        while house.consumers.rounds.lock().gathering() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    house.consumers.flush().await;
    assert_eq!(ack.await.unwrap().unwrap().offset, 2);
}

/// Once, whoever confirmed while the machine's clock went from long ago to now was forgotten soon after the next start.
#[tokio::test]
async fn a_clock_that_was_set_forward_makes_nobody_idle() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Durability::Fsync);
    house.publish(1).await;
    let now = house.clock.unix_millis() + 2 * millis_of(CONSUMER_IDLE_MAX);
    house.clock.set_machine(now);
    house.ack("c", 1).await.unwrap();
    let list = house.consumers.list(&channel()).await.unwrap();
    assert_eq!(list.iter().map(|consumer| consumer.acked_at).collect::<Vec<_>>(), [now]);
}

/// Once, whoever confirmed while the machine's clock was ahead was never forgotten.
#[tokio::test]
async fn a_clock_that_was_ahead_makes_nobody_stay_for_longer() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Durability::Fsync);
    house.publish(1).await;
    let acked_at = async |house: &House| {
        let list = house.consumers.list(&channel()).await.unwrap();
        list.iter().map(|consumer| consumer.acked_at).collect::<Vec<_>>()
    };
    house.clock.set_machine(house.clock.unix_millis() + 10 * millis_of(CONSUMER_IDLE_MAX));
    house.ack("quiet", 1).await.unwrap();
    house.ack("says it again", 1).await.unwrap();
    let now = house.clock.unix_millis();
    house.clock.set_machine(now);
    house.ack("says it again", 1).await.unwrap();
    assert_eq!(acked_at(&house).await[1], now);
    house.consumers.prune().await;
    assert_eq!(acked_at(&house).await, [now; 2]);
    house.clock.advance(CONSUMER_IDLE_MAX);
    house.consumers.prune().await;
    assert_eq!(acked_at(&house).await, [now; 2]);
    house.clock.advance(Duration::from_millis(1));
    house.consumers.prune().await;
    assert_eq!(acked_at(&house).await, []);
}
