//! Load generator: measures servers that speak the seed contract, side by side, from outside.
//!
//! One thread plays all clients and the backend. Each server is a child process on loopback, its memory and CPU time are
//! read from `/proc`, and it is killed on every way out.

mod backend;
mod client;
mod comparison;
mod connections;
mod cores;
mod criteria;
mod crowd;
mod delivery;
mod disk;
mod floor;
mod frame;
mod lanes;
mod machine;
mod peer;
mod process;
mod publish;
mod publisher;
mod receipts;
mod redis;
mod report;
mod resume;
mod slow;
mod statistics;
mod upkeep;
mod usage;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::comparison::{Comparison, Setup};
use crate::connections::ConnectionsOptions;
use crate::cores::Cores;
use crate::criteria::Criterion;
use crate::delivery::DeliveryOptions;
use crate::floor::FloorOptions;
use crate::peer::Peer;
use crate::publish::PublishOptions;
use crate::report::Sheet;
use crate::resume::ResumeOptions;
use crate::slow::SlowOptions;
use crate::upkeep::UpkeepOptions;

/// Measures what connections, deliveries and publishing cost, beside others that do the same job.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Memory and CPU of connections that join and then idle.
    Connections(ConnectionsOptions),
    /// CPU and latency of deliveries to many and to one.
    Delivery(DeliveryOptions),
    /// CPU and latency of publishing that is on disk before it is answered, beside Redis and the disk itself.
    Publish(PublishOptions),
    /// Bytes and CPU of deliveries to connections that can come back to where they were.
    Resume(ResumeOptions),
    /// Memory of the server while a client does not read, and how soon the client has caught up.
    Slow(SlowOptions),
    /// Latency of publishing while the log is tidied up.
    Upkeep(UpkeepOptions),
    /// Becomes the peer `floor`; started by the others.
    #[command(hide = true)]
    Floor(FloorOptions),
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> Result<()> {
    if let Arguments::Floor(options) = &arguments {
        return floor::serve(options);
    }
    // One thread: the clients shall use the same core in every run, and no locks between them.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Giving up drops the run, and with it every server that it has started.
        tokio::select! {
            done = run(arguments) => done,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn run(arguments: Arguments) -> Result<()> {
    match arguments {
        Arguments::Connections(options) => {
            let bench = Bench::of_peers(&options.comparison)?;
            let sheet = connections::run(&options, &bench.cores).await?;
            bench.report(&options.comparison.setup, &[sheet], &[])
        }
        Arguments::Delivery(options) => {
            let bench = Bench::of_peers(&options.comparison)?;
            let sheets = delivery::run(&options, &bench.cores).await?;
            bench.report(&options.comparison.setup, &sheets, &[])
        }
        Arguments::Publish(mut options) => {
            options.prepare()?;
            let versions = options.ways.iter().map(|way| Ok((way.name(), way.version()?)));
            let bench = Bench::new(&options.setup, versions)?;
            let (sheets, criteria) = publish::run(&options, &bench.cores).await?;
            bench.report(&options.setup, &sheets, &criteria)
        }
        Arguments::Resume(options) => {
            let bench = Bench::of_channelapi(&options.setup)?;
            let (sheets, criteria) = resume::run(&options, &bench.cores).await?;
            bench.report(&options.setup, &sheets, &criteria)
        }
        Arguments::Slow(options) => {
            let bench = Bench::of_channelapi(&options.setup)?;
            let sheet = slow::run(&options, &bench.cores).await?;
            bench.report(&options.setup, &[sheet], &[])
        }
        Arguments::Upkeep(options) => {
            let bench = Bench::of_channelapi(&options.setup)?;
            let (sheet, criteria) = upkeep::run(&options, &bench.cores).await?;
            bench.report(&options.setup, &[sheet], &criteria)
        }
        Arguments::Floor(options) => floor::serve(&options),
    }
}

/// What the figures were measured with.
struct Bench {
    machine: Value,
    cores: Cores,
    /// By name.
    versions: Map<String, Value>,
}

impl Bench {
    /// Reads the machine's facts before this process confines itself to its cores.
    fn new(
        setup: &Setup,
        versions: impl IntoIterator<Item = Result<(&'static str, String)>>,
    ) -> Result<Self> {
        let machine = machine::facts();
        let versions = versions.into_iter().map(|version| {
            let (name, version) = version?;
            Ok((name.to_owned(), version.into()))
        });
        let versions = versions.collect::<Result<_>>()?;
        let cores = Cores::split(!setup.no_pin)?;
        cores.enter()?;
        Ok(Self { machine, cores, versions })
    }

    fn of_peers(comparison: &Comparison) -> Result<Self> {
        for peer in &comparison.peers {
            peer.prepare()?;
        }
        let versions = comparison.peers.iter().map(|peer| Ok((peer.name(), peer.version()?)));
        Self::new(&comparison.setup, versions)
    }

    fn of_channelapi(setup: &Setup) -> Result<Self> {
        Peer::Channelapi.prepare()?;
        Self::new(setup, [Ok((Peer::Channelapi.name(), Peer::Channelapi.version()?))])
    }

    fn report(&self, setup: &Setup, sheets: &[Sheet], criteria: &[Criterion]) -> Result<()> {
        for sheet in sheets {
            println!("{}", sheet.table());
        }
        if !criteria.is_empty() {
            println!("{}", criteria::table(criteria));
        }
        println!(
            "{}; {}; medians of {} rounds\n{}",
            Value::from(self.versions.clone()),
            self.cores.describe(),
            setup.rounds,
            self.machine
        );
        let Some(path) = &setup.json else { return Ok(()) };
        // Without the program's own path.
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let report = json!({
            "arguments": arguments,
            "machine": self.machine,
            "cores": self.cores.describe(),
            "peers": self.versions,
            "sheets": sheets.iter().map(Sheet::json).collect::<Vec<_>>(),
            "criteria": criteria::json(criteria),
        });
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}
