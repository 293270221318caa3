//! What it costs to publish so that it is on disk before the answer: over HTTP, beside Redis, and beside the disk itself.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::disk::{ensure_disk, sync_repeatedly, sync_what_is_due};
use crate::lanes::{Dialect, Lanes, Load, Work};
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::redis::{self, Redis};
use crate::report::{Sample, Sheet};
use crate::statistics::{each, milliseconds, percentile, real};
use crate::usage::Cpu;

/// How long everything runs before it counts.
const WARM_UP: Duration = Duration::from_millis(500);

/// More publications than any server takes in a minute.
const PUBLICATIONS_MAX: u64 = 100_000_000;

const RATE: &str = "publishes/s";
const CPU: &str = "server CPU per publish, µs";
const P99: &str = "p99 latency, ms";

/// Publishing, durable before it is answered.
#[derive(Args)]
pub(crate) struct PublishOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// What to measure; ratios refer to the first.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Way::ALL)]
    pub(crate) ways: Vec<Way>,
    /// How many requests are on their way at once, each on a connection of its own; one table for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    in_flight: Vec<usize>,
    /// Seconds of publishing.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// Publications per second of all publishers together, far below what is possible: how long one waits when nobody is in a hurry.
    /// Without it every publisher sends as soon as it is answered.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Channels that take turns.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    channels: u64,
}

/// A way to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// `POST /v1/channels/{channel}/messages`.
    V1,
    /// The same with `"volatile":true`: stored nowhere.
    Volatile,
    /// `POST /message/{channel}`.
    Seed,
    /// Redis, `appendfsync always`: `XADD`.
    Redis,
    /// No server: append 200 bytes to a file, fdatasync, and again. Always one at a time; with a rate, whatever is due.
    Fdatasync,
}

impl Way {
    const ALL: [Self; 5] = [Self::V1, Self::Volatile, Self::Seed, Self::Redis, Self::Fdatasync];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::Volatile => "volatile",
            Self::Seed => "seed",
            Self::Redis => "redis",
            Self::Fdatasync => "fdatasync",
        }
    }

    /// Which version is measured, for the report.
    pub(crate) fn version(self) -> Result<String> {
        match self {
            Self::Redis => redis::version().context("there is no redis-server"),
            Self::Fdatasync => Ok(String::new()),
            Self::V1 | Self::Volatile | Self::Seed => Peer::Channelapi.version(),
        }
    }
}

impl PublishOptions {
    /// Leaves out what cannot be measured here, and checks the rest.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        ensure_disk(&std::env::temp_dir())?;
        if self.ways.contains(&Way::Redis) && redis::version().is_none() {
            eprintln!("redis is left out: there is no redis-server in PATH (Debian has it in redis-server)");
            self.ways.retain(|way| *way != Way::Redis);
        }
        ensure!(!self.ways.is_empty(), "nothing is left to be measured");
        Peer::Channelapi.prepare()
    }
}

/// Measures every way in every round, for each number in flight; and what must be true of the figures.
pub(crate) async fn run(options: &PublishOptions, cores: &Cores) -> Result<(Vec<Sheet>, Vec<Criterion>)> {
    let (mut sheets, mut criteria) = (Vec::new(), Vec::new());
    // Where latency is measured and nobody is in a hurry, the kernel's own work is to find the clients' cores free.
    let cores = &if options.rate.is_some() { cores.clone().with_sleep() } else { cores.clone() };
    for &in_flight in &options.in_flight {
        allow_connections(in_flight)?;
        let title = match options.rate {
            None => format!("Publishing, {in_flight} in flight"),
            Some(rate) => format!("Publishing, {in_flight} publishers, {rate} a second in all"),
        };
        let names = options.ways.iter().map(|way| way.name()).collect();
        let measure = async |column: usize| measure(options, in_flight, options.ways[column], cores).await;
        let sheet = take_turns(&options.setup, title, names, measure).await?;
        for durable in ["v1", "seed"] {
            if options.rate.is_some() {
                criteria.extend(Criterion::new(&sheet, P99, [durable, "fdatasync"], Wanted::AtMost(3.0)));
                continue;
            }
            criteria.extend(Criterion::new(&sheet, RATE, [durable, "redis"], Wanted::Above(1.0)));
            if in_flight == 64 {
                criteria.extend(Criterion::new(&sheet, CPU, [durable, "volatile"], Wanted::AtMost(1.3)));
            }
        }
        sheets.push(sheet);
    }
    Ok((sheets, criteria))
}

async fn measure(options: &PublishOptions, in_flight: usize, way: Way, cores: &Cores) -> Result<Vec<Sample>> {
    let dialect = match way {
        Way::V1 => Dialect::V1,
        Way::Volatile => Dialect::V1Volatile,
        Way::Seed => Dialect::Seed,
        Way::Redis => {
            let server = Redis::start(cores).await?;
            let lanes = Lanes::connect(server.address, "", Dialect::Redis, in_flight).await?;
            return load(options, lanes, || server.cpu()).await;
        }
        Way::Fdatasync => {
            let time = Duration::from_secs(options.seconds);
            let rate = options.rate.map(f64::from);
            let work =
                move || rate.map_or_else(|| sync_repeatedly(time), |rate| sync_what_is_due(rate, time));
            let load = tokio::task::spawn_blocking(work).await??;
            return Ok(samples(&load));
        }
    };
    let server = Server::start(Peer::Channelapi, cores).await?;
    let lanes = Lanes::connect(server.address, &server.auth_key, dialect, in_flight).await?;
    load(options, lanes, || server.cpu()).await
}

async fn load(
    options: &PublishOptions,
    mut lanes: Lanes,
    server: impl Fn() -> Result<Cpu>,
) -> Result<Vec<Sample>> {
    let work = |time| Work {
        channels: options.channels,
        publications: PUBLICATIONS_MAX,
        until: Instant::now() + time,
        rate: options.rate.map(f64::from),
    };
    lanes.publish(&work(WARM_UP)).await.context("warming up failed")?;
    let before = server()?;
    let load = lanes.publish(&work(Duration::from_secs(options.seconds))).await?;
    let used = server()?.since(&before);
    let mut samples = samples(&load);
    let cpu = each(used.total.as_secs_f64() * 1e6, load.latencies.len());
    samples.extend([
        Sample::cost(CPU, cpu),
        Sample::cost("… of it outside the kernel, µs", cpu * used.user_share.unwrap_or_default()),
        // Far below 100, it waited for the disk or for the publishers.
        Sample::fact(
            "CPU of the server, % of a core",
            100.0 * used.total.as_secs_f64() / load.elapsed.as_secs_f64(),
        ),
    ]);
    Ok(samples)
}

fn samples(load: &Load) -> Vec<Sample> {
    vec![
        Sample::rate(RATE, real(load.latencies.len()) / load.elapsed.as_secs_f64()),
        Sample::cost("p50 latency, ms", milliseconds(percentile(&load.latencies, 50))),
        Sample::cost(P99, milliseconds(percentile(&load.latencies, 99))),
    ]
}
