//! What each kind of connection costs while it idles: over WebSocket, one that can come back to where it was, over WebSocket with TLS, and
//! over long-polling.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::time::sleep;

use crate::backend::{Backend, OVERLAPPING, Target};
use crate::certificate::Certificate;
use crate::client::Door;
use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::crowd::Crowd;
use crate::memory;
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::each;

const COLUMNS: [&str; 4] = ["websocket", "resumable", "wss", "polling"];

const MEMORY: &str = "RSS per idle connection, bytes";
const MEMORY_AFTER: &str = "RSS per connection after traffic, bytes";
const SHARE: &str = "PSS per idle connection, bytes";
const SHARE_AFTER: &str = "PSS per connection after traffic, bytes";

/// Bytes that an idle connection may cost. There is no bound for polling: each waits with an HTTP request.
const BOUNDS: [(&str, f64); 3] = [("websocket", 2048.0), ("resumable", 2560.0), ("wss", 12_288.0)];

/// So many connections a client over long-polling counts as: its session is one, and the socket that its request waits on is another.
/// Twice as many as there are of the other kinds would not fit the file descriptors that are usual.
const POLLING_TAKES: usize = 2;

/// So much less is delivered to those that poll: each delivery is a request of its own, and takes its time.
const POLLING_DELIVERS: usize = 10;

/// How long a started server is left alone before its memory counts as that of an empty one.
const START_SETTLE: Duration = Duration::from_secs(2);

/// Memory of each kind of connection.
#[derive(Args)]
pub(crate) struct KindsOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How many connections to open.
    #[arg(short, long, default_value_t = 10_000)]
    connections: usize,
    /// Deliveries to all of them together before memory is read for the second time; to those that poll a tenth of it.
    #[arg(long, default_value_t = 1_000_000)]
    deliveries: usize,
    /// Seconds of quiet before memory is read.
    #[arg(long, default_value_t = 12)]
    settle: u64,
}

pub(crate) async fn run(options: &KindsOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    allow_connections(options.connections)?;
    let title = format!(
        "{} connections of each kind, {} that poll",
        options.connections,
        options.connections / POLLING_TAKES
    );
    let measure = async |column: usize| measure(options, COLUMNS[column], cores).await;
    let sheet = take_turns(&options.setup, title, COLUMNS.to_vec(), measure).await?;
    let bounds = BOUNDS.iter().flat_map(|(kind, bytes)| {
        [MEMORY, MEMORY_AFTER].map(|row| Criterion::value(&sheet, row, kind, Wanted::AtMost(*bytes)))
    });
    let criteria = bounds.flatten().collect();
    Ok((sheet, criteria))
}

async fn measure(options: &KindsOptions, kind: &str, cores: &Cores) -> Result<Vec<Sample>> {
    let settle = Duration::from_secs(options.settle);
    let count = if kind == "polling" { options.connections / POLLING_TAKES } else { options.connections };
    let certificate = if kind == "wss" { Some(Certificate::make()?) } else { None };
    let server = match &certificate {
        Some(certificate) => Server::start_secure(cores, certificate).await?,
        None => Server::start(Peer::Channelapi, cores).await?,
    };
    let receipts = Arc::new(Receipts::default());
    sleep(START_SETTLE).await;
    let empty = server.memory()?;
    let token = Backend::connect(&server, &receipts).await?.token("shared").await?;
    let door = match (kind, &certificate) {
        (_, Some(certificate)) => Door::Secure(token, certificate.clients.clone()),
        ("resumable", _) => Door::handshake(&[token], true),
        ("polling", _) => Door::Polling(token),
        _ => Door::Seed(token),
    };
    let address = server.secure_address.unwrap_or(server.address);
    let before = server.cpu()?;
    let crowd = Crowd::gather(address, vec![door; count], &receipts).await?;
    let joining = server.cpu()?.since(&before).total;
    sleep(settle).await;
    crowd.check()?;
    let idle = server.memory()?;
    let mut backend = Backend::connect(&server, &receipts).await?;
    let everybody = Target { channel: "shared".into(), subscribers: 0..count };
    let deliveries =
        if kind == "polling" { options.deliveries / POLLING_DELIVERS } else { options.deliveries };
    let traffic = vec![everybody; deliveries.div_ceil(count.max(1)).max(1)];
    backend.publish(OVERLAPPING, traffic).await.context("not all received a publication")?;
    drop(backend);
    sleep(settle).await;
    let after = server.memory()?;
    crowd.finish(&receipts).await?;
    let of_one = |[empty, memory]: [f64; 2]| each(memory - empty, count);
    let mut samples = memory::rows([MEMORY, SHARE], [empty, idle], of_one);
    samples.extend(memory::rows([MEMORY_AFTER, SHARE_AFTER], [empty, after], of_one));
    samples.push(Sample::cost("CPU per connect and join, µs", each(joining.as_secs_f64() * 1e6, count)));
    Ok(samples)
}
