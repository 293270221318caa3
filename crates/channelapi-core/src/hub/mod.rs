//! The façade of a node: what its doors (the HTTP API and the gateway) may ask for.

mod backup;
mod consumers;
mod gate;
mod publishing;
mod revocations;
mod tokens;

pub use backup::{Backup, BackupError, backup};
pub use consumers::{AckError, Consumer, Consumers, Held, Mark};
pub use gate::Gate;
pub use publishing::Publishing;
pub use revocations::{RevocationError, Revocations, kept_until};
pub use tokens::{EndedToken, IssuedToken, Lookup, TokenError, Tokens};

use crate::broker::{CursorKey, EmbeddedBroker, History as _, OpenError, StoreSettings};
use crate::clock::Clock;
use crate::delivery::{Done, Fanout, FrameEncoder, Join};
use crate::model::{ChannelName, ConnectionId, Policies};
use crate::state::{DataDirectory, DataDirectoryError, StateError, StateStore, advice};
use std::sync::Arc;
use tokio::runtime::Handle;
use tracing::warn;

/// One node.
pub struct Hub {
    /// Who may join what.
    pub tokens: Arc<Tokens>,
    /// What is not good any more although it was signed well.
    pub revocations: Arc<Revocations>,
    /// How far its readers have come.
    pub consumers: Arc<Consumers>,
    /// What was published, and where clients stand in it.
    pub broker: Arc<EmbeddedBroker>,
    /// Whether it takes publications.
    pub gate: Gate,
    state: StateStore,
    fanout: Arc<Fanout>,
    clock: Clock,
}

/// Whether a node should get publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It should.
    Ready,
    /// Its disk is full, cannot be written, or has failed; or it is [`Fenced`].
    CannotStore,
}

/// Why a node keeps nothing more until its process is started again. What was accepted before is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// A sync of the log failed, or a thread of it panicked.
    #[error(
        "the disk failed, so nothing more can be stored; what was accepted before is safe: look at the disk and start again"
    )]
    Log,
    /// A thread of the state panicked.
    #[error(
        "a thread of the state panicked, so tokens, confirmations and revocations can neither be read nor written; what was accepted before is safe: start again, and report what the log says of the panic"
    )]
    State,
}

/// What a node is made of.
pub struct Settings {
    /// The runtime of each core; each gets a fan-out worker, which serves the connections of that core.
    pub cores: Vec<Handle>,
    /// What is kept of which channels.
    pub policies: Policies,
    /// How the log is kept.
    pub store: StoreSettings,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] DataDirectoryError),
    /// The state file in it.
    #[error(transparent)]
    State(#[from] StateError),
    /// The log in it.
    #[error("{path}: {error}{advice}", path = path.display(), advice = log_advice(error))]
    Log {
        /// Where it is.
        path: std::path::PathBuf,
        /// What is wrong with it.
        error: OpenError,
    },
}

/// What to do about a log that cannot be opened, if its error does not say it itself.
fn log_advice(error: &OpenError) -> String {
    if let OpenError::Io(error) = error { format!("; {}", advice(error)) } else { String::new() }
}

impl StartError {
    /// Whether another version wrote what is there. Nothing was changed, and that version can go on with it.
    pub fn is_of_another_version(&self) -> bool {
        matches!(self, Self::State(StateError::Newer { .. }) | Self::Log { error: OpenError::Format(_), .. })
    }
}

impl Hub {
    /// Starts a node on its data directory.
    pub fn start(
        directory: &DataDirectory,
        clock: Clock,
        settings: Settings,
        encoder: Arc<dyn FrameEncoder>,
    ) -> Result<Self, StartError> {
        let Settings { policies, store, cores } = settings;
        for part in directory.missing() {
            let directory = directory.path().display();
            warn!(
                "{directory} has been used, but {part} is missing, and begins anew: if that is not meant, stop the server, and restore a backup"
            );
        }
        let state = StateStore::open(directory)?;
        let secret = directory.token_secret()?;
        let tokens = Arc::new(Tokens::new(state.clone(), secret, clock.clone()));
        let (fanout, workers) = Fanout::new(cores.len(), encoder);
        let fanout = Arc::new(fanout);
        let path = directory.path().join("log");
        let cursors = CursorKey::from_secret(&secret);
        let broker = EmbeddedBroker::open(&path, fanout.clone(), clock.clone(), policies, store, cursors);
        let mut broker = broker.map_err(|error| StartError::Log { path, error })?;
        broker.keep(directory.hold());
        let broker = Arc::new(broker);
        fanout.begin(broker.top());
        let known = broker.clone();
        state.take_back_consumers(move |channel| {
            known.standing(channel).map(|standing| (standing.epoch, standing.next_offset - 1))
        })?;
        let revocations = Arc::new(Revocations::load(state.clone(), clock.clone())?);
        let consumers = Arc::new(Consumers::new(state.clone(), broker.clone(), clock.clone()));
        for (worker, core) in workers.into_iter().zip(&cores) {
            // The workers end with the runtime; nobody needs to wait for them.
            core.spawn(worker.run(broker.clone()));
        }
        Ok(Self { tokens, revocations, consumers, broker, gate: Gate::default(), state, fanout, clock })
    }

