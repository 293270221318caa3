//! Whether memory comes back after a storm: waves of clients that come, join and leave at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use tokio::time::sleep;

use crate::backend::Backend;
use crate::comparison::{Comparison, compare};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::crowd::Crowd;
use crate::memory;
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{MEBIBYTE, each, mebibytes, real};

/// How long a started server is left alone before its memory is read.
const START_SETTLE: Duration = Duration::from_secs(2);

const AFTER: &str = "RSS afterwards, × before";
const SHARE_AFTER: &str = "PSS afterwards, × before";

/// Memory after a storm of connections.
#[derive(Args)]
pub(crate) struct StormOptions {
    #[command(flatten)]
    pub(crate) comparison: Comparison,
    /// How many connections each wave has.
    #[arg(short, long, default_value_t = 10_000)]
    connections: usize,
    /// How many waves.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    waves: u16,
    /// Seconds of quiet after the last wave before memory is read.
    #[arg(long, default_value_t = 30)]
    settle: u64,
}

pub(crate) async fn run(options: &StormOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    allow_connections(options.connections)?;
    let title =
        format!("{} waves of {} connections, {} s later", options.waves, options.connections, options.settle);
    let sheet = compare(&options.comparison, title, async |peer| measure(options, peer, cores).await).await?;
    let criterion = Criterion::value(&sheet, AFTER, Peer::Channelapi.name(), Wanted::AtMost(1.2));
    Ok((sheet, criterion.into_iter().collect()))
}

async fn measure(options: &StormOptions, peer: Peer, cores: &Cores) -> Result<Vec<Sample>> {
    let server = Server::start(peer, cores).await?;
    let receipts = Arc::new(Receipts::default());
    let door = peer.door(Backend::connect(&server, &receipts).await?.token("shared").await?);
    sleep(START_SETTLE).await;
    let (before, cpu, started) = (server.memory()?, server.cpu()?, Instant::now());
    for _ in 0..options.waves {
        let crowd = Crowd::gather(server.address, vec![door.clone(); options.connections], &receipts).await?;
        crowd.check()?;
    }
    let took = started.elapsed();
    sleep(Duration::from_secs(options.settle)).await;
    let (after, used) = (server.memory()?, server.cpu()?.since(&cpu).total);
    let peak = server.memory_peak()?;
    receipts.check()?;
    let count = options.connections * usize::from(options.waves);
    let mut samples =
        memory::rows(["RSS before, MiB", "PSS before, MiB"], [before], |[bytes]| bytes / MEBIBYTE);
    samples.push(Sample::cost("peak RSS, MiB", mebibytes(peak)));
    let names = ["RSS afterwards, MiB", "PSS afterwards, MiB"];
    samples.extend(memory::rows(names, [after], |[bytes]| bytes / MEBIBYTE));
    samples.extend(memory::rows([AFTER, SHARE_AFTER], [before, after], |[before, after]| after / before));
    samples.extend([
        Sample::cost(
            "CPU per connection that comes, joins and leaves, µs",
            each(used.as_secs_f64() * 1e6, count),
        ),
        Sample::rate("connections per second", real(count) / took.as_secs_f64()),
    ]);
    Ok(samples)
}
