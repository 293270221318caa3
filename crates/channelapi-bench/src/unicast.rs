//! What it costs to reach one client: ten thousand channels with one connection each, kept on disk and not.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::backend::{Backend, DATA_BYTES, Style, Target};
use crate::comparison::{Comparison, compare_columns};
use crate::cores::Cores;
use crate::criteria::Wanted::AtMost;
use crate::criteria::{Criterion, Goal};
use crate::crowd::Crowd;
use crate::disk::ensure_disk;
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{each, milliseconds, percentile, real};

/// What goes to whoever is connected right now, and is kept nowhere. The peers know nothing else.
const VOLATILE: &str = "channelapi, volatile";

const CPU: &str = "CPU per publish, HTTP included, µs";

const GOALS: [Goal; 6] = [
    (CPU, "floor", AtMost(1.3)),
    (CPU, "socketioxide", AtMost(0.8)),
    (CPU, "node", AtMost(0.25)),
    (CPU, "centrifuge", AtMost(0.45)),
    (CPU, "centrifuge-tuned", AtMost(0.45)),
    (CPU, "sockudo", AtMost(0.45)),
];

/// CPU and latency of publications to one connection.
#[derive(Args)]
pub(crate) struct UnicastOptions {
    #[command(flatten)]
    pub(crate) comparison: Comparison,
    /// How many channels, with one connection each.
    #[arg(short, long, default_value_t = 10_000)]
    connections: usize,
    /// How many publications.
    #[arg(long, default_value_t = 30_000)]
    publications: usize,
    /// How many publications are on their way at once.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
}

pub(crate) async fn run(options: &UnicastOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    if options.comparison.peers.contains(&Peer::Channelapi) {
        // It stores what the peers do not.
        ensure_disk(&std::env::temp_dir())?;
    }
    allow_connections(options.connections + options.in_flight)?;
    let title = format!("To one of {} connections, {} in flight", options.connections, options.in_flight);
    let mut columns = Vec::new();
    for &peer in &options.comparison.peers {
        columns.push((peer.name(), peer));
        if peer == Peer::Channelapi {
            columns.push((VOLATILE, peer));
        }
    }
    let measure = async |column: usize| {
        let (name, peer) = columns[column];
        measure(options, peer, name == VOLATILE, cores).await
    };
    let sheet = compare_columns(&options.comparison.setup, title, &columns, measure).await?;
    let durable = Criterion::new(&sheet, CPU, [Peer::Channelapi.name(), VOLATILE], AtMost(1.3));
    let criteria = Criterion::of(&sheet, VOLATILE, &GOALS).into_iter().chain(durable).collect();
    Ok((sheet, criteria))
}

async fn measure(
    options: &UnicastOptions,
    peer: Peer,
    is_volatile: bool,
    cores: &Cores,
) -> Result<Vec<Sample>> {
    let server = Server::start(peer, cores).await?;
    let receipts = Arc::new(Receipts::default());
    let style = Style { data_bytes: DATA_BYTES, is_volatile };
    let mut backend = Backend::with(&server, &receipts, options.in_flight, style).await?;
    let (mut doors, mut targets) = (Vec::new(), Vec::new());
    for number in 0..options.connections {
        let channel = format!("own-{number}");
        doors.push(peer.door(backend.token(&channel).await?));
        targets.push(Target { channel: channel.into(), subscribers: number..number + 1 });
    }
    let crowd = Crowd::gather(server.address, doors, &receipts).await?;
    let all = targets.iter().cycle();
    let warm_up = all.clone().take(options.in_flight * 8).cloned().collect();
    backend.publish(options.in_flight, warm_up).await.context("warming up failed")?;

    receipts.restart();
    let before = server.cpu()?;
    let work = all.take(options.publications).cloned().collect();
    backend.publish(options.in_flight, work).await?;
    let used = server.cpu()?.since(&before);
    crowd.finish(&receipts).await?;
    let latencies = receipts.latencies();
    let cpu = each(used.total.as_secs_f64() * 1e6, latencies.len());
    Ok(vec![
        Sample::cost(CPU, cpu),
        Sample::cost("… of it outside the kernel, µs", cpu * used.user_share.unwrap_or_default()),
        Sample::cost("p50 latency, ms", milliseconds(percentile(&latencies, 50))),
        Sample::cost("p99 latency, ms", milliseconds(percentile(&latencies, 99))),
        Sample::fact("publications", real(latencies.len())),
    ])
}
