//! A backend under load: publishes with a given number of requests in flight and waits for every receipt.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::process::Server;
use crate::publisher::Publisher;
use crate::receipts::{self, Receipts};

/// Size of every publication's data.
pub(crate) const DATA_BYTES: usize = 200;

/// How many publications are in flight when they overlap.
pub(crate) const OVERLAPPING: usize = 8;

/// Longest wait for one publication to reach everybody.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a publication goes and how many connections must receive it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) channel: Arc<str>,
    pub(crate) subscribers: usize,
}

/// Connections of a backend, made once and kept.
pub(crate) struct Backend {
    publishers: Vec<Publisher>,
    receipts: Arc<Receipts>,
    published: u64,
}

impl Backend {
    pub(crate) async fn connect(server: &Server, receipts: &Arc<Receipts>) -> Result<Self> {
        let mut publishers = Vec::new();
        for _ in 0..OVERLAPPING {
            publishers.push(server.publisher().await?);
        }
        Ok(Self { publishers, receipts: receipts.clone(), published: 0 })
    }

    /// The token that opens the channel.
    pub(crate) async fn token(&mut self, channel: &str) -> Result<String> {
        self.publishers[0].token(channel).await
    }

    /// Publishes once to every target. A request is followed by the next when it is answered *and* received by all,
    /// so there are never more than `in_flight` (at most [`OVERLAPPING`]) on their way.
    pub(crate) async fn publish(&mut self, in_flight: usize, targets: Vec<Target>) -> Result<()> {
        let first = self.published;
        self.published += targets.len() as u64;
        let jobs = Arc::new(Mutex::new((first..).zip(targets)));
        let mut lanes = JoinSet::new();
        for mut publisher in self.publishers.drain(..in_flight.min(self.publishers.len())) {
            let (jobs, receipts) = (jobs.clone(), self.receipts.clone());
            lanes.spawn(async move {
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((number, target)) = job else { return anyhow::Ok(publisher) };
                    publish(&mut publisher, &receipts, number, &target).await?;
                }
            });
        }
        while let Some(lane) = lanes.join_next().await {
            self.publishers.push(lane??);
        }
        ensure!(self.receipts.unexpected() == 0, "{} deliveries too many", self.receipts.unexpected());
        Ok(())
    }
}

async fn publish(publisher: &mut Publisher, receipts: &Receipts, number: u64, target: &Target) -> Result<()> {
    let complete = receipts.expect(number, target.subscribers);
    publisher.publish(&target.channel, &receipts::data(number, DATA_BYTES)).await?;
    match timeout(DELIVERY_TIMEOUT, complete).await {
        Ok(received) => received.context("the receipts are gone"),
        Err(_) => bail!(
            "{} of {} connections did not receive publication {number} within {DELIVERY_TIMEOUT:?}",
            receipts.missing(number),
            target.subscribers
        ),
    }
}
