//! The product's own log, through its public interface: its writer thread, its index and its answers are part of the price.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use channelapi_core::broker::{EmbeddedBroker, HistoryQuery, PublicationSink, PublishRequest, StoreSettings};
use channelapi_core::clock::Clock;
use channelapi_core::model::{ChannelName, Durability, EventName, Policies, Policy, Publication, Retention};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::Store;
use crate::job::{self, Job};

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    /// As many as a batch has records; each waits for its own. This is how the server uses the log.
    Many,
    /// One, which hands over whole batches.
    One,
}

pub(crate) struct Log {
    broker: Arc<EmbeddedBroker>,
    runtime: Runtime,
    job: Arc<Job>,
    names: Arc<Vec<ChannelName>>,
    callers: Callers,
}

/// Nobody listens: delivering is not what is measured.
struct Silence;

impl PublicationSink for Silence {
    fn deliver(&self, _publication: Publication) {}
}

impl Log {
    pub(crate) fn open(folder: &Path, callers: Callers) -> Result<Self> {
        // The server's defaults.
        let retention = Retention { messages: 1000, age: 24 * 60 * 60 * 1000, bytes: 4 << 20 };
        let policy = Policy { durability: Durability::Fsync, retention, replay_on_join: 0 };
        let policies = Policies::new(Vec::new(), policy);
        let (sink, clock) = (Arc::new(Silence), Clock::system());
        let broker = EmbeddedBroker::open(folder, sink, clock, policies, StoreSettings::default())?;
        let names = (0..job::CHANNELS).map(|channel| Ok(ChannelName::parse(&job::name(channel))?));
        Ok(Self {
            broker: Arc::new(broker),
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            job: Arc::new(Job::new()),
            names: Arc::new(names.collect::<Result<_>>()?),
            callers,
        })
    }

    fn append_as_many(&self, callers: usize, numbers: Range<u64>, until: Instant) -> Result<u64> {
        let next = Arc::new(AtomicU64::new(numbers.start));
        let stored = Arc::new(AtomicU64::new(0));
        self.runtime.block_on(async {
            let mut lanes = JoinSet::new();
            for _ in 0..callers {
                let (broker, next, stored) = (self.broker.clone(), next.clone(), stored.clone());
                let (job, names, end) = (self.job.clone(), self.names.clone(), numbers.end);
                lanes.spawn(async move {
                    while Instant::now() < until {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= end {
                            break;
                        }
                        broker.publish(request(&names, job.data(number), number)).await?;
                        stored.fetch_add(1, Ordering::Relaxed);
                    }
                    anyhow::Ok(())
                });
            }
            while let Some(lane) = lanes.join_next().await {
                lane??;
            }
            anyhow::Ok(())
        })?;
        Ok(stored.load(Ordering::Relaxed))
    }

    fn append_as_one(&self, batch: usize, numbers: Range<u64>, until: Instant) -> Result<u64> {
        let mut next = numbers.start;
        while next < numbers.end && Instant::now() < until {
            let end = numbers.end.min(next + batch as u64);
            let requests =
                (next..end).map(|number| request(&self.names, self.job.data(number), number)).collect();
            for result in self.runtime.block_on(self.broker.publish_all(requests)) {
                result?;
            }
            next = end;
        }
        Ok(next - numbers.start)
    }
}

impl Store for Log {
    fn append(&mut self, batch: usize, numbers: Range<u64>, until: Instant) -> Result<u64> {
        match self.callers {
            Callers::Many => self.append_as_many(batch, numbers, until),
            Callers::One => self.append_as_one(batch, numbers, until),
        }
    }

    fn newest(&mut self, channel: u32) -> Result<Vec<u8>> {
        let query = HistoryQuery { after: 0, before: u64::MAX, limit: 1, is_reverse: true };
        let page = self.broker.history(&self.names[channel as usize], query)?;
        Ok(page.publications.first().context("the channel is empty")?.data.to_vec())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.broker.size().1 as u64)
    }
}

fn request(names: &[ChannelName], data: &Bytes, number: u64) -> PublishRequest {
    PublishRequest {
        channel: names[Job::channel(number) as usize].clone(),
        event: EventName::default(),
        data: data.clone(),
        expires_at: 0,
        idempotency_key: None,
    }
}