    /// Takes so much at once as befits a node that may use so many bytes of memory.
    pub fn set_memory(&self, memory: u64) {
        self.gate.set_memory(memory);
        self.fanout.set_memory(memory);
    }

    /// Lets so much be held back as befits a node where so many bytes may wait for all clients.
    pub fn set_clients_bytes_max(&self, bytes: usize) {
        self.fanout.set_clients_bytes_max(bytes);
    }

    /// Whether this node should get publications.
    pub fn readiness(&self) -> Readiness {
        let cannot_store = self.broker.is_refusing() || self.fence().is_some();
        if cannot_store { Readiness::CannotStore } else { Readiness::Ready }
    }

    /// Why nothing more is kept, if that is so. The process should end, too.
    pub fn fence(&self) -> Option<Fenced> {
        let of_state = || self.state.is_fenced().then_some(Fenced::State);
        self.broker.is_fenced().then_some(Fenced::Log).or_else(of_state)
    }

    /// Waits until there is a [`Self::fence`].
    pub async fn fenced(&self) {
        tokio::select! {
            () = self.broker.fenced() => {}
            () = self.state.fenced() => {}
        }
    }

    /// Puts a connection into channels.
    pub fn join(&self, join: Join) -> Done {
        self.fanout.join(join)
    }

    /// Takes a connection out of all its channels.
    pub fn disconnect(&self, connection: ConnectionId) -> Done {
        self.fanout.disconnect(connection)
    }

    /// Takes a connection out of one of its channels.
    pub fn leave(&self, connection: ConnectionId, channel: &ChannelName) -> Done {
        self.fanout.leave(connection, channel)
    }

    /// Nothing waits for a connection any more; it had been asked to say so.
    pub fn drained(&self, connection: ConnectionId) {
        self.fanout.drained(connection);
    }

    /// Ends all connections in a channel, and says how many there were.
    pub async fn disconnect_channel(&self, channel: &ChannelName) -> usize {
        self.fanout.revoke(channel).await
    }

    /// Channels that somebody on this node is in.
    pub fn active_channels(&self) -> usize {
        self.fanout.channels()
    }

    /// Connections of this node that are in a channel.
    pub fn subscribers(&self, channel: &ChannelName) -> usize {
        self.fanout.subscribers(channel)
    }

    /// What time it is.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Gap, PublishError, PublishRequest, Published};
    use crate::delivery::Form;
    use crate::limits::PUBLISH_ROOM_WAIT;
    use crate::model::{Checkpoint, ConsumerName, Durability, EventName, Policy, Publication, Retention};
    use crate::state::{Ack, DataDirectoryError, StoredPosition};
    use bytes::Bytes;

    #[test]
    fn a_log_that_cannot_be_read_says_what_to_do() {
        let error = OpenError::Io(std::io::ErrorKind::PermissionDenied.into());
        let told = StartError::Log { path: "d/log".into(), error }.to_string();
        assert!(told.starts_with("d/log: the log cannot be read: permission denied; give it, "), "{told}");
    }

    struct Silence;

    impl FrameEncoder for Silence {
        fn publication(&self, _: &Publication, _: Form, _: &mut Vec<u8>) {}
        fn checkpoint(&self, _: &Checkpoint, _: &mut Vec<u8>) {}
        fn gap(&self, _: &ChannelName, _: Gap, _: Form, _: &mut Vec<u8>) {}
    }

    fn start(directory: &DataDirectory) -> Hub {
        let retention = Retention { messages: 100, age: u64::MAX, bytes: u64::MAX };
        let policy = Policy { durability: Durability::Relaxed, retention, replay_on_join: 0 };
        let policies = Policies::new(Vec::new(), policy);
        let settings = Settings { cores: vec![Handle::current()], policies, store: StoreSettings::default() };
        Hub::start(directory, Clock::system(), settings, Arc::new(Silence)).unwrap()
    }

