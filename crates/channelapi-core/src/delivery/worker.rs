//! One worker: the subscriptions of its connections, and the loop that serves them.
//!
//! Publications of one channel that gathered while the worker was busy leave as one write per subscriber ("batch while busy"):
//! nothing waits for company when there is time.

use super::demand::Demand;
use super::{SharedSubscriber, Subscriptions};
use crate::limits::{FANOUT_BATCH, FANOUT_CHUNK, JOINED_BYTES_MAX};
use crate::model::{ChannelName, ConnectionId};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// A connection joins a channel.
pub struct Subscribe {
    /// The channel.
    pub channel: ChannelName,
    /// The connection.
    pub subscriber: SharedSubscriber,
    /// Frames that tell the client so. They leave when the subscription is in place and before its first publication.
    pub reply: Bytes,
}

/// Tells whoever asked for a subscription, or for its end, that it is done. Waiting for it before the next request keeps the
/// queues of the workers as short as the number of connections.
pub type Done = oneshot::Receiver<()>;

/// What a worker is asked to do, in order.
pub(super) enum Job {
    Publish { channel: ChannelName, frame: Bytes },
    Subscribe(Subscribe, oneshot::Sender<()>),
    Disconnect(ConnectionId, oneshot::Sender<()>),
}

pub(super) struct Worker {
    index: usize,
    jobs: mpsc::UnboundedReceiver<Job>,
    demand: Arc<Demand>,
    subscriptions: Subscriptions,
}

impl Worker {
    pub(super) fn new(index: usize, jobs: mpsc::UnboundedReceiver<Job>, demand: Arc<Demand>) -> Self {
        Self { index, jobs, demand, subscriptions: Subscriptions::default() }
    }

    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(FANOUT_BATCH);
        while self.jobs.recv_many(&mut batch, FANOUT_BATCH).await > 0 {
            let mut jobs = batch.drain(..).peekable();
            while let Some(job) = jobs.next() {
                match job {
                    // Whoever asked may not care to know.
                    Job::Subscribe(join, done) => {
                        self.subscribe(join);
                        _ = done.send(());
                    }
                    Job::Disconnect(connection, done) => {
                        self.disconnect(connection);
                        _ = done.send(());
                    }
                    Job::Publish { channel, frame } => {
                        let mut joined = JoinedFrames::new(frame);
                        while let Some(Job::Publish { frame, .. }) = jobs.next_if(
                            |next| matches!(next, Job::Publish { channel: c, frame } if *c == channel && joined.fits(frame)),
                        ) {
                            joined.push(&frame);
                        }
                        let frames = joined.finish();
                        self.publish(&channel, &frames).await;
                        self.demand.served(frames.len());
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, Subscribe { channel, subscriber, reply }: Subscribe) {
        // A connection that closed has queued its farewell already; added now, it would stay forever.
        if !subscriber.is_open() || !self.subscriptions.insert(&channel, subscriber.clone()) {
            self.demand.unwant(&channel, self.index);
        }
        subscriber.deliver(&reply);
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        for channel in self.subscriptions.remove(connection) {
            self.demand.unwant(&channel, self.index);
        }
    }

    async fn publish(&self, channel: &ChannelName, frames: &Bytes) {
        let mut chunks = self.subscriptions.of(channel).chunks(FANOUT_CHUNK).peekable();
        while let Some(chunk) = chunks.next() {
            for subscriber in chunk {
                subscriber.deliver(frames);
            }
            if chunks.peek().is_some() {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Frames of one channel that leave together. A single one, the usual case, is not copied.
enum JoinedFrames {
    One(Bytes),
    Several(BytesMut),
}

impl JoinedFrames {
    fn new(frame: Bytes) -> Self {
        Self::One(frame)
    }

    fn fits(&self, frame: &Bytes) -> bool {
        let length = match self {
            Self::One(first) => first.len(),
            Self::Several(joined) => joined.len(),
        };
        length + frame.len() <= JOINED_BYTES_MAX
    }

    fn push(&mut self, frame: &Bytes) {
        match self {
            Self::One(first) => {
                let mut joined =
                    BytesMut::with_capacity(JOINED_BYTES_MAX.min(4 * (first.len() + frame.len())));
                joined.extend_from_slice(first);
                joined.extend_from_slice(frame);
                *self = Self::Several(joined);
            }
            Self::Several(joined) => joined.extend_from_slice(frame),
        }
    }

    fn finish(self) -> Bytes {
        match self {
            Self::One(frame) => frame,
            Self::Several(joined) => joined.freeze(),
        }
    }
}
