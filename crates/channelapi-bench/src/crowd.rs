//! Many clients at once: they join a few at a time, then stay until the crowd is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::Door;
use crate::receipts::Receipts;
use crate::visitor::Visitor;

/// How many handshakes are under way at a time: enough to keep a server busy, too few to overflow its backlog.
const JOINING_MAX: usize = 64;

/// Longest wait for one connection; loopback needs milliseconds.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Clients that have joined. Dropping it closes them all.
pub(crate) struct Crowd {
    clients: JoinSet<()>,
    lost: Arc<AtomicUsize>,
    /// What the server announced.
    pub(crate) ping_interval: Duration,
}

impl Crowd {
    /// One client per door; returns when all have joined, or with the first failure.
    pub(crate) async fn gather(
        address: SocketAddr,
        doors: Vec<Door>,
        receipts: &Arc<Receipts>,
    ) -> Result<Self> {
        let count = doors.len();
        let joining = Arc::new(Semaphore::new(JOINING_MAX));
        let (report, mut reports) = mpsc::channel(JOINING_MAX);
        let mut crowd = Self { clients: JoinSet::new(), lost: Arc::default(), ping_interval: Duration::ZERO };
        for (index, door) in doors.into_iter().enumerate() {
            let (joining, report) = (joining.clone(), report.clone());
            let (receipts, lost) = (receipts.clone(), crowd.lost.clone());
            crowd.clients.spawn(async move {
                let Ok(turn) = joining.acquire_owned().await else { return };
                let joined = timeout(JOIN_TIMEOUT, Visitor::join(address, &door)).await;
                let client = match joined.context("timed out").flatten() {
                    Ok(client) => client,
                    // A report that nobody reads: another client has failed before.
                    Err(error) => return drop(report.send(Err(error)).await),
                };
                drop(turn);
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

    /// Fails if a connection was lost since it joined.
    pub(crate) fn check(&self) -> Result<()> {
        match self.lost.load(Ordering::Relaxed) {
            0 => Ok(()),
            lost => bail!("the server closed {lost} connections that should have stayed"),
        }
    }
}
