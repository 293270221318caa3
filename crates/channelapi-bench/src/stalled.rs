//! Slow consumers among fast ones: what it costs those who read that some do not.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::backend::{Backend, OVERLAPPING, Style, Target};
use crate::client::Client;
use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::crowd::Crowd;
use crate::memory;
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{MEBIBYTE, each, milliseconds, percentile, real};

/// Of how many one does not read.
const ONE_IN: usize = 10;

/// Size of a publication's data: enough of them fill every buffer between the server and a client that does not read.
const DATA_BYTES: usize = 4_000;

const P50: &str = "p50 latency of those who read, ms";
const P99: &str = "p99 latency of those who read, ms";
const CPU: &str = "CPU per delivery to them, µs";

/// All that grew counts, also what grows without them.
const HELD: &str = "RSS growth for each that does not read, MiB";

const COLUMNS: [&str; 2] = ["all read", "one in ten stalled"];

/// Clients that do not read, among others that do.
#[derive(Args)]
pub(crate) struct StalledOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How many connections read.
    #[arg(short, long, default_value_t = 200)]
    connections: usize,
    /// How many publications of 4,000 bytes.
    #[arg(long, default_value_t = 2_000)]
    publications: usize,
}

pub(crate) async fn run(options: &StalledOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    allow_connections(options.connections * 2)?;
    let title =
        format!("{} connections that read, {} publications", options.connections, options.publications);
    let measure = async |column: usize| measure(options, column == 1, cores).await;
    let sheet = take_turns(&options.setup, title, COLUMNS.to_vec(), measure).await?;
    let [reading, stalled] = COLUMNS;
    // Nobody is to notice; what differs from run to run is more than what is noticed.
    let noticed = [(P50, 1.1), (P99, 1.25), (CPU, 1.1)]
        .map(|(row, most)| Criterion::new(&sheet, row, [stalled, reading], Wanted::AtMost(most)));
    let held = Criterion::value(&sheet, HELD, stalled, Wanted::AtMost(1.0));
    let criteria = noticed.into_iter().chain([held]).flatten().collect();
    Ok((sheet, criteria))
}

async fn measure(options: &StalledOptions, are_some_stalled: bool, cores: &Cores) -> Result<Vec<Sample>> {
    let (count, peer) = (options.connections, Peer::Channelapi);
    let server = Server::start(peer, cores).await?;
    let receipts = Arc::new(Receipts::default());
    let style = Style { data_bytes: DATA_BYTES, is_volatile: false };
    let mut backend = Backend::with(&server, &receipts, OVERLAPPING, style).await?;
    let door = peer.door(backend.token("shared").await?);
    let mut stalled = Vec::new();
    for _ in 0..if are_some_stalled { count.div_ceil(ONE_IN) } else { 0 } {
        stalled.push(Client::join(server.address, &door).await?);
    }
    let crowd = Crowd::gather(server.address, vec![door; count], &receipts).await?;
    let target = Target { channel: "shared".into(), subscribers: 0..count };
    backend.publish(OVERLAPPING, vec![target.clone(); OVERLAPPING]).await.context("warming up failed")?;

    receipts.restart();
    let (before, empty) = (server.cpu()?, server.memory()?);
    backend.publish(OVERLAPPING, vec![target; options.publications]).await?;
    let used = server.cpu()?.since(&before).total;
    let memory = server.memory()?;
    crowd.finish(&receipts).await?;
    let stalled = stalled.len();
    let latencies = receipts.latencies();
    let mut samples = vec![
        Sample::cost(P50, milliseconds(percentile(&latencies, 50))),
        Sample::cost(P99, milliseconds(percentile(&latencies, 99))),
        Sample::cost(CPU, each(used.as_secs_f64() * 1e6, latencies.len())),
    ];
    let names = ["RSS growth, MiB", "PSS growth, MiB"];
    samples.extend(memory::rows(names, [empty, memory], |[empty, memory]| (memory - empty) / MEBIBYTE));
    if stalled > 0 {
        samples.push(Sample::cost(HELD, (real(memory.rss) - real(empty.rss)) / MEBIBYTE / real(stalled)));
    }
    Ok(samples)
}
