//! A publication is fanned out, and publications are put into the log.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use channelapi_core::broker::{CursorKey, EmbeddedBroker, Top};
use channelapi_core::broker::{Gap, History as _, PublicationSink, PublishRequest, StoreSettings};
use channelapi_core::clock::Clock;
use channelapi_core::delivery::{Delivery, End, Fanout, Form, FrameEncoder, From, Join, Subscriber};
use channelapi_core::model::{
    ChannelName, Checkpoint, ConnectionId, Durability, EventName, Policies, Policy, Publication, Retention,
};

/// Connections in the channel of the fan-out.
const CONNECTIONS: u64 = 1_000;

/// Takes everything.
struct Taker(ConnectionId);

impl Subscriber for Taker {
    fn id(&self) -> ConnectionId {
        self.0
    }

    fn deliver(&self, frames: &Bytes, _: usize) -> Delivery {
        black_box(frames);
        Delivery::Taken
    }

    fn is_drained(&self) -> bool {
        true
    }

    fn is_open(&self) -> bool {
        true
    }

    fn end(&self, _: End) {}
}

/// The data alone: what a frame looks like is counted elsewhere.
struct Plain;

impl FrameEncoder for Plain {
    fn publication(&self, publication: &Publication, _: Form, out: &mut Vec<u8>) {
        out.extend_from_slice(&publication.data);
    }

    fn checkpoint(&self, checkpoint: &Checkpoint, out: &mut Vec<u8>) {
        out.extend_from_slice(&checkpoint.encode());
    }

    fn gap(&self, _: &ChannelName, _: Gap, _: Form, _: &mut Vec<u8>) {}
}

/// Publications to a thousand connections, one after the other. Half of them get checkpoints.
pub(crate) async fn fan_out(times: usize) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let (fanout, workers) = Fanout::new(1, Arc::new(Plain));
    let fanout = Arc::new(fanout);
    let broker = Arc::new(broker(&folder, fanout.clone()));
    let top: Top = broker.top();
    fanout.begin(top);
    let workers: Vec<_> =
        workers.into_iter().map(|worker| tokio::spawn(worker.run(broker.clone()))).collect();
    let (channel, data) = (ChannelName::parse("everybody").expect("it is a name"), data());
    for number in 0..CONNECTIONS {
        let form = if number % 2 == 0 { Form::Plain } else { Form::Resumable };
        let join = Join {
            subscriber: Arc::new(Taker(ConnectionId(number))),
            channels: vec![(channel.clone(), From::Now)],
            form,
            is_aware: false,
            is_resumable: false,
            reply: Bytes::new(),
        };
        fanout.join(join).await.expect("the worker lives");
    }
    for _ in 0..times {
        fanout.deliver(Publication {
            channel: channel.clone(),
            event: EventName::default(),
            data: data.clone(),
            published_at: 0,
            kept: None,
        });
        // The worker's answer comes behind the publication.
        fanout.disconnect(ConnectionId(CONNECTIONS)).await.expect("the worker lives");
    }
    for worker in workers {
        worker.abort();
    }
}

/// Nobody listens.
struct Nobody;

impl PublicationSink for Nobody {
    fn deliver(&self, publication: Publication) {
        drop(publication);
    }
}

/// Publications into the log, a hundred at a time as a busy server has them, to a hundred channels in turn.
pub(crate) async fn publish(times: usize) {
    /// Of a hundred channels the same number is in each group.
    const TOGETHER: usize = 100;
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let broker = broker(&folder, Arc::new(Nobody));
    let channels: Vec<_> = (0..TOGETHER)
        .map(|number| ChannelName::parse(&format!("user-{number}")).expect("it is a name"))
        .collect();
    let data = data();
    for _ in 0..times {
        let requests = channels.iter().map(|channel| PublishRequest {
            channel: channel.clone(),
            event: EventName::default(),
            data: data.clone(),
            expires_at: 0,
            idempotency_key: None,
        });
        for published in broker.publish_all(requests.collect()).await {
            black_box(published.expect("it is stored"));
        }
    }
}

/// In memory only as far as syncing goes: how long a disk takes is no instruction of ours.
fn broker(folder: &tempfile::TempDir, sink: Arc<dyn PublicationSink>) -> EmbeddedBroker {
    let retention = Retention { messages: 1000, age: u64::MAX, bytes: u64::MAX };
    let policy = Policy { durability: Durability::Relaxed, retention, replay_on_join: 0 };
    let (policies, path) = (Policies::new(Vec::new(), policy), folder.path().join("log"));
    let cursors = CursorKey::from_secret(&[1; 32]);
    EmbeddedBroker::open(&path, sink, Clock::manual(1), policies, StoreSettings::default(), cursors)
        .expect("the log opens")
}

fn data() -> Bytes {
    Bytes::from(format!("\"{}\"", "x".repeat(198)))
}
