//! Load generator: measures servers that speak the seed contract, side by side, from outside.
//!
//! One thread plays all clients and the backend. Each server is a child process on loopback, its memory and CPU time are
//! read from `/proc`, and it is killed on every way out.

mod backend;
mod batch;
mod benchmark;
mod certificate;
mod churn;
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
mod history;
mod kinds;
mod lanes;
mod machine;
mod memory;
mod outcome;
mod paced;
mod peer;
mod plot;
mod poller;
mod process;
mod publish;
mod publisher;
mod pusher;
mod receipts;
mod reconnect;
mod redis;
mod report;
mod results;
mod resume;
mod scaling;
mod slow;
mod stalled;
mod start;
mod statistics;
mod storm;
mod stream;
mod suite;
mod unicast;
mod upkeep;
mod usage;
mod visitor;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::benchmark::Benchmark;
use crate::cores::Cores;
use crate::floor::FloorOptions;
use crate::suite::SuiteOptions;

/// Measures what connections, deliveries and publishing cost, beside others that do the same job.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Everything, with every peer; about an hour and a half on a machine that does nothing else.
    All(SuiteOptions),
    /// Everything once, with fewer connections: a few minutes, and figures that only show whether something is badly wrong.
    Quick(SuiteOptions),
    #[command(flatten)]
    One(Benchmark),
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
    // Before this process confines itself to its part of them.
    let (machine, cores) = (machine::facts(), Cores::shared()?);
    match arguments {
        Arguments::All(options) => suite::run(&suite::ALL, &options, &machine, &cores).await,
        Arguments::Quick(options) => suite::run(&suite::QUICK, &options, &machine, &cores).await,
        Arguments::One(benchmark) => {
            let json = benchmark.setup().json.clone();
            // Without the program's own path.
            let outcome = benchmark.run(std::env::args().skip(1).collect(), &cores).await?;
            println!("{}- {machine}", outcome.markdown());
            json.map_or(Ok(()), |path| outcome::write_json(&path, &outcome.json(&machine)))
        }
        Arguments::Floor(options) => floor::serve(&options),
    }
}