    async fn publish(hub: &Hub, channel: &ChannelName) -> Published {
        let (event, data) = (EventName::default(), Bytes::from_static(b"1"));
        let request =
            PublishRequest { channel: channel.clone(), event, data, expires_at: 0, idempotency_key: None };
        hub.publish(request).await.unwrap()
    }

    /// Workers have the log until their runtimes end, which is later than the end of whoever opened the directory: another process must
    /// not write to the log while this one still does.
    #[test]
    fn the_directory_is_in_use_until_the_log_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let core = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let hub = core.block_on(async { start(&directory) });
        drop((hub, directory));
        assert!(matches!(DataDirectory::open(folder.path()), Err(DataDirectoryError::InUse(_))));
        drop(core);
        DataDirectory::open(folder.path()).unwrap();
    }

    #[tokio::test]
    async fn a_node_whose_state_has_panicked_is_not_ready_and_says_that_it_should_end() {
        let folder = tempfile::tempdir().unwrap();
        let hub = start(&DataDirectory::open(folder.path()).unwrap());
        let channel = ChannelName::parse("a").unwrap();
        let position = StoredPosition { epoch: 1, offset: 1, acked_at: 1 };
        let ack = Ack { channel: channel.clone(), consumer: ConsumerName::default(), position };
        hub.state.acknowledge(vec![ack]).await.unwrap();
        assert_eq!((hub.readiness(), hub.fence()), (Readiness::Ready, None));
        assert!(hub.state.take_back_consumers(|_| panic!("a bug, for this test")).is_err());
        tokio::time::timeout(std::time::Duration::from_secs(30), hub.fenced()).await.expect("it is said");
        assert_eq!((hub.readiness(), hub.fence()), (Readiness::CannotStore, Some(Fenced::State)));
        assert!(hub.tokens.get_or_create(&channel).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn volatile_publications_wait_for_room_together_and_do_not_overtake_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let hub = start(&DataDirectory::open(folder.path()).unwrap());
        let publications = |names: &[&str]| -> Vec<_> {
            let of =
                |name: &&str| (ChannelName::parse(name).unwrap(), EventName::default(), Bytes::from("1"));
            names.iter().map(of).collect()
        };
        assert_eq!(hub.publish_all_volatile(publications(&["a", "b", "a"])).await, [const { Ok(()) }; 3]);

        hub.gate.set_channel_rate(1);
        let sent = hub.publish_all_volatile(publications(&["c", "c", "d", "c"])).await;
        assert_eq!(sent, [Ok(()), Err(PublishError::TooFast), Ok(()), Err(PublishError::TooFast)]);

        // Nothing may wait for the workers of a node without any memory.
        hub.set_memory(0);
        let began = tokio::time::Instant::now();
        let refused = hub.publish_all_volatile(publications(&["e", "f", "g"])).await;
        assert_eq!(refused, [const { Err(PublishError::Congested) }; 3]);
        let waited = began.elapsed();
        assert!(waited >= PUBLISH_ROOM_WAIT && waited < 2 * PUBLISH_ROOM_WAIT, "{waited:?}");
    }

    /// A consumer's position survives every power cut, what it has read need not: with relaxed durability the log may lose its
    /// end. Whoever stood there must not miss the publications that take the lost ones' offsets.
    #[tokio::test]
    async fn a_consumer_that_is_ahead_of_the_log_misses_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let (channel, consumer) = (ChannelName::parse("a").unwrap(), ConsumerName::default());
        let hub = start(&directory);
        let published = publish(&hub, &channel).await.position;
        drop(hub);
        let state = StateStore::open(&directory).unwrap();
        let position = StoredPosition { epoch: published.epoch, offset: published.offset + 2, acked_at: 1 };
        let ack = Ack { channel: channel.clone(), consumer: consumer.clone(), position };
        state.acknowledge(vec![ack]).await.unwrap();
        drop(state);

        let hub = start(&directory);
        for expected in 1..=3 {
            assert_eq!(publish(&hub, &channel).await.position.epoch, published.epoch);
            let held = hub.consumers.position(&channel, &consumer).await.unwrap();
            assert_eq!(held, Held { offset: published.offset, unread: expected });
        }
    }
}
