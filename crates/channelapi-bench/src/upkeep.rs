//! Publishing while the log gives back the space of what has died, beside publishing when nothing dies.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::lanes::{Dialect, Lanes, Work};
use crate::peer::Peer;
use crate::process::Server;
use crate::report::{Sample, Sheet};
use crate::statistics::{milliseconds, percentile, real};

const COLUMNS: [&str; 2] = ["nothing dies", "rewriting"];

/// About as many as there are publications in a segment of a log that may have [`DISK`]: most of a segment is dead when the next
/// one is full, but never all of it, so that it has to be rewritten.
const CHANNELS: u64 = 50_000;

/// A segment is an eighth of it.
const DISK: &str = "128MiB";

const IN_FLIGHT: usize = 64;

/// More publications than any server takes in a minute.
const PUBLICATIONS_MAX: u64 = 100_000_000;

const P99: &str = "p99 latency, ms";

/// Publishing while segments are rewritten.
#[derive(Args)]
pub(crate) struct UpkeepOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Seconds of publishing.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=120))]
    seconds: u64,
}

pub(crate) async fn run(options: &UpkeepOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    let title = format!("Publishing and upkeep of the log, {IN_FLIGHT} in flight");
    let measure = async |column: usize| measure(options.seconds, column == 1, cores).await;
    let sheet = take_turns(&options.setup, title, COLUMNS.to_vec(), measure).await?;
    let criterion = Criterion::new(&sheet, P99, [COLUMNS[1], COLUMNS[0]], Wanted::AtMost(2.0));
    Ok((sheet, criterion.into_iter().collect()))
}

async fn measure(seconds: u64, is_dying: bool, cores: &Cores) -> Result<Vec<Sample>> {
    let kept = if is_dying { "1" } else { "1000" };
    let settings = [
        ("CHANNELAPI_HISTORY_MAX_MESSAGES", kept.to_owned()),
        ("CHANNELAPI_STORE_MAX_DISK", if is_dying { DISK } else { "10GB" }.to_owned()),
    ];
    let server = Server::start_with(Peer::Channelapi, cores, &settings).await?;
    let mut lanes = Lanes::connect(server.address, &server.auth_key, Dialect::Seed, IN_FLIGHT).await?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let load = lanes
        .publish(&Work { channels: CHANNELS, publications: PUBLICATIONS_MAX, until, rate: None })
        .await?;
    let count = load.latencies.len();
    let bytes = real(size_of(&server.data_dir().join("log"))?) / real(count);
    let latency = |percent| milliseconds(percentile(&load.latencies, percent));
    let samples = vec![
        Sample::rate("publishes/s", real(count) / load.elapsed.as_secs_f64()),
        Sample::cost("p50 latency, ms", latency(50)),
        Sample::cost(P99, latency(99)),
        Sample::cost("longest latency, ms", latency(100)),
        Sample::fact("bytes on disk per publication", bytes),
    ];
    // Data alone has 200 bytes: less on disk means that something was given back.
    ensure!(
        !is_dying || bytes < 200.0,
        "nothing was rewritten in {seconds} seconds: {count} publications take {bytes:.0} bytes each"
    );
    Ok(samples)
}

/// Bytes of the files in a folder.
fn size_of(folder: &Path) -> Result<usize> {
    let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    entries.map(|entry| Ok(usize::try_from(entry?.metadata()?.len())?)).sum()
}
