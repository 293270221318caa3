//! A backend under load: publishes with a given number of requests in flight, or at a fixed rate, and waits for every receipt.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::process::Server;
use crate::publisher::Publisher;
use crate::receipts::{self, Receipts};

/// Size of a publication's data, unless another is asked for.
pub(crate) const DATA_BYTES: usize = 200;

/// How many publications are in flight when they overlap.
pub(crate) const OVERLAPPING: usize = 8;

/// Longest wait for one publication to reach everybody.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Timers are that coarse: a publication counts as late only if it is later.
pub(crate) const TIMER_TICK: Duration = Duration::from_millis(2);

/// Where a publication goes and which connections must receive it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) channel: Arc<str>,
    pub(crate) subscribers: Range<usize>,
}

/// Connections of a backend, made once and kept.
pub(crate) struct Backend {
    publishers: Vec<Publisher>,
    receipts: Arc<Receipts>,
    published: u64,
    style: Style,
}

/// What is published, and how.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub(crate) data_bytes: usize,
    /// Over `/v1`, to be stored nowhere; only channelapi knows it.
    pub(crate) is_volatile: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { data_bytes: DATA_BYTES, is_volatile: false }
    }
}

impl Backend {
    /// With as many connections as [`OVERLAPPING`] publications need.
    pub(crate) async fn connect(server: &Server, receipts: &Arc<Receipts>) -> Result<Self> {
        Self::with(server, receipts, OVERLAPPING, Style::default()).await
    }

    pub(crate) async fn with(
        server: &Server,
        receipts: &Arc<Receipts>,
        connections: usize,
        style: Style,
    ) -> Result<Self> {
        let mut publishers = Vec::new();
        for _ in 0..connections {
            publishers.push(server.publisher().await?);
        }
        Ok(Self { publishers, receipts: receipts.clone(), published: 0, style })
    }

    /// The token that opens the channel.
    pub(crate) async fn token(&mut self, channel: &str) -> Result<String> {
        self.publishers[0].token(channel).await
    }

    /// Goes on counting publications where another backend of the same receipts ended.
    pub(crate) fn continue_from(&mut self, other: &Self) {
        self.published = other.published;
    }

    /// Publishes once to every target. A request is followed by the next when it is answered *and* received by all,
    /// so there are never more than `in_flight` on their way, nor more than there are connections.
    pub(crate) async fn publish(&mut self, in_flight: usize, targets: Vec<Target>) -> Result<()> {
        self.run(in_flight, None, targets).await
    }

    /// Publishes once to every target, so many in a second, whether or not those before have been received.
    pub(crate) async fn publish_paced(&mut self, rate: f64, targets: Vec<Target>) -> Result<()> {
        self.run(self.publishers.len(), Some(rate), targets).await
    }

    async fn run(&mut self, in_flight: usize, rate: Option<f64>, targets: Vec<Target>) -> Result<()> {
        let (start, first, style) = (Instant::now(), self.published, self.style);
        self.published += targets.len() as u64;
        let due =
            (0_u32..).map(move |index| rate.map(|rate| start + Duration::from_secs(1).div_f64(rate) * index));
        let jobs = Arc::new(Mutex::new((first..).zip(targets).zip(due)));
        let mut lanes = JoinSet::new();
        for mut publisher in self.publishers.drain(..in_flight.min(self.publishers.len())) {
            let (jobs, receipts) = (jobs.clone(), self.receipts.clone());
            lanes.spawn(async move {
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(((number, target), due)) = job else { return anyhow::Ok(publisher) };
                    let since = match due {
                        Some(due) => waited_until(due).await,
                        None => Instant::now(),
                    };
                    let complete = receipts.expect(since, number, style.data_bytes, target.subscribers.clone());
                    let data = receipts::data(number, style.data_bytes);
                    if style.is_volatile {
                        publisher.publish_volatile(&target.channel, &data).await?;
                    } else {
                        publisher.publish(&target.channel, &data).await?;
                    }
                    match timeout(DELIVERY_TIMEOUT, complete).await {
                        Ok(received) => received.context("the receipts are gone")?,
                        Err(_) => bail!(
                            "{} of {} connections did not receive publication {number} within {DELIVERY_TIMEOUT:?}",
                            receipts.missing(number),
                            target.subscribers.len()
                        ),
                    }
                }
            });
        }
        while let Some(lane) = lanes.join_next().await {
            self.publishers.push(lane??);
        }
        self.receipts.check()
    }
}

/// Waits until something is due. Returns when its clock starts: now, or, if nobody was free for it in time, when it was due.
pub(crate) async fn waited_until(due: Instant) -> Instant {
    sleep_until(due.into()).await;
    let now = Instant::now();
    if now > due + TIMER_TICK { due } else { now }
}
