//! A long run in which clients come and go all the time: memory must not grow, and whoever is there gets everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::backend::{Backend, OVERLAPPING, Target};
use crate::comparison::{Comparison, compare};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::crowd::Crowd;
use crate::memory;
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts::Receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{MEBIBYTE, real};

/// Of how many groups the connections are; the oldest group leaves when a new one has come.
const GROUPS: usize = 20;

const GROWTH: &str = "RSS at the end, × after a third";
const SHARE_GROWTH: &str = "PSS at the end, × after a third";

/// Memory while connections come and go.
#[derive(Args)]
pub(crate) struct ChurnOptions {
    #[command(flatten)]
    pub(crate) comparison: Comparison,
    /// How many connections there are at a time.
    #[arg(short, long, default_value_t = 2_000)]
    connections: usize,
    /// For how many seconds, once all are there.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..=500))]
    seconds: u64,
}

pub(crate) async fn run(options: &ChurnOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    allow_connections(options.connections * 2)?;
    let title = format!("{} connections that come and go for {} s", options.connections, options.seconds);
    let sheet = compare(&options.comparison, title, async |peer| measure(options, peer, cores).await).await?;
    let criterion = Criterion::value(&sheet, GROWTH, Peer::Channelapi.name(), Wanted::AtMost(1.1));
    Ok((sheet, criterion.into_iter().collect()))
}

async fn measure(options: &ChurnOptions, peer: Peer, cores: &Cores) -> Result<Vec<Sample>> {
    let server = Server::start(peer, cores).await?;
    let receipts = Arc::new(Receipts::default());
    let mut backend = Backend::connect(&server, &receipts).await?;
    let door = peer.door(backend.token("shared").await?);
    let size = options.connections.div_ceil(GROUPS);
    // Each group has numbers of its own: what one of them should have had makes up for nothing that another one missed.
    let join =
        async |first| Crowd::gather_from(first, server.address, vec![door.clone(); size], &receipts).await;
    let (mut groups, mut replaced, mut early) = (VecDeque::new(), 0, None);
    for group in 0..GROUPS {
        groups.push_back(join(group * size).await?);
    }
    let (time, started) = (Duration::from_secs(options.seconds), Instant::now());
    while started.elapsed() < time {
        groups.push_back(join(replaced + GROUPS * size).await?);
        groups.pop_front();
        replaced += size;
        receipts.restart();
        let everybody = Target { channel: "shared".into(), subscribers: replaced..replaced + GROUPS * size };
        backend.publish(OVERLAPPING, vec![everybody; 2]).await.context("not all received it")?;
        groups.iter().try_for_each(Crowd::check)?;
        if early.is_none() && started.elapsed() > time / 3 {
            early = Some(server.memory()?);
        }
    }
    let took = started.elapsed();
    let (early, late) = (early.context("too short to replace a group")?, server.memory()?);
    receipts.check()?;
    let mebibytes = |[bytes]: [f64; 1]| bytes / MEBIBYTE;
    let mut samples = memory::rows(["RSS after a third, MiB", "PSS after a third, MiB"], [early], mebibytes);
    samples.extend(memory::rows(["RSS at the end, MiB", "PSS at the end, MiB"], [late], mebibytes));
    samples.extend(memory::rows([GROWTH, SHARE_GROWTH], [early, late], |[early, late]| late / early));
    samples.push(Sample::rate("connections replaced per second", real(replaced) / took.as_secs_f64()));
    Ok(samples)
}
