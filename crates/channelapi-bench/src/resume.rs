//! What it costs that a connection can come back to where it was: the checkpoints behind its publications, in one channel and in
//! many.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::backend::{Backend, OVERLAPPING, Target};
use crate::client::Door;
use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::crowd::Crowd;
use crate::delivery::{PUBLICATIONS_MIN, Phase, Run, ensure_one_order};
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::real;

/// Who is measured: its name, whether it is in many channels, and whether it can come back.
const COLUMNS: [(&str, bool, bool); 4] = [
    ("plain", false, false),
    ("resumable", false, true),
    ("plain in many", true, false),
    ("resumable in many", true, true),
];

const CPU: &str = "one at a time: CPU per delivery, µs";
const BYTES: &str = "… bytes per delivery";
const CPU_OVERLAPPING: &str = "8 overlapping: CPU per delivery, µs";
const BYTES_OVERLAPPING: &str = "… … bytes per delivery";

/// "About equal" for figures that differ by a tenth between rounds anyway.
const ABOUT_EQUAL: f64 = 1.1;

/// What a delivery with its checkpoint may cost, compared to one without.
const OF_PLAIN: f64 = 1.5;

/// Plain connections, resumable ones in one channel, and resumable ones in many.
#[derive(Args)]
pub(crate) struct ResumeOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How many connections share the channels.
    #[arg(short, long, default_value_t = 1_000)]
    connections: usize,
    /// In how many channels "many" is: all connections are in all of them, and publications take turns.
    #[arg(long, default_value_t = 100)]
    channels: usize,
    /// Deliveries of each phase.
    #[arg(long, default_value_t = 250_000)]
    deliveries: usize,
}

pub(crate) async fn run(options: &ResumeOptions, cores: &Cores) -> Result<(Vec<Sheet>, Vec<Criterion>)> {
    allow_connections(options.connections)?;
    let title =
        format!("Resumable: {} connections, many is {} channels", options.connections, options.channels);
    let names = COLUMNS.map(|(name, ..)| name);
    let measure = async |column: usize| measure(options, COLUMNS[column], cores).await;
    let sheet = take_turns(&options.setup, title, names.to_vec(), measure).await?;
    let [plain, one, _, many] = names;
    let criteria = [CPU, BYTES, CPU_OVERLAPPING]
        .map(|row| Criterion::new(&sheet, row, [many, one], Wanted::AtMost(ABOUT_EQUAL)));
    let dearer =
        [CPU, CPU_OVERLAPPING].map(|row| Criterion::new(&sheet, row, [one, plain], Wanted::AtMost(OF_PLAIN)));
    let criteria = criteria.into_iter().chain(dearer).flatten().collect();
    Ok((vec![sheet], criteria))
}

async fn measure(
    options: &ResumeOptions,
    (_, is_in_many, is_resumable): (&str, bool, bool),
    cores: &Cores,
) -> Result<Vec<Sample>> {
    let server = Server::start(Peer::Channelapi, cores).await?;
    let receipts = Arc::new(Receipts::default());
    let mut backend = Backend::connect(&server, &receipts).await?;
    let (mut tokens, mut targets) = (Vec::new(), Vec::new());
    for number in 0..if is_in_many { options.channels } else { 1 } {
        let channel = format!("channel-{number}");
        tokens.push(backend.token(&channel).await?);
        targets.push(Target { channel: channel.into(), subscribers: 0..options.connections });
    }
    let door = Door::handshake(&tokens, is_resumable);
    let before = server.cpu()?;
    let crowd = Crowd::gather(server.address, vec![door; options.connections], &receipts).await?;
    let joining = server.cpu()?.since(&before).total;

    let publications = (options.deliveries / options.connections.max(1)).max(PUBLICATIONS_MIN);
    let targets: Vec<_> = targets.into_iter().cycle().take(publications).collect();
    // Buffers and code paths that are used for the first time are not part of the price.
    let warm_up = targets.iter().take(OVERLAPPING).cloned().collect();
    backend.publish(OVERLAPPING, warm_up).await.context("warming up failed")?;
    let mut run = Run { server: &server, receipts: &receipts, backend: &mut backend };
    let one_by_one = run.phase(1, targets.clone()).await?;
    let bytes_one_by_one = bytes(&receipts);
    let overlapping = run.phase(OVERLAPPING, targets).await?;
    let orders = receipts.distinct_orders();
    crowd.finish(&receipts).await?;
    if !is_in_many {
        ensure_one_order(orders, Peer::Channelapi)?;
    }

    let Phase { cpu, p50, p99, .. } = one_by_one;
    Ok(vec![
        Sample::cost("CPU per connect and join, µs", {
            joining.as_secs_f64() * 1e6 / real(options.connections)
        }),
        Sample::cost(CPU, cpu),
        Sample::cost(BYTES, bytes_one_by_one),
        Sample::cost("… p50 latency, ms", p50),
        Sample::cost("… p99 latency, ms", p99),
        Sample::cost(CPU_OVERLAPPING, overlapping.cpu),
        Sample::cost(BYTES_OVERLAPPING, bytes(&receipts)),
        Sample::cost("… … p50 latency, ms", overlapping.p50),
        Sample::cost("… … p99 latency, ms", overlapping.p99),
        Sample::fact("… … different orders among the subscribers", real(orders)),
    ])
}

/// What all connections received, shared out to the deliveries.
fn bytes(receipts: &Receipts) -> f64 {
    real(receipts.bytes()) / real(receipts.latencies().len())
}
