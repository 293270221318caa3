//! Publishing while the log gives back the space of what has died or become too old, beside publishing when nothing does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::disk::{ensure_disk, size_of};
use crate::lanes::{Dialect, Lanes, Work};
use crate::peer::Peer;
use crate::process::Server;
use crate::report::{Sample, Sheet};
use crate::statistics::{milliseconds, percentile, real};

const COLUMNS: [&str; 3] = ["nothing dies", "rewriting", "expiring"];

/// What becomes of what was published.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// It lives longer than the run.
    Lives,
    /// The next one of its channel takes its place: segments are rewritten.
    IsReplaced,
    /// It becomes too old: segments are removed as a whole.
    Expires,
}

/// About as many as there are publications in a segment of a log that may have [`DISK`]: most of a segment is dead when the next
/// one is full, but never all of it, so that it has to be rewritten.
const CHANNELS: u64 = 50_000;

/// A segment is an eighth of it.
const DISK: &str = "128MiB";

/// What is on disk at the end, at most, if something was given back before there was no room left: half of [`DISK`].
const LEFT_MAX: usize = 64 * 1024 * 1024;

/// So old may be what expires: about as long as a segment takes to be full.
const AGE: &str = "1s";

const IN_FLIGHT: usize = 64;

/// More publications than any server takes in a minute.
const PUBLICATIONS_MAX: u64 = 100_000_000;

const P99: &str = "p99 latency, ms";

/// Publishing while segments are rewritten, and while they expire.
#[derive(Args)]
pub(crate) struct UpkeepOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Seconds of publishing.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=120))]
    seconds: u64,
}

pub(crate) async fn run(options: &UpkeepOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    ensure_disk(&std::env::temp_dir())?;
    let title = format!("Publishing and upkeep of the log, {IN_FLIGHT} in flight");
    let fates = [Fate::Lives, Fate::IsReplaced, Fate::Expires];
    let measure = async |column: usize| measure(options.seconds, fates[column], cores).await;
    let sheet = take_turns(&options.setup, title, COLUMNS.to_vec(), measure).await?;
    let criteria = COLUMNS[1..]
        .iter()
        .filter_map(|column| Criterion::new(&sheet, P99, [*column, COLUMNS[0]], Wanted::AtMost(2.0)));
    let criteria = criteria.collect();
    Ok((sheet, criteria))
}

async fn measure(seconds: u64, fate: Fate, cores: &Cores) -> Result<Vec<Sample>> {
    let (messages, age, disk) = match fate {
        Fate::Lives => ("1000", "24h", "10GB"),
        Fate::IsReplaced => ("1", "24h", DISK),
        Fate::Expires => ("1000", AGE, DISK),
    };
    let settings = [
        ("CHANNELAPI_HISTORY_MAX_MESSAGES", messages.to_owned()),
        ("CHANNELAPI_HISTORY_MAX_AGE", age.to_owned()),
        ("CHANNELAPI_STORE_MAX_DISK", disk.to_owned()),
    ];
    let server = Server::start_with(Peer::Channelapi, cores, &settings).await?;
    let mut lanes = Lanes::connect(server.address, &server.auth_key, Dialect::Seed, IN_FLIGHT).await?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let load = lanes
        .publish(&Work { channels: CHANNELS, publications: PUBLICATIONS_MAX, until, rate: None })
        .await?;
    let count = load.latencies.len();
    let left = size_of(&server.data_dir().join("log"))?;
    let bytes = real(left) / real(count);
    let latency = |percent| milliseconds(percentile(&load.latencies, percent));
    let samples = vec![
        Sample::rate("publishes/s", real(count) / load.elapsed.as_secs_f64()),
        Sample::cost("p50 latency, ms", latency(50)),
        Sample::cost(P99, latency(99)),
        Sample::cost("longest latency, ms", latency(100)),
        Sample::fact("bytes on disk per publication", bytes),
    ];
    // Data alone has 200 bytes: less on disk means that something was given back, and little in all that it was not for want of room.
    ensure!(
        fate == Fate::Lives || bytes < 200.0 && left < LEFT_MAX,
        "too little was given back in {seconds} seconds: {count} publications take {bytes:.0} bytes each, {left} in all"
    );
    Ok(samples)
}
