//! How long a broadcast takes when nobody is in a hurry: publications to everybody at a fixed rate, far below what is possible.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::backend::{Backend, OVERLAPPING, Target};
use crate::comparison::{Comparison, compare};
use crate::cores::Cores;
use crate::criteria::Wanted::AtMost;
use crate::criteria::{Criterion, Goal};
use crate::crowd::Crowd;
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{each, milliseconds, permille, real};

const P99: &str = "p99 latency, ms";

const GOALS: [Goal; 7] = [
    (P99, "socketioxide", AtMost(0.65)),
    (P99, "node", AtMost(1.0)),
    (P99, "node-uws", AtMost(1.0)),
    (P99, "python-socketio", AtMost(1.0)),
    (P99, "centrifuge", AtMost(1.0)),
    (P99, "centrifuge-tuned", AtMost(1.0)),
    (P99, "sockudo", AtMost(1.0)),
];

/// Latency of broadcasts at a fixed, moderate rate.
#[derive(Args)]
pub(crate) struct PacedOptions {
    #[command(flatten)]
    pub(crate) comparison: Comparison,
    /// How many connections share the channel.
    #[arg(short, long, default_value_t = 10_000)]
    connections: usize,
    /// Publications per second.
    #[arg(long, default_value_t = 2.0)]
    rate: f64,
    /// How many publications.
    #[arg(long, default_value_t = 40)]
    publications: usize,
}

pub(crate) async fn run(options: &PacedOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    // Where latency is measured and nobody is in a hurry, the kernel's own work is to find the clients' cores free.
    let cores = &cores.clone().with_sleep();
    allow_connections(options.connections)?;
    let title = format!("{} broadcasts per second to {} connections", options.rate, options.connections);
    let sheet = compare(&options.comparison, title, async |peer| measure(options, peer, cores).await).await?;
    let criteria = Criterion::of(&sheet, Peer::Channelapi.name(), &GOALS);
    Ok((sheet, criteria))
}

async fn measure(options: &PacedOptions, peer: Peer, cores: &Cores) -> Result<Vec<Sample>> {
    let server = Server::start(peer, cores).await?;
    let receipts = Arc::new(Receipts::default());
    let mut backend = Backend::connect(&server, &receipts).await?;
    let door = peer.door(backend.token("shared").await?);
    let crowd = Crowd::gather(server.address, vec![door; options.connections], &receipts).await?;
    let target = Target { channel: "shared".into(), subscribers: 0..options.connections };
    let warm_up = vec![target.clone(); OVERLAPPING];
    backend.publish(1, warm_up).await.context("warming up failed")?;

    receipts.restart();
    let before = server.cpu()?;
    backend.publish_paced(options.rate, vec![target; options.publications]).await?;
    let used = server.cpu()?.since(&before).total;
    crowd.finish(&receipts).await?;
    let latencies = receipts.latencies();
    Ok(vec![
        Sample::cost("p50 latency, ms", milliseconds(permille(&latencies, 500))),
        Sample::cost(P99, milliseconds(permille(&latencies, 990))),
        Sample::cost("p99.9 latency, ms", milliseconds(permille(&latencies, 999))),
        Sample::cost("CPU per delivery, µs", each(used.as_secs_f64() * 1e6, latencies.len())),
        Sample::fact("deliveries", real(latencies.len())),
    ])
}
