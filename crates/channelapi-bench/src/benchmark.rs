//! The benchmarks, each with its own options, and what all of them do around the measuring.

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use serde_json::{Map, Value};

use crate::batch::{self, BatchOptions};
use crate::churn::{self, ChurnOptions};
use crate::comparison::{Comparison, Setup};
use crate::connections::{self, ConnectionsOptions};
use crate::cores::Cores;
use crate::criteria::Criterion;
use crate::delivery::{self, DeliveryOptions};
use crate::history::{self, HistoryOptions};
use crate::kinds::{self, KindsOptions};
use crate::outcome::Outcome;
use crate::paced::{self, PacedOptions};
use crate::peer::Peer;
use crate::publish::{self, PublishOptions};
use crate::reconnect::{self, ReconnectOptions};
use crate::report::Sheet;
use crate::resume::{self, ResumeOptions};
use crate::scaling::{self, ScalingOptions};
use crate::slow::{self, SlowOptions};
use crate::stalled::{self, StalledOptions};
use crate::start::{self, StartOptions};
use crate::storm::{self, StormOptions};
use crate::unicast::{self, UnicastOptions};
use crate::upkeep::{self, UpkeepOptions};

#[derive(Subcommand)]
pub(crate) enum Benchmark {
    /// Memory and CPU of connections that join and then idle.
    Connections(ConnectionsOptions),
    /// Memory of connections that can come back to where they were, of those with TLS, and of long-polling, beside plain ones.
    Kinds(KindsOptions),
    /// CPU and latency of deliveries to many and to one.
    Delivery(DeliveryOptions),
    /// Latency of broadcasts at a fixed, moderate rate.
    Paced(PacedOptions),
    /// CPU and latency of publications to one connection among many.
    Unicast(UnicastOptions),
    /// CPU and latency of publishing that is on disk before it is answered, beside Redis and the disk itself.
    Publish(PublishOptions),
    /// CPU of messages in batches, beside messages one by one.
    Batch(BatchOptions),
    /// Bytes and CPU of deliveries to connections that can come back to where they were.
    Resume(ResumeOptions),
    /// Memory of the server while a client does not read, and how soon the client has caught up.
    Slow(SlowOptions),
    /// What clients that do not read cost those that do.
    Stalled(StalledOptions),
    /// CPU and latency of reading what was published.
    History(HistoryOptions),
    /// Latency of publishing while the log is tidied up.
    Upkeep(UpkeepOptions),
    /// How soon it answers again when it keeps a million messages.
    Start(StartOptions),
    /// Fan-out with one core and with all of them.
    Scaling(ScalingOptions),
    /// How soon thousands of resumable clients are back after kill -9, and what it takes.
    Reconnect(ReconnectOptions),
    /// Whether memory comes back after waves of connections.
    Storm(StormOptions),
    /// Whether memory stays the same while connections come and go.
    Churn(ChurnOptions),
}

type Found = (Vec<Sheet>, Vec<Criterion>);

impl Benchmark {
    pub(crate) fn setup(&self) -> &Setup {
        match self {
            Self::Connections(options) => &options.comparison.setup,
            Self::Kinds(options) => &options.setup,
            Self::Delivery(options) => &options.comparison.setup,
            Self::Paced(options) => &options.comparison.setup,
            Self::Unicast(options) => &options.comparison.setup,
            Self::Publish(options) => &options.setup,
            Self::Batch(options) => &options.setup,
            Self::Resume(options) => &options.setup,
            Self::Slow(options) => &options.setup,
            Self::Stalled(options) => &options.setup,
            Self::History(options) => &options.setup,
            Self::Upkeep(options) => &options.setup,
            Self::Start(options) => &options.setup,
            Self::Scaling(options) => &options.setup,
            Self::Reconnect(options) => &options.setup,
            Self::Storm(options) => &options.comparison.setup,
            Self::Churn(options) => &options.comparison.setup,
        }
    }

