//! Everybody comes back at once: the server is killed under thousands of resumable clients and started again.
//!
//! Clients behave like stock ones: they wait 0.5 to 1.5 seconds before the first try, twice as long before the next, at most 5
//! seconds. What is published while they are away must reach each of them exactly once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::backend::{Backend, OVERLAPPING, Target};
use crate::client::{Client, Door, Place, checkpoint};
use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::memory;
use crate::peer::Peer;
use crate::process::{End, Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{MEBIBYTE, each, mebibytes, real};

const COLUMN: &str = "channelapi";

/// How many clients come at a time before the storm; afterwards nobody keeps order.
const JOINING_MAX: usize = 64;

/// What is published while everybody is away.
const MISSED: usize = 10;

/// How long a server is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(5);

/// How long is waited for what goes wrong when all are back; longer than the first pause of a client that is lost again.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// Longest time until everybody is there, and is there again.
const PATIENCE: Duration = Duration::from_mins(2);

const RECOVERED: &str = "from the kill until all have recovered, s";
const PEAK: &str = "peak RSS, × before the kill";

/// A crash under resumable clients.
#[derive(Args)]
pub(crate) struct ReconnectOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How many clients.
    #[arg(short, long, default_value_t = 19_000)]
    connections: usize,
}

pub(crate) async fn run(options: &ReconnectOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    // Time is measured, and the kernel's own work is to find the clients' cores free.
    let cores = &cores.clone().with_sleep();
    allow_connections(options.connections)?;
    let title = format!("{} resumable clients after kill -9", options.connections);
    let measure = async |_: usize| measure(options.connections, cores).await;
    let sheet = take_turns(&options.setup, title, vec![COLUMN], measure).await?;
    let criteria = [(RECOVERED, 10.0), (PEAK, 1.5)]
        .map(|(row, bound)| Criterion::value(&sheet, row, COLUMN, Wanted::AtMost(bound)));
    Ok((sheet, criteria.into_iter().flatten().collect()))
}

async fn measure(count: usize, cores: &Cores) -> Result<Vec<Sample>> {
    let mut server = Server::start(Peer::Channelapi, cores).await?;
    let receipts = Arc::new(Receipts::default());
    let mut backend = Backend::connect(&server, &receipts).await?;
    let door = Door::handshake(&[backend.token("shared").await?], true);
    let everybody = Target { channel: "shared".into(), subscribers: 0..count };
    let tally = Arc::new(Tally::default());
    let joining = Arc::new(Semaphore::new(JOINING_MAX));
    let mut clients = JoinSet::new();
    for index in 0..count {
        let client = Returning { address: server.address, door: door.clone(), index };
        clients.spawn(client.live(joining.clone(), tally.clone(), receipts.clone()));
    }
    until(&tally, &mut clients, |tally| tally.first.load(Ordering::Relaxed) == count).await?;
    backend.publish(OVERLAPPING, vec![everybody.clone(); OVERLAPPING]).await?;
    sleep(SETTLE).await;
    let steady = server.memory()?;

    let killed = Instant::now();
    server.return_after(End::Kill, cores).await?;
    let answers = killed.elapsed();
    let started = server.cpu()?;
    let mut new_backend = Backend::connect(&server, &receipts).await?;
    new_backend.continue_from(&backend);
    new_backend.publish(OVERLAPPING, vec![everybody; MISSED]).await.context("somebody misses something")?;
    let is_complete = |tally: &Tally| tally.again.load(Ordering::Relaxed) >= count;
    until(&tally, &mut clients, is_complete).await?;
    let recovered = killed.elapsed();
    let (used, peak) = (server.cpu()?.since(&started).total, server.memory_peak()?);
    // What comes twice comes soon, and so does the second loss of a connection.
    sleep(AFTERWARDS).await;
    receipts.check()?;
    let again = tally.again.load(Ordering::Relaxed);
    ensure!(
        again == count,
        "{count} clients came back {again} times: the server closed connections once more"
    );
    let gaps = tally.unrecovered.load(Ordering::Relaxed);
    ensure!(gaps == 0, "{gaps} of {count} clients were not recovered");
    let mut samples = vec![
        Sample::cost("from the kill until the server answers, s", answers.as_secs_f64()),
        Sample::cost(RECOVERED, recovered.as_secs_f64()),
        Sample::cost("CPU per client that comes back, µs", each(used.as_secs_f64() * 1e6, count)),
    ];
    let names = ["RSS before the kill, MiB", "PSS before the kill, MiB"];
    samples.extend(memory::rows(names, [steady], |[bytes]| bytes / MEBIBYTE));
    samples.extend([
        Sample::cost("peak RSS after it, MiB", mebibytes(peak)),
        Sample::cost(PEAK, real(peak) / real(steady.rss)),
        Sample::fact("tries that failed", real(tally.failed.load(Ordering::Relaxed))),
    ]);
    Ok(samples)
}

