//! What it costs to read what was published: the newest, which is in memory, and the oldest, which is on disk.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::task::JoinSet;

use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::disk::ensure_disk;
use crate::lanes::{Dialect, Lanes, Work, channel};
use crate::peer::Peer;
use crate::process::Server;
use crate::publisher::Publisher;
use crate::report::{Sample, Sheet};
use crate::statistics::{each, milliseconds, percentile, real};

/// What is read: its name, the query, and how many messages that are.
const COLUMNS: [(&str, &str, usize); 3] = [
    ("the newest", "reverse=true&limit=1", 1),
    ("100 newest", "reverse=true&limit=100", 100),
    ("100 oldest", "since=all&limit=100", 100),
];

/// Publishers that fill the channel.
const PUBLISHERS: usize = 64;

/// Readers that ask at the same time.
const READERS: usize = 8;

/// Reads of the history.
#[derive(Args)]
pub(crate) struct HistoryOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How many messages the channel keeps.
    #[arg(long, default_value_t = 50_000)]
    messages: u64,
    /// Seconds of reading.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
}

pub(crate) async fn run(options: &HistoryOptions, cores: &Cores) -> Result<Sheet> {
    ensure_disk(&std::env::temp_dir())?;
    let title = format!("Reading a channel of {} messages", options.messages);
    let names = COLUMNS.map(|(name, ..)| name).to_vec();
    let measure = async |column: usize| measure(options, COLUMNS[column], cores).await;
    take_turns(&options.setup, title, names, measure).await
}

async fn measure(
    options: &HistoryOptions,
    (_, query, count): (&str, &str, usize),
    cores: &Cores,
) -> Result<Vec<Sample>> {
    let variables = [
        ("CHANNELAPI_HISTORY_MAX_MESSAGES", options.messages.to_string()),
        ("CHANNELAPI_HISTORY_MAX_BYTES", "1GiB".to_owned()),
    ];
    let server = Server::start_with(Peer::Channelapi, cores, &variables).await?;
    let mut lanes = Lanes::connect(server.address, &server.auth_key, Dialect::V1, PUBLISHERS).await?;
    let (publications, until) = (options.messages, Instant::now() + Duration::from_mins(2));
    let load = lanes.publish(&Work { channels: 1, publications, until, rate: None }).await?;
    ensure!(load.latencies.len() as u64 == publications, "publishing takes longer than two minutes");
    drop(lanes);

    let path = format!("/v1/channels/{}/messages?{query}", channel(0, 1));
    let mut connected = Vec::new();
    for _ in 0..READERS {
        let mut reader = server.publisher().await?;
        // What is read for the first time is not part of the price, nor is connecting.
        read(&mut reader, &path, count).await?;
        connected.push(reader);
    }
    let (before, started) = (server.cpu()?, Instant::now());
    let until = started + Duration::from_secs(options.seconds);
    let mut readers = JoinSet::new();
    for mut reader in connected {
        let path = path.clone();
        readers.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < until {
                latencies.push(read(&mut reader, &path, count).await?);
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = readers.join_next().await {
        latencies.extend(ended?.context("reading failed")?);
    }
    let took = started.elapsed();
    let used = server.cpu()?.since(&before).total.as_secs_f64() * 1e6;
    latencies.sort_unstable();
    let reads = latencies.len();
    Ok(vec![
        Sample::rate("reads/s", real(reads) / took.as_secs_f64()),
        Sample::cost("CPU per read, µs", each(used, reads)),
        Sample::cost("CPU per message, µs", each(used, reads * count)),
        Sample::cost("p50 latency, ms", milliseconds(percentile(&latencies, 50))),
        Sample::cost("p99 latency, ms", milliseconds(percentile(&latencies, 99))),
    ])
}

/// Reads a page, which must have so many messages. Returns how long the answer took.
async fn read(reader: &mut Publisher, path: &str, count: usize) -> Result<Duration> {
    let sent = Instant::now();
    let answer = reader.get(path).await?;
    let took = sent.elapsed();
    let found = answer.windows(OFFSET.len()).filter(|window| *window == OFFSET).count();
    ensure!(found == count, "a page has {found} messages, not {count}");
    Ok(took)
}

/// Each message of a page has it once.
const OFFSET: &[u8] = b",\"offset\":";
