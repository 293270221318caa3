//! A client that stops reading while others publish to it: what it costs the server to wait for it, and how soon it has caught up.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::client::{Client, Door};
use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::lanes::{self, Dialect, Lanes, Work};
use crate::memory;
use crate::peer::Peer;
use crate::process::Server;
use crate::receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{MEBIBYTE, each, real};

const COLUMNS: [&str; 2] = ["reads along", "stalled"];

const PUBLISHED: [&str; 2] =
    ["RSS growth when all is published, MiB", "PSS growth when all is published, MiB"];
const RECEIVED: [&str; 2] = ["RSS growth when all is received, MiB", "PSS growth when all is received, MiB"];

/// How many requests are on their way at once.
const IN_FLIGHT: usize = 64;

/// Longest time to publish everything. A client that stays away for longer would be taken for dead: it answers no pings.
const PUBLISHING_TIMEOUT: Duration = Duration::from_secs(40);

/// Longest time to receive everything.
const CATCHING_UP_TIMEOUT: Duration = Duration::from_mins(2);

/// How long the server is left alone before its memory is read; long enough for its queues to be worked off.
const SETTLE: Duration = Duration::from_secs(2);

/// One client that stalls, beside one that does not.
#[derive(Args)]
pub(crate) struct SlowOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How many publications wait for the client.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pending: u64,
}

pub(crate) async fn run(options: &SlowOptions, cores: &Cores) -> Result<Sheet> {
    let title = format!("A slow client, {} publications behind", options.pending);
    let measure = async |column: usize| measure(options.pending, column == 1, cores).await;
    take_turns(&options.setup, title, COLUMNS.to_vec(), measure).await
}

async fn measure(pending: u64, is_stalled: bool, cores: &Cores) -> Result<Vec<Sample>> {
    // Everything that is pending must still be there when the client comes for it.
    let history = [
        ("CHANNELAPI_HISTORY_MAX_MESSAGES", pending.to_string()),
        ("CHANNELAPI_HISTORY_MAX_BYTES", "1GiB".to_owned()),
    ];
    let server = Server::start_with(Peer::Channelapi, cores, &history).await?;
    let token = server.publisher().await?.token(&lanes::channel(0, 1)).await?;
    let client = Client::join(server.address, &Door::handshake(&[token], true)).await?;
    let mut publishers = Lanes::connect(server.address, &server.auth_key, Dialect::Seed, IN_FLIGHT).await?;
    sleep(SETTLE).await;
    let empty = server.memory()?;

    let (done, mut reader) = oneshot::channel();
    let (start, started) = oneshot::channel::<()>();
    let receiving = tokio::spawn(async move {
        // An error means that the measurement was given up.
        started.await?;
        let received = receive(client, pending).await;
        let _ = done.send(Instant::now());
        received
    });
    let mut start = Some(start);
    let mut go = || start.take().map(|start| start.send(()));
    if !is_stalled {
        go();
    }
    let until = Instant::now() + PUBLISHING_TIMEOUT;
    let work = Work { channels: 1, publications: pending, until, rate: None };
    let load = publishers.publish(&work).await?;
    let published = Instant::now();
    ensure!(
        load.latencies.len() as u64 == pending,
        "only {} of {pending} publications were made within {PUBLISHING_TIMEOUT:?}",
        load.latencies.len()
    );
    if is_stalled {
        sleep(SETTLE).await;
        let is_waiting = reader.try_recv().is_err();
        ensure!(is_waiting, "the client received everything although it did not read");
    }
    let behind = server.memory()?;
    let before = server.cpu()?;
    let resumed = if is_stalled { Instant::now() } else { published };
    go();
    let received = timeout(CATCHING_UP_TIMEOUT, receiving).await;
    received.context("the client did not catch up")???;
    let caught_up = reader.await.context("the client said nothing")?;
    let used = server.cpu()?.since(&before).total;
    sleep(SETTLE).await;
    let after = server.memory()?;

    let count = load.latencies.len();
    let catching_up = caught_up.saturating_duration_since(resumed).as_secs_f64();
    let grown = |[empty, memory]: [f64; 2]| (memory - empty) / MEBIBYTE;
    let mut samples = vec![Sample::rate("publishes/s meanwhile", real(count) / load.elapsed.as_secs_f64())];
    samples.extend(memory::rows(PUBLISHED, [empty, behind], grown));
    samples.extend(memory::rows(RECEIVED, [empty, after], grown));
    samples.push(Sample::cost(
        "from the last publication (stalled: from reading on) until all is received, s",
        catching_up,
    ));
    if is_stalled {
        samples.extend([
            Sample::rate("publications/s while catching up", real(count) / catching_up),
            Sample::cost("CPU per publication while catching up, µs", each(used.as_secs_f64() * 1e6, count)),
        ]);
    }
    Ok(samples)
}

/// Reads until every publication has come, each exactly once.
async fn receive(client: Client, pending: u64) -> Result<()> {
    let (report, mut verdict) = mpsc::channel(1);
    let mut missing: HashSet<_> = (0..pending).collect();
    let each = |packet: &str| {
        let verdict = match receipts::number(packet) {
            None if packet.starts_with("42[\"gap\"") => {
                Err(anyhow!("the client was told of a gap: {packet}"))
            }
            Some(number) if !missing.remove(&number) => Err(anyhow!("publication {number} came twice")),
            Some(_) if missing.is_empty() => Ok(()),
            None | Some(_) => return,
        };
        // Only the first one counts.
        let _ = report.try_send(verdict);
    };
    tokio::select! {
        verdict = verdict.recv() => verdict.context("there is no verdict")?,
        ended = client.receive(each) => ended.context("the connection was lost before all was received"),
    }
}