/// How the clients fare.
#[derive(Default)]
struct Tally {
    first: AtomicUsize,
    again: AtomicUsize,
    unrecovered: AtomicUsize,
    failed: AtomicUsize,
}

/// Waits until the clients have come so far.
async fn until(tally: &Tally, clients: &mut JoinSet<()>, is_so_far: impl Fn(&Tally) -> bool) -> Result<()> {
    let waited = timeout(PATIENCE, async {
        while !is_so_far(tally) {
            sleep(Duration::from_millis(5)).await;
        }
    });
    tokio::select! {
        waited = waited => waited.context("not all clients are there in time"),
        _ = clients.join_next() => bail!("a client has given up"),
    }
}

/// A client that always comes back.
struct Returning {
    address: SocketAddr,
    door: Door,
    index: usize,
}

impl Returning {
    async fn live(self, joining: Arc<Semaphore>, tally: Arc<Tally>, receipts: Arc<Receipts>) {
        let Ok(turn) = joining.acquire_owned().await else { return };
        let mut client = match Client::join(self.address, &self.door).await {
            Ok(client) => client,
            Err(error) => return eprintln!("a client could not join: {error:#}"),
        };
        drop(turn);
        tally.first.fetch_add(1, Ordering::Relaxed);
        loop {
            let Some(mut place) = client.place.take() else { return };
            let _ended = client
                .receive(|packet| match checkpoint(packet) {
                    Some(cursor) => cursor.clone_into(&mut place.cursor),
                    None => receipts.received(self.index, packet),
                })
                .await;
            client = self.come_back(&place, &tally).await;
        }
    }

    async fn come_back(&self, place: &Place, tally: &Tally) -> Client {
        let door = self.door.again(place);
        for attempt in 0.. {
            sleep(self.delay(attempt)).await;
            let Ok(client) = Client::join(self.address, &door).await else {
                tally.failed.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let is_recovered = client.place.as_deref().is_some_and(|now| now.pid == place.pid);
            if !is_recovered {
                tally.unrecovered.fetch_add(1, Ordering::Relaxed);
            }
            tally.again.fetch_add(1, Ordering::Relaxed);
            return client;
        }
        unreachable!("attempts are not limited")
    }

    /// One second, two, four, then five, each from half as much to half as much again: the same for a client in every round.
    fn delay(&self, attempt: u32) -> Duration {
        let seconds = Duration::from_secs(1 << attempt.min(3)).min(Duration::from_secs(5));
        let spread = (self.index as u64 + u64::from(attempt)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        seconds / 2 + seconds.mul_f64(real(usize::try_from(spread).unwrap_or_default()) / 65_536.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_are_spread() {
        let client =
            |index| Returning { address: ([127, 0, 0, 1], 1).into(), door: Door::Seed(String::new()), index };
        for (attempt, least, most) in [(0, 500, 1500), (1, 1000, 3000), (2, 2000, 6000), (9, 2500, 7500)] {
            let delays: Vec<_> = (0..100).map(|index| client(index).delay(attempt).as_millis()).collect();
            assert!(delays.iter().all(|delay| (least..=most).contains(delay)), "{delays:?}");
            let (first, last) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
            assert!(last - first > (most - least) / 2, "{delays:?}");
        }
    }
}
