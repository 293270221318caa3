//! The front of the fan-out: which workers need a publication, and when publishers must wait.
//!
//! Invariants:
//! - Every worker gets its publications in the broker's order.
//! - A channel counts as wanted by a worker before the subscription is queued there, and until after it is removed: a
//!   publication that follows a client's join in time is never missed.

use super::demand::Demand;
use super::encoded::{Encoded, FrameEncoder};
use super::job::{Done, Job, Join};
use super::worker::Worker;
use crate::broker::{PublicationSink, Top};
use crate::limits::{CATCH_UP_READERS, FANOUT_WAITING_BYTES_MAX, FANOUT_WAITING_FRACTION, share};
use crate::model::{ChannelName, ConnectionId, Publication};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Hands publications to the workers that have subscribers for them.
pub struct Fanout {
    encoder: Arc<dyn FrameEncoder>,
    workers: Vec<mpsc::UnboundedSender<Job>>,
    demand: Arc<Demand>,
}

impl Fanout {
    /// A fan-out, and its workers, which have to be run, each on its core. They end when the fan-out is dropped.
    pub fn new(workers: usize, encoder: Arc<dyn FrameEncoder>) -> (Self, Vec<Worker>) {
        let workers = workers.max(1);
        let demand = Arc::new(Demand::new(workers));
        let readers = Arc::new(Semaphore::new(CATCH_UP_READERS));
        let (senders, workers) = (0..workers)
            .map(|index| {
                let (sender, jobs) = mpsc::unbounded_channel();
                let (demand, encoder, readers) = (demand.clone(), encoder.clone(), readers.clone());
                let worker = Worker::new(index, jobs, sender.downgrade(), demand, encoder, readers);
                (sender, worker)
            })
            .unzip();
        (Self { encoder, workers: senders, demand }, workers)
    }

    /// Says where clients stand before anything is delivered.
    pub fn begin(&self, top: Top) {
        self.demand.begin(top.cursor);
    }

    /// Lets so much wait for the workers as befits a node that may use so many bytes of memory.
    pub fn set_memory(&self, memory: u64) {
        let bytes = share(FANOUT_WAITING_BYTES_MAX, memory, FANOUT_WAITING_FRACTION);
        self.demand.set_waiting_bytes_max(bytes);
    }

    /// Lets connections hold so much as befits a node where so many bytes may wait for all clients.
    pub fn set_clients_bytes_max(&self, bytes: usize) {
        self.demand.share_held_bytes(bytes);
    }

    /// Whether the workers keep up.
    pub fn has_room(&self) -> bool {
        self.demand.has_room()
    }

    /// Waits while too much waits for the workers: publishers slow down before memory fills.
    pub async fn room(&self) {
        self.demand.room().await;
    }

    /// Puts a connection into channels. The answer goes to the connection itself.
    pub fn join(&self, join: Join) -> Done {
        let (done, is_done) = oneshot::channel();
        let worker = self.worker_of(join.subscriber.id());
        for (channel, _) in &join.channels {
            self.demand.want(channel, worker);
        }
        self.send(worker, Job::Join(join, done));
        is_done
    }

    /// Ends all subscriptions of a connection. When it is done, no publication reaches the connection any more.
    pub fn disconnect(&self, connection: ConnectionId) -> Done {
        let (done, is_done) = oneshot::channel();
        self.send(self.worker_of(connection), Job::Disconnect(connection, done));
        is_done
    }

    /// Ends one subscription of a connection. When it is done, no publication of the channel reaches the connection any more.
    pub fn leave(&self, connection: ConnectionId, channel: &ChannelName) -> Done {
        let (done, is_done) = oneshot::channel();
        self.send(self.worker_of(connection), Job::Leave(connection, channel.clone(), done));
        is_done
    }

    /// Nothing waits for a connection any more; it had been asked to say so.
    pub fn drained(&self, connection: ConnectionId) {
        self.send(self.worker_of(connection), Job::Drained(connection));
    }

    /// Ends all connections in a channel, and says how many there were.
    pub async fn revoke(&self, channel: &ChannelName) -> usize {
        let mut count = 0;
        for worker in 0..self.workers.len() {
            let (done, is_done) = oneshot::channel();
            self.send(worker, Job::Revoke(channel.clone(), done));
            count += is_done.await.unwrap_or(0);
        }
        count
    }

    /// Channels that somebody on this node is in.
    pub fn channels(&self) -> usize {
        self.demand.channels()
    }

    /// Connections of this node that are in a channel.
    pub fn subscribers(&self, channel: &ChannelName) -> usize {
        self.demand.subscribers(channel)
    }

    fn worker_of(&self, connection: ConnectionId) -> usize {
        connection.core() % self.workers.len()
    }

    fn send(&self, worker: usize, job: Job) {
        // Only fails when the runtime has dropped the worker, at the very end of the process.
        _ = self.workers[worker].send(job);
    }
}

impl PublicationSink for Fanout {
    fn deliver(&self, publication: Publication) {
        let channel = publication.channel.clone();
        let stands = publication.kept.map(|kept| kept.cursor);
        let mut publication = Some(publication);
        let mut encoded: Option<Arc<Encoded>> = None;
        self.demand.for_each_worker(&channel, stands, |worker, stands| {
            let encoded = encoded.get_or_insert_with(|| {
                let publication = publication.take().expect("it is encoded once");
                Arc::new(Encoded::new(publication, stands, self.encoder.clone()))
            });
            self.demand.queued(encoded.cost());
            self.send(worker, Job::Publish(encoded.clone()));
        });
    }
}
