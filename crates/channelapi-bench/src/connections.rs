//! What a connection costs: memory while it idles, CPU to connect and join, CPU to stay.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use tokio::time::{Instant, sleep};

use crate::backend::{Backend, OVERLAPPING, Target};
use crate::client::Door;
use crate::comparison::{Comparison, compare};
use crate::cores::Cores;
use crate::criteria::Wanted::AtMost;
use crate::criteria::{Criterion, Goal};
use crate::crowd::Crowd;
use crate::memory;
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{MEBIBYTE, each, real};

/// How long a started server is left alone before its memory counts as that of an empty one.
const START_SETTLE: Duration = Duration::from_secs(2);

/// Memory, CPU and time of idle connections.
#[derive(Args)]
pub(crate) struct ConnectionsOptions {
    #[command(flatten)]
    pub(crate) comparison: Comparison,
    /// How many connections to open.
    #[arg(short, long, default_value_t = 10_000)]
    connections: usize,
    /// Whether all join one channel or each its own.
    #[arg(long, value_enum, default_value_t = Channels::Shared)]
    channels: Channels,
    /// Deliveries to all of them together before memory is read for the second time.
    #[arg(long, default_value_t = 1_000_000)]
    deliveries: usize,
    /// Seconds of quiet before memory is read; jemalloc returns freed pages over 10 seconds.
    #[arg(long, default_value_t = 12)]
    settle: u64,
    /// Seconds over which idle CPU is measured; by default the server's ping interval, in which every connection is
    /// pinged once.
    #[arg(long)]
    idle: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Channels {
    /// One channel and token for all.
    Shared,
    /// A channel and token for each connection.
    Unique,
}

const MEMORY: &str = "RSS per idle connection, bytes";
const MEMORY_AFTER: &str = "RSS per connection after traffic, bytes";
const SHARE: &str = "PSS per idle connection, bytes";
const SHARE_AFTER: &str = "PSS per connection after traffic, bytes";
const EMPTY: [&str; 2] = ["RSS of the empty server, MiB", "PSS of the empty server, MiB"];
const JOIN: &str = "CPU per connect and join, µs";
const IDLE: &str = "idle CPU per connection and second, ns";

/// Bytes that a connection may cost.
const BYTES: f64 = 2048.0;

/// For one shared channel: channels and tokens cost everybody about the same.
const GOALS: [Goal; 17] = [
    (MEMORY, "socketioxide", AtMost(0.083)),
    (MEMORY, "node", AtMost(0.2)),
    (MEMORY, "node-uws", AtMost(0.2)),
    (MEMORY, "python-socketio", AtMost(0.2)),
    (MEMORY, "centrifuge", AtMost(0.1)),
    (MEMORY, "centrifuge-tuned", AtMost(0.1)),
    (MEMORY, "sockudo", AtMost(0.1)),
    (JOIN, "socketioxide", AtMost(0.4)),
    (JOIN, "node", AtMost(0.12)),
    (IDLE, "socketioxide", AtMost(0.6)),
    (IDLE, "node", AtMost(0.25)),
    (JOIN, "centrifuge", AtMost(1.0)),
    (JOIN, "centrifuge-tuned", AtMost(1.0)),
    (JOIN, "sockudo", AtMost(1.0)),
    (IDLE, "centrifuge", AtMost(1.0)),
    (IDLE, "centrifuge-tuned", AtMost(1.0)),
    (IDLE, "sockudo", AtMost(1.0)),
];

/// Measures every peer in every round.
pub(crate) async fn run(options: &ConnectionsOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    allow_connections(options.connections)?;
    let channels = match options.channels {
        Channels::Shared => "one shared channel",
        Channels::Unique => "a channel each",
    };
    let title = format!("{} connections, {channels}", options.connections);
    let sheet = compare(&options.comparison, title, async |peer| measure(options, peer, cores).await).await?;
    let mut criteria = Vec::new();
    if options.channels == Channels::Shared {
        let ours = Peer::Channelapi.name();
        let bytes = [MEMORY, MEMORY_AFTER].map(|row| Criterion::value(&sheet, row, ours, AtMost(BYTES)));
        criteria.extend(bytes.into_iter().flatten().chain(Criterion::of(&sheet, ours, &GOALS)));
    }
    Ok((sheet, criteria))
}

async fn measure(options: &ConnectionsOptions, peer: Peer, cores: &Cores) -> Result<Vec<Sample>> {
    let (count, settle) = (options.connections, Duration::from_secs(options.settle));
    let server = Server::start(peer, cores).await?;
    let receipts = Arc::new(Receipts::default());
    sleep(START_SETTLE).await;
    let memory_empty = server.memory()?;
    // The memory of channels and tokens belongs to the connections that need them; the CPU of asking for them does not.
    let (doors, targets) = channels(options, peer, Backend::connect(&server, &receipts).await?).await?;

    let (cpu, started) = (server.cpu()?, Instant::now());
    let crowd = Crowd::gather(server.address, doors, &receipts).await?;
    let (join_time, join_cpu) = (started.elapsed(), server.cpu()?.since(&cpu).total);
    sleep(settle).await;
    crowd.check()?;
    let memory_idle = server.memory()?;

    // Connected anew: a server may close an HTTP connection that was quiet for so long.
    let mut backend = Backend::connect(&server, &receipts).await?;
    let publications = options.deliveries.div_ceil(count.max(1)) * targets.len();
    let traffic = targets.iter().cycle().take(publications).cloned().collect();
    backend.publish(OVERLAPPING, traffic).await.context("a publication was not received by all")?;
    let received = receipts.latencies().len();
    drop(backend);
    sleep(settle).await;
    let memory_after_traffic = server.memory()?;

    let idle = options.idle.map_or(crowd.ping_interval, Duration::from_secs);
    let (cpu, pings) = (server.cpu()?, crowd.pings());
    sleep(idle).await;
    let (idle_cpu, pings) = (server.cpu()?.since(&cpu).total, crowd.pings() - pings);
    crowd.finish(&receipts).await?;

    let of_one = |[empty, memory]: [f64; 2]| each(memory - empty, count);
    let mut samples = memory::rows([MEMORY, SHARE], [memory_empty, memory_idle], of_one);
    samples.extend(memory::rows([MEMORY_AFTER, SHARE_AFTER], [memory_empty, memory_after_traffic], of_one));
    samples.extend(memory::rows(EMPTY, [memory_empty], |[bytes]| bytes / MEBIBYTE));
    samples.extend([
        Sample::cost(JOIN, each(join_cpu.as_secs_f64() * 1e6, count)),
        Sample::cost("time until all have joined, s", join_time.as_secs_f64()),
        Sample::cost(IDLE, each(idle_cpu.as_secs_f64() * 1e9, count) / idle.as_secs_f64()),
        // Whoever pings more often has more to do; whoever does not ping at all has nothing.
        Sample::fact("… pings in that time", real(pings)),
        Sample::fact("deliveries before that", real(received)),
    ]);
    Ok(samples)
}

/// One way in for each connection, and where to publish so that every connection receives each publication once.
async fn channels(
    options: &ConnectionsOptions,
    peer: Peer,
    mut backend: Backend,
) -> Result<(Vec<Door>, Vec<Target>)> {
    let count = options.connections;
    if options.channels == Channels::Shared {
        let token = backend.token("shared").await?;
        return Ok((
            vec![peer.door(token); count],
            vec![Target { channel: "shared".into(), subscribers: 0..count }],
        ));
    }
    let (mut doors, mut targets) = (Vec::new(), Vec::new());
    for number in 0..count {
        let channel = format!("own-{number}");
        doors.push(peer.door(backend.token(&channel).await?));
        targets.push(Target { channel: channel.into(), subscribers: number..number + 1 });
    }
    Ok((doors, targets))
}
