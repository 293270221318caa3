//! What a message costs in a batch, compared to one that is published alone.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use tokio::task::JoinSet;

use crate::backend::DATA_BYTES;
use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::disk::ensure_disk;
use crate::lanes::{Dialect, Lanes, Work, channel};
use crate::peer::Peer;
use crate::process::Server;
use crate::publisher::Publisher;
use crate::receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{each, real};

const COLUMNS: [&str; 2] = ["one by one", "in batches"];

/// Requests on their way at once: of single messages, and of batches.
const IN_FLIGHT: [usize; 2] = [64, 8];

const CPU: &str = "CPU per message, µs";

/// Messages in batches, beside messages one by one.
#[derive(Args)]
pub(crate) struct BatchOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Messages of a batch, each to another channel.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    size: u64,
    /// How many batches; as many messages are published one by one.
    #[arg(long, default_value_t = 1_000)]
    batches: u64,
}

pub(crate) async fn run(options: &BatchOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    ensure_disk(&std::env::temp_dir())?;
    let title = format!("Batches of {0} messages to {0} channels", options.size);
    let measure = async |column: usize| measure(options, column == 1, cores).await;
    let sheet = take_turns(&options.setup, title, COLUMNS.to_vec(), measure).await?;
    let [single, batched] = COLUMNS;
    let criterion = Criterion::new(&sheet, CPU, [batched, single], Wanted::AtMost(0.5));
    Ok((sheet, criterion.into_iter().collect()))
}

async fn measure(options: &BatchOptions, is_batched: bool, cores: &Cores) -> Result<Vec<Sample>> {
    let server = Server::start(Peer::Channelapi, cores).await?;
    let messages = options.size * options.batches;
    let before = server.cpu()?;
    let elapsed =
        if is_batched { in_batches(options, &server).await? } else { one_by_one(options, &server).await? };
    let used = server.cpu()?.since(&before).total;
    let count = usize::try_from(messages)?;
    Ok(vec![
        Sample::rate("messages/s", real(count) / elapsed.as_secs_f64()),
        Sample::cost(CPU, each(used.as_secs_f64() * 1e6, count)),
    ])
}

async fn one_by_one(options: &BatchOptions, server: &Server) -> Result<Duration> {
    let mut lanes = Lanes::connect(server.address, &server.auth_key, Dialect::V1, IN_FLIGHT[0]).await?;
    let (publications, until) = (options.size * options.batches, Instant::now() + Duration::from_mins(5));
    let load = lanes.publish(&Work { channels: options.size, publications, until, rate: None }).await?;
    ensure!(load.latencies.len() as u64 == publications, "publishing takes longer than five minutes");
    Ok(load.elapsed)
}

async fn in_batches(options: &BatchOptions, server: &Server) -> Result<Duration> {
    let mut publishers = JoinSet::new();
    let started = Instant::now();
    for first in 0..IN_FLIGHT[1] as u64 {
        let (mut publisher, size) = (server.publisher().await?, options.size);
        let numbers: Vec<_> = (first..options.batches).step_by(IN_FLIGHT[1]).collect();
        publishers.spawn(async move {
            for number in numbers {
                publish(&mut publisher, number, size).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = publishers.join_next().await {
        ended??;
    }
    Ok(started.elapsed())
}

async fn publish(publisher: &mut Publisher, number: u64, size: u64) -> Result<()> {
    let mut body = "{\"messages\":[".to_owned();
    for index in 0..size {
        let separator = if index == 0 { "" } else { "," };
        let (channel, data) = (channel(index, size), receipts::data(number, DATA_BYTES));
        write!(body, "{separator}{{\"channel\":\"{channel}\",\"data\":{data}}}")?;
    }
    body.push_str("]}");
    let answer = publisher.post("/v1/messages", &body).await?;
    let stored = format!("\"stored\":{size},\"failed\":0");
    ensure!(
        answer.windows(stored.len()).any(|window| window == stored.as_bytes()),
        "not all of a batch was stored: {:?}",
        String::from_utf8_lossy(&answer[..answer.len().min(300)])
    );
    Ok(())
}
