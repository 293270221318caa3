//! What a message costs in a batch, compared to one that is published alone.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
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

/// Batches before it counts, or as many messages.
const WARM_UP: u64 = 10;

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
    let (elapsed, used) =
        if is_batched { in_batches(options, &server).await? } else { one_by_one(options, &server).await? };
    let count = usize::try_from(options.size * options.batches)?;
    Ok(vec![
        Sample::rate("messages/s", real(count) / elapsed.as_secs_f64()),
        Sample::cost(CPU, each(used.as_secs_f64() * 1e6, count)),
    ])
}

/// How long it took, and the server's CPU time. Connecting, and channels that are new, are no part of either.
async fn one_by_one(options: &BatchOptions, server: &Server) -> Result<(Duration, Duration)> {
    let mut lanes = Lanes::connect(server.address, &server.auth_key, Dialect::V1, IN_FLIGHT[0]).await?;
    let work = |batches| Work {
        channels: options.size,
        publications: options.size * batches,
        until: Instant::now() + Duration::from_mins(5),
        rate: None,
    };
    lanes.publish(&work(WARM_UP)).await.context("warming up failed")?;
    let (before, work) = (server.cpu()?, work(options.batches));
    let load = lanes.publish(&work).await?;
    let used = server.cpu()?.since(&before).total;
    ensure!(load.latencies.len() as u64 == work.publications, "publishing takes longer than five minutes");
    Ok((load.elapsed, used))
}

/// The same.
async fn in_batches(options: &BatchOptions, server: &Server) -> Result<(Duration, Duration)> {
    let mut connected = Vec::new();
    for _ in 0..IN_FLIGHT[1] {
        connected.push(server.publisher().await?);
    }
    for number in 0..WARM_UP {
        publish(&mut connected[0], number, options.size).await.context("warming up failed")?;
    }
    let mut publishers = JoinSet::new();
    let (before, started) = (server.cpu()?, Instant::now());
    for (first, mut publisher) in (0..).zip(connected) {
        let size = options.size;
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
    Ok((started.elapsed(), server.cpu()?.since(&before).total))
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
