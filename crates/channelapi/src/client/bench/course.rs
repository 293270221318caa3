//! One run: what was asked for, how far it is, and what it has found out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::Method;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use tokio::net::lookup_host;

use super::{Bench, socket::Door, tally::Tally};
use crate::client::{
    Failed, ServerUrl, Target,
    call::{Call, Client},
    publish::random_key,
    secure::Secure,
};

/// One run. Cheap to clone for those who take part.
#[derive(Clone)]
pub(super) struct Course(Arc<Inside>);

/// See [`Course`].
pub(super) struct Inside {
    pub(super) bench: Bench,
    /// Whoever calls the API is made after it.
    pub(super) client: Client,
    pub(super) tally: Tally,
    /// Marks what this run publishes: others may publish to the same channel.
    pub(super) mark: String,
    /// What is done of the present stage.
    pub(super) done: AtomicU64,
    stage: Mutex<Stage>,
    /// When it was last said that what follows is what is measured, and the time on a processor until then.
    measured_since: Mutex<(Instant, Duration)>,
}

/// A part of a run, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) what: &'static str,
    pub(super) extent: Extent,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Nobody knows.
    Unknown,
    /// So many.
    Count(u64),
    /// As much as is possible in so much time.
    Time(Duration),
}

impl std::ops::Deref for Course {
    type Target = Inside;

    fn deref(&self) -> &Inside {
        &self.0
    }
}

impl Course {
    pub(super) fn new(bench: Bench) -> Result<Self, Failed> {
        let client = Client::new(bench.target.clone())?;
        Ok(Self(Arc::new(Inside {
            bench,
            client,
            tally: Tally::default(),
            mark: random_key()?,
            done: AtomicU64::new(0),
            stage: Mutex::new(Stage { what: "starting", extent: Extent::Unknown }),
            measured_since: Mutex::new((Instant::now(), processor_time())),
        })))
    }
}

impl Inside {
    /// A new part begins.
    pub(super) fn begin(&self, what: &'static str, extent: Extent) {
        *self.stage.lock() = Stage { what, extent };
        self.done.store(0, Ordering::Relaxed);
        *self.measured_since.lock() = (Instant::now(), processor_time());
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.lock().clone()
    }

    /// One more is done.
    pub(super) fn advance(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// How long the present stage has taken, and the share of one core that this program had in it.
    pub(super) fn effort(&self) -> (Duration, f64) {
        let (since, before) = *self.measured_since.lock();
        let elapsed = since.elapsed();
        let used = processor_time().saturating_sub(before);
        (elapsed, used.as_secs_f64() / elapsed.as_secs_f64().max(1e-3))
    }

    /// The way into the channel: its token from the API, and where its clients connect.
    pub(super) async fn door(&self, is_resumable: bool) -> Result<Door, Failed> {
        let target = &self.bench.target;
        let server = &target.clients;
        let address = address_of(server).await?;
        let call = Call {
            method: Method::POST,
            path: target.server.channel_path(&self.bench.channel, "/tokens"),
            ..Call::default()
        };
        let answer = self.client.another().ask(&call).await;
        let answer = answer.map_err(|problem| Failed(problem.explain(target)))?;
        let Token { token } = serde_json::from_slice(&answer)
            .map_err(|_| Failed(format!("{} gave no token; is it a channelapi server?", target.server)))?;
        let (host, path) = (server.authority().to_owned(), server.path("/socket.io/"));
        let target = Target { server: server.clone(), ..target.clone() };
        let secure = Secure::of(&target)?.map(Secure::for_strangers);
        Ok(Door { address, target, secure, host, path, token, is_resumable })
    }
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

async fn address_of(server: &ServerUrl) -> Result<std::net::SocketAddr, Failed> {
    let looked_up = lookup_host((server.host(), server.port())).await;
    let looked_up = looked_up.map_err(|error| Failed(format!("cannot find {server}: {error}")))?;
    let all: Vec<_> = looked_up.collect();
    // The server listens on IPv4 unless it is told otherwise.
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    first.copied().ok_or_else(|| Failed(format!("{server} has no address")))
}

/// What all threads of this process have used so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
