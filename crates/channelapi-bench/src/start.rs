//! How soon a server answers again that keeps a lot: its index is built from what is on disk, after a shutdown and after a crash.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::disk::{ensure_disk, size_of};
use crate::lanes::{Dialect, Lanes, Work, channel_name};
use crate::memory;
use crate::peer::Peer;
use crate::process::{End, Server};
use crate::publisher::Publisher;
use crate::report::{Sample, Sheet};
use crate::statistics::{MEBIBYTE, mebibytes};

const COLUMNS: [&str; 3] = ["nothing kept", "shut down", "killed"];

/// Publishers that fill the log.
const PUBLISHERS: usize = 64;

/// Longest time that filling it takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// What is wanted is wanted of so many messages.
const WANTED_WITH: u64 = 1_000_000;

const ANSWERS: &str = "from the start until it answers, s";

/// Starts with what was kept before.
#[derive(Args)]
pub(crate) struct StartOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How many messages are kept.
    #[arg(long, default_value_t = WANTED_WITH, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    messages: u64,
    /// How many channels they are in.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    channels: u64,
}

pub(crate) async fn run(options: &StartOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    ensure_disk(&std::env::temp_dir())?;
    let title = format!("Starting with {} messages in {} channels", options.messages, options.channels);
    let measure = async |column: usize| measure(options, column, cores).await;
    let sheet = take_turns(&options.setup, title, COLUMNS.to_vec(), measure).await?;
    let criteria = COLUMNS[1..]
        .iter()
        .filter(|_| options.messages >= WANTED_WITH)
        .filter_map(|column| Criterion::value(&sheet, ANSWERS, column, Wanted::AtMost(1.0)));
    let criteria = criteria.collect();
    Ok((sheet, criteria))
}

async fn measure(options: &StartOptions, column: usize, cores: &Cores) -> Result<Vec<Sample>> {
    let kept = if column == 0 { 0 } else { options.messages };
    let history = [
        // In one channel, even if all were in it.
        ("CHANNELAPI_HISTORY_MAX_MESSAGES", options.messages.to_string()),
        ("CHANNELAPI_HISTORY_MAX_BYTES", "1GiB".to_owned()),
    ];
    let mut server = Server::start_with(Peer::Channelapi, cores, &history).await?;
    if kept > 0 {
        let mut lanes = Lanes::connect(server.address, &server.auth_key, Dialect::Seed, PUBLISHERS).await?;
        let until = Instant::now() + PATIENCE;
        let work = Work { channels: options.channels, publications: kept, until, rate: None };
        let load = lanes.publish(&work).await?;
        ensure!(load.latencies.len() as u64 == kept, "publishing takes longer than {PATIENCE:?}");
    }
    let end = if column == 2 { End::Kill } else { End::Shutdown };
    let took = server.return_after(end, cores).await?;
    let (used, memory) = (server.cpu()?.so_far(), server.memory()?);
    let mut reader = server.publisher().await?;
    let mut found = 0;
    for index in 0..if kept > 0 { options.channels } else { 0 } {
        found += count(&mut reader, &channel_name(index)).await?;
    }
    ensure!(found == kept, "of {kept} messages {found} are there after a start");
    let log = size_of(&server.data_dir().join("log"))?;
    let mut samples = vec![
        Sample::cost(ANSWERS, took.as_secs_f64()),
        Sample::cost("CPU until then, s", used.as_secs_f64()),
    ];
    samples.extend(memory::rows(["RSS then, MiB", "PSS then, MiB"], [memory], |[bytes]| bytes / MEBIBYTE));
    samples.push(Sample::fact("log on disk, MiB", mebibytes(log)));
    Ok(samples)
}

/// How many messages a channel has, as it says itself: it begins with its first one, and offsets have no holes.
async fn count(reader: &mut Publisher, channel: &str) -> Result<u64> {
    let page = reader.get(&format!("/v1/channels/{channel}/messages?since=all&limit=1")).await?;
    let page: Value = serde_json::from_slice(&page).context("a page is not JSON")?;
    match (page["first_offset"].as_u64(), page["next_offset"].as_u64()) {
        (Some(1), Some(next)) => Ok(next - 1),
        // Nothing was published to it.
        (None, Some(1)) => Ok(0),
        _ => bail!("{channel} does not have all that it had: {page}"),
    }
}
