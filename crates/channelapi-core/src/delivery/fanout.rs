//! The front of the fan-out: which workers need a publication, and when publishers must wait.
//!
//! Invariants:
//! - Every worker gets its publications in the broker's order.
//! - A channel counts as wanted by a worker before the subscription is queued there, and until after it is removed: a
//!   publication that follows a client's join in time is never missed.

use super::FrameEncoder;
use super::demand::Demand;
use super::worker::{Done, Job, Subscribe, Worker};
use crate::broker::PublicationSink;
use crate::model::{ConnectionId, Publication};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Hands publications to the workers that have subscribers for them.
pub struct Fanout {
    encoder: Arc<dyn FrameEncoder>,
    workers: Vec<mpsc::UnboundedSender<Job>>,
    demand: Arc<Demand>,
}

impl Fanout {
    /// Starts `workers` workers. They end when the fan-out is dropped.
    pub fn start(workers: usize, encoder: Arc<dyn FrameEncoder>) -> (Self, Vec<JoinHandle<()>>) {
        let workers = workers.max(1);
        let demand = Arc::new(Demand::new(workers));
        let (senders, tasks) = (0..workers)
            .map(|index| {
                let (sender, jobs) = mpsc::unbounded_channel();
                (sender, tokio::spawn(Worker::new(index, jobs, demand.clone()).run()))
            })
            .unzip();
        (Self { encoder, workers: senders, demand }, tasks)
    }

    /// Waits while too much waits for the workers: publishers slow down before memory fills.
    pub async fn room(&self) {
        self.demand.room().await;
    }

    /// Subscribes a connection. The answer goes to the connection itself.
    pub fn subscribe(&self, join: Subscribe) -> Done {
        let (done, is_done) = oneshot::channel();
        let worker = self.worker_of(join.subscriber.id());
        self.demand.want(&join.channel, worker);
        self.send(worker, Job::Subscribe(join, done));
        is_done
    }

    /// Ends all subscriptions of a connection. When it is done, no publication reaches the connection any more.
    pub fn disconnect(&self, connection: ConnectionId) -> Done {
        let (done, is_done) = oneshot::channel();
        self.send(self.worker_of(connection), Job::Disconnect(connection, done));
        is_done
    }

    /// Subscriptions of this node, counted by channel.
    pub fn channels(&self) -> usize {
        self.demand.channels()
    }

    fn worker_of(&self, connection: ConnectionId) -> usize {
        usize::try_from(connection.0 % self.workers.len() as u64).expect("smaller than the number of workers")
    }

    fn send(&self, worker: usize, job: Job) {
        // Only fails when the runtime has dropped the worker, at the very end of the process.
        _ = self.workers[worker].send(job);
    }
}

impl PublicationSink for Fanout {
    fn deliver(&self, publication: Publication) {
        let mut frame = None;
        self.demand.for_each_worker(&publication.channel, |worker| {
            let frame = frame.get_or_insert_with(|| self.encoder.encode(&publication)).clone();
            self.demand.queued(frame.len());
            self.send(worker, Job::Publish { channel: publication.channel.clone(), frame });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Subscriber;
    use super::*;
    use crate::limits::FANOUT_WAITING_BYTES_MAX;
    use crate::model::ChannelName;
    use bytes::Bytes;
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// Remembers what it was sent.
    struct Recorder {
        id: ConnectionId,
        is_open: AtomicBool,
        received: Mutex<Vec<u8>>,
    }

    impl Recorder {
        fn new(id: u64) -> Arc<Self> {
            Arc::new(Self {
                id: ConnectionId(id),
                is_open: AtomicBool::new(true),
                received: Mutex::default(),
            })
        }

        fn text(&self) -> String {
            String::from_utf8(self.received.lock().clone()).unwrap()
        }
    }

    impl Subscriber for Recorder {
        fn id(&self) -> ConnectionId {
            self.id
        }

        fn deliver(&self, frames: &Bytes) {
            self.received.lock().extend_from_slice(frames);
        }

        fn is_open(&self) -> bool {
            self.is_open.load(Ordering::Relaxed)
        }
    }

    struct Plain;

    impl FrameEncoder for Plain {
        fn encode(&self, publication: &Publication) -> Bytes {
            publication.data.clone()
        }
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn publish(fanout: &Fanout, to: &str, data: String) {
        fanout.deliver(Publication { channel: channel(to), sequence: 0, data: data.into() });
    }

    fn join(fanout: &Fanout, subscriber: &Arc<Recorder>, to: &str) {
        let reply = Bytes::from_static(b"joined ");
        drop(fanout.subscribe(Subscribe { channel: channel(to), subscriber: subscriber.clone(), reply }));
    }

    async fn until(what: impl Fn() -> bool) {
        let waiting = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it happens in time");
    }

    #[tokio::test]
    async fn all_subscribers_see_one_order_after_their_reply() {
        let (fanout, _) = Fanout::start(3, Arc::new(Plain));
        publish(&fanout, "a", "too early ".into());
        let recorders: Vec<_> = (0..700).map(Recorder::new).collect();
        for recorder in &recorders {
            join(&fanout, recorder, "a");
            join(&fanout, recorder, "a");
        }
        let expected = (0..300).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        for number in 0..300 {
            publish(&fanout, "a", format!("{number} "));
            publish(&fanout, "b", "for nobody ".into());
        }
        let expected = format!("joined joined {expected} ");
        for recorder in &recorders {
            until(|| recorder.text().len() >= expected.len()).await;
            assert_eq!(recorder.text(), expected, "joining twice repeats the reply, never a publication");
        }
        until(|| fanout.demand.waiting_bytes() == 0).await;
    }

    #[tokio::test]
    async fn closed_connections_leave_nothing_behind() {
        let (fanout, _) = Fanout::start(2, Arc::new(Plain));
        let (stays, leaves, late) = (Recorder::new(1), Recorder::new(2), Recorder::new(3));
        for recorder in [&stays, &leaves] {
            join(&fanout, recorder, "a");
            join(&fanout, recorder, "b");
        }
        late.is_open.store(false, Ordering::Relaxed);
        drop(fanout.disconnect(late.id));
        join(&fanout, &late, "c");
        fanout.disconnect(leaves.id).await.unwrap();
        publish(&fanout, "a", "x".into());
        until(|| stays.text().ends_with('x')).await;
        assert!(!leaves.text().contains('x'));
        fanout.disconnect(stays.id).await.unwrap();
        assert_eq!(fanout.channels(), 0);
        assert_eq!((Arc::strong_count(&leaves), Arc::strong_count(&late)), (1, 1));
    }

    #[tokio::test]
    async fn publishers_wait_while_too_much_waits() {
        let (fanout, _) = Fanout::start(1, Arc::new(Plain));
        let recorder = Recorder::new(1);
        join(&fanout, &recorder, "a");
        // This test's runtime has one thread: nothing is served before it waits.
        let large = "x".repeat(FANOUT_WAITING_BYTES_MAX / 2);
        publish(&fanout, "a", large.clone());
        assert!(fanout.demand.has_room());
        publish(&fanout, "a", large);
        assert!(!fanout.demand.has_room());
        tokio::time::timeout(Duration::from_secs(10), fanout.room()).await.expect("there is room again");
        assert_eq!(recorder.text().len(), "joined ".len() + FANOUT_WAITING_BYTES_MAX / 2 * 2);
    }
}