    /// Installs what is needed, measures, and tells what with. `arguments` are those of the command line.
    pub(crate) async fn run(mut self, arguments: Vec<String>, shared: &Cores) -> Result<Outcome> {
        let versions = self.prepare()?;
        let cores = if self.setup().no_pin { shared.join() } else { shared.split() };
        cores.enter()?;
        let (sheets, criteria) = self.measure(&cores).await?;
        let (cores, rounds) = (cores.describe(), self.setup().rounds);
        Ok(Outcome { arguments, cores, rounds, versions, sheets, criteria })
    }

    /// Installs who is measured; a peer that cannot be installed is left out. Returns the versions, or the reasons.
    fn prepare(&mut self) -> Result<Map<String, Value>> {
        if let Some(comparison) = self.comparison() {
            return comparison.prepare();
        }
        if let Self::Publish(options) = self {
            options.prepare()?;
            let version = |way: &publish::Way| anyhow::Ok((way.name().to_owned(), way.version()?.into()));
            return options.ways.iter().map(version).collect();
        }
        Peer::Channelapi.prepare()?;
        Ok(Map::from_iter([(Peer::Channelapi.name().to_owned(), Peer::Channelapi.version()?.into())]))
    }

    /// Of those that compare servers.
    fn comparison(&mut self) -> Option<&mut Comparison> {
        match self {
            Self::Connections(options) => Some(&mut options.comparison),
            Self::Delivery(options) => Some(&mut options.comparison),
            Self::Paced(options) => Some(&mut options.comparison),
            Self::Unicast(options) => Some(&mut options.comparison),
            Self::Storm(options) => Some(&mut options.comparison),
            Self::Churn(options) => Some(&mut options.comparison),
            _ => None,
        }
    }

    async fn measure(&self, cores: &Cores) -> Result<Found> {
        let one = |(sheet, criteria): (Sheet, Vec<Criterion>)| (vec![sheet], criteria);
        let alone = |sheet: Sheet| (vec![sheet], Vec::new());
        Ok(match self {
            Self::Connections(options) => one(connections::run(options, cores).await?),
            Self::Kinds(options) => one(kinds::run(options, cores).await?),
            Self::Delivery(options) => delivery::run(options, cores).await?,
            Self::Paced(options) => one(paced::run(options, cores).await?),
            Self::Unicast(options) => one(unicast::run(options, cores).await?),
            Self::Publish(options) => publish::run(options, cores).await?,
            Self::Batch(options) => one(batch::run(options, cores).await?),
            Self::Resume(options) => resume::run(options, cores).await?,
            Self::Slow(options) => alone(slow::run(options, cores).await?),
            Self::Stalled(options) => one(stalled::run(options, cores).await?),
            Self::History(options) => alone(history::run(options, cores).await?),
            Self::Upkeep(options) => one(upkeep::run(options, cores).await?),
            Self::Start(options) => one(start::run(options, cores).await?),
            Self::Scaling(options) => one(scaling::run(options, cores).await?),
            Self::Reconnect(options) => one(reconnect::run(options, cores).await?),
            Self::Storm(options) => one(storm::run(options, cores).await?),
            Self::Churn(options) => one(churn::run(options, cores).await?),
        })
    }
}

impl Comparison {
    /// Installs the peers and leaves out those that cannot be. Returns the versions, or the reasons.
    fn prepare(&mut self) -> Result<Map<String, Value>> {
        let mut versions = Map::new();
        let mut present = Vec::new();
        for &peer in &self.peers {
            let version = match peer.prepare_once().and_then(|()| peer.version()) {
                Ok(version) => {
                    present.push(peer);
                    version
                }
                Err(error) if !peer.is_ours() => {
                    eprintln!("{} is left out: {error:#}", peer.name());
                    format!("not measured: {error:#}")
                }
                Err(error) => return Err(error).with_context(|| format!("no {}", peer.name())),
            };
            versions.insert(peer.name().to_owned(), version.into());
        }
        self.peers = present;
        ensure!(!self.peers.is_empty(), "nobody is left to be measured");
        Ok(versions)
    }
}
