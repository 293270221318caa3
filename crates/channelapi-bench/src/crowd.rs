//! Many clients at once: they join a few at a time, then stay until the crowd is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::Door;
use crate::receipts::Receipts;
use crate::visitor::Visitor;

/// How many handshakes are under way at a time: enough to keep a server busy, too few to overflow its backlog.
const JOINING_MAX: usize = 64;

/// Longest wait for one connection; loopback needs milliseconds.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What comes twice comes soon: so long is waited for it in the end.
const TOO_MUCH: Duration = Duration::from_millis(200);

/// Clients that have joined. Dropping it closes them all.
pub(crate) struct Crowd {
    clients: JoinSet<()>,
    lost: Arc<AtomicUsize>,
    pings: Arc<AtomicUsize>,
    /// What the server announced.
    pub(crate) ping_interval: Duration,
}

impl Crowd {
    /// One client per door, with numbers from 0 on; returns when all have joined, or with the first failure.
    pub(crate) async fn gather(
        address: SocketAddr,
        doors: Vec<Door>,
        receipts: &Arc<Receipts>,
    ) -> Result<Self> {
        Self::gather_from(0, address, doors, receipts).await
    }

    /// The same with numbers from `first` on: where there are several crowds, receipts tell their clients apart.
    pub(crate) async fn gather_from(
        first: usize,
        address: SocketAddr,
        doors: Vec<Door>,
        receipts: &Arc<Receipts>,
    ) -> Result<Self> {
        let count = doors.len();
        let joining = Arc::new(Semaphore::new(JOINING_MAX));
        let (report, mut reports) = mpsc::channel(JOINING_MAX);
        let mut crowd = Self {
            clients: JoinSet::new(),
            lost: Arc::default(),
            pings: Arc::default(),
            ping_interval: Duration::ZERO,
        };
        for (index, door) in (first..).zip(doors) {
            let (joining, report) = (joining.clone(), report.clone());
            let (receipts, lost, pings) = (receipts.clone(), crowd.lost.clone(), crowd.pings.clone());
            crowd.clients.spawn(async move {
                let Ok(turn) = joining.acquire_owned().await else { return };
                let joined = timeout(JOIN_TIMEOUT, Visitor::join(address, &door)).await;
                let mut client = match joined.context("timed out").flatten() {
                    Ok(client) => client,
                    // A report that nobody reads: another client has failed before.
                    Err(error) => return drop(report.send(Err(error)).await),
                };
                drop(turn);
                client.count_pings(pings);
                let _ = report.send(Ok(client.ping_interval())).await;
                drop(report);
                let _ended = client.receive(|packet| receipts.received(index, packet)).await;
                lost.fetch_add(1, Ordering::Relaxed);
            });
        }
        drop(report);
        for joined in 0..count {
            let report = reports.recv().await.context("a client vanished while joining")?;
            crowd.ping_interval =
                report.with_context(|| format!("client {} of {count} could not join", joined + 1))?;
        }
        Ok(crowd)
    }

    /// How many pings all of them have had since they joined.
    pub(crate) fn pings(&self) -> usize {
        self.pings.load(Ordering::Relaxed)
    }

    /// The end of a measurement: fails if a connection was lost, or if something comes that is too much.
    pub(crate) async fn finish(&self, receipts: &Receipts) -> Result<()> {
        sleep(TOO_MUCH).await;
        receipts.check()?;
        self.check()
    }

    /// Fails if a connection was lost since it joined.
    pub(crate) fn check(&self) -> Result<()> {
        match self.lost.load(Ordering::Relaxed) {
            0 => Ok(()),
            lost => bail!("the server closed {lost} connections that should have stayed"),
        }
    }
}
