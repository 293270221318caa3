//! What a delivery costs: to many at once, with overlapping publications, and to one.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::backend::{Backend, DATA_BYTES, OVERLAPPING, Style, Target};
use crate::comparison::{Comparison, compare};
use crate::cores::Cores;
use crate::criteria::Wanted::AtMost;
use crate::criteria::{Criterion, Goal};
use crate::crowd::Crowd;
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{each, milliseconds, percentile, real};

/// Connections that are alone in their channels, for the deliveries to one.
const UNICAST_CHANNELS: usize = 64;

/// Fewest publications in a phase, however many subscribers they have: a median of less says little.
pub(crate) const PUBLICATIONS_MIN: usize = 24;

/// CPU and latency of deliveries.
#[derive(Args)]
pub(crate) struct DeliveryOptions {
    #[command(flatten)]
    pub(crate) comparison: Comparison,
    /// How many connections share the channel; one table for each number.
    #[arg(short, long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    connections: Vec<usize>,
    /// Deliveries of each fan-out phase.
    #[arg(long, default_value_t = 250_000)]
    deliveries: usize,
    /// Bytes of each publication's data.
    #[arg(long, default_value_t = DATA_BYTES)]
    size: usize,
    /// Publications of the unicast phase.
    #[arg(long, default_value_t = 20_000)]
    unicasts: usize,
}

const CPU: &str = "one at a time: CPU per delivery, µs";
const CPU_OVERLAPPING: &str = "8 overlapping: CPU per delivery, µs";

/// For many connections, where the deliveries outweigh the publish.
const GOALS: [Goal; 14] = [
    (CPU, "floor", AtMost(1.2)),
    (CPU, "socketioxide", AtMost(0.62)),
    (CPU, "node-uws", AtMost(0.85)),
    (CPU, "node", AtMost(0.5)),
    (CPU, "centrifuge", AtMost(0.45)),
    (CPU, "centrifuge-tuned", AtMost(0.45)),
    (CPU, "sockudo", AtMost(0.45)),
    (CPU_OVERLAPPING, "floor", AtMost(0.35)),
    (CPU_OVERLAPPING, "socketioxide", AtMost(0.55)),
    (CPU_OVERLAPPING, "node-uws", AtMost(0.7)),
    (CPU_OVERLAPPING, "node", AtMost(1.0)),
    (CPU_OVERLAPPING, "centrifuge", AtMost(0.45)),
    (CPU_OVERLAPPING, "centrifuge-tuned", AtMost(0.45)),
    (CPU_OVERLAPPING, "sockudo", AtMost(0.45)),
];

/// How many are many.
const MANY: usize = 10_000;

/// Measures every peer in every round, for each number of connections.
pub(crate) async fn run(options: &DeliveryOptions, cores: &Cores) -> Result<(Vec<Sheet>, Vec<Criterion>)> {
    let (mut sheets, mut criteria) = (Vec::new(), Vec::new());
    for &count in &options.connections {
        allow_connections(count + UNICAST_CHANNELS)?;
        let is_usual = options.size == DATA_BYTES;
        let size = if is_usual { String::new() } else { format!(", {} bytes", options.size) };
        let title = format!("Delivery to {count} connections{size}");
        let sheet =
            compare(&options.comparison, title, async |peer| measure(options, count, peer, cores).await)
                .await?;
        if count >= MANY && is_usual {
            criteria.extend(Criterion::of(&sheet, Peer::Channelapi.name(), &GOALS));
        }
        sheets.push(sheet);
    }
    Ok((sheets, criteria))
}

async fn measure(options: &DeliveryOptions, count: usize, peer: Peer, cores: &Cores) -> Result<Vec<Sample>> {
    let server = Server::start(peer, cores).await?;
    let receipts = Arc::new(Receipts::default());
    let style = Style { data_bytes: options.size, ..Style::default() };
    let mut backend = Backend::with(&server, &receipts, OVERLAPPING, style).await?;
    let mut doors = vec![peer.door(backend.token("shared").await?); count];
    let shared = Target { channel: "shared".into(), subscribers: 0..count };
    let mut single = Vec::new();
    for number in 0..UNICAST_CHANNELS {
        let channel = format!("own-{number}");
        doors.push(peer.door(backend.token(&channel).await?));
        let index = count + number;
        single.push(Target { channel: channel.into(), subscribers: index..index + 1 });
    }
    let crowd = Crowd::gather(server.address, doors, &receipts).await?;

    let publications = (options.deliveries / count.max(1)).max(PUBLICATIONS_MIN);
    let fanout = vec![shared.clone(); publications];
    let unicast: Vec<_> = single.iter().cycle().take(options.unicasts).cloned().collect();
    // Buffers and code paths that are used for the first time are not part of the price.
    let warm_up = [vec![shared; OVERLAPPING], single].concat();
    backend.publish(OVERLAPPING, warm_up).await.context("warming up failed")?;

    let mut run = Run { server: &server, receipts: &receipts, backend: &mut backend };
    let one_by_one = run.phase(1, fanout.clone()).await?;
    let overlapping = run.phase(OVERLAPPING, fanout).await?;
    let orders = receipts.distinct_orders();
    let to_one = run.phase(OVERLAPPING, unicast).await?;
    crowd.finish(&receipts).await?;
    ensure_one_order(orders, peer)?;
    Ok(vec![
        Sample::cost(CPU, one_by_one.cpu),
        Sample::cost("… of it outside the kernel, µs", one_by_one.cpu_user),
        Sample::cost("… p50 latency, ms", one_by_one.p50),
        Sample::cost("… p99 latency, ms", one_by_one.p99),
        Sample::cost(CPU_OVERLAPPING, overlapping.cpu),
        Sample::cost("… … of it outside the kernel, µs", overlapping.cpu_user),
        Sample::cost("… … p50 latency, ms", overlapping.p50),
        Sample::cost("… … p99 latency, ms", overlapping.p99),
        Sample::fact("… … different orders among the subscribers", real(orders)),
        Sample::cost("to one, POST included: CPU per delivery, µs", to_one.cpu),
        Sample::cost("… … … p50 latency, ms", to_one.p50),
        Sample::cost("… … … p99 latency, ms", to_one.p99),
    ])
}

/// Our own promise is one order for all subscribers of a channel; what others promise is only told.
pub(crate) fn ensure_one_order(orders: usize, peer: Peer) -> Result<()> {
    ensure!(orders == 1 || !peer.is_ours(), "the subscribers of one channel saw {orders} different orders");
    Ok(())
}

/// The parts of a running measurement.
pub(crate) struct Run<'a> {
    pub(crate) server: &'a Server,
    pub(crate) receipts: &'a Receipts,
    pub(crate) backend: &'a mut Backend,
}

/// Microseconds of CPU per delivery, milliseconds from the request to the receipt.
pub(crate) struct Phase {
    pub(crate) cpu: f64,
    pub(crate) cpu_user: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Run<'_> {
    pub(crate) async fn phase(&mut self, in_flight: usize, targets: Vec<Target>) -> Result<Phase> {
        self.receipts.restart();
        let before = self.server.cpu()?;
        self.backend.publish(in_flight, targets).await?;
        let used = self.server.cpu()?.since(&before);
        let latencies = self.receipts.latencies();
        let cpu = each(used.total.as_secs_f64() * 1e6, latencies.len());
        Ok(Phase {
            cpu,
            cpu_user: cpu * used.user_share.unwrap_or_default(),
            p50: milliseconds(percentile(&latencies, 50)),
            p99: milliseconds(percentile(&latencies, 99)),
        })
    }
}
