//! Load generator: measures servers that speak the seed contract, side by side, from outside.
//!
//! One thread plays all clients and the backend. Each server is a child process on loopback, its memory and CPU time are
//! read from `/proc`, and it is killed on every way out.

mod backend;
mod client;
mod comparison;
mod connections;
mod cores;
mod crowd;
mod delivery;
mod floor;
mod frame;
mod machine;
mod peer;
mod process;
mod publisher;
mod receipts;
mod report;
mod statistics;
mod usage;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::comparison::Comparison;
use crate::connections::ConnectionsOptions;
use crate::cores::Cores;
use crate::delivery::DeliveryOptions;
use crate::floor::FloorOptions;
use crate::report::Sheet;

/// Measures what connections and deliveries cost, beside other servers.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Memory and CPU of connections that join and then idle.
    Connections(ConnectionsOptions),
    /// CPU and latency of deliveries to many and to one.
    Delivery(DeliveryOptions),
    /// Becomes the peer `floor`; started by the others.
    #[command(hide = true)]
    Floor(FloorOptions),
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<()> {
    if let Arguments::Floor(options) = arguments {
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

async fn run(arguments: &Arguments) -> Result<()> {
    match arguments {
        Arguments::Connections(options) => {
            let (machine, cores) = prepare(&options.comparison)?;
            let sheet = connections::run(options, &cores).await?;
            publish(&options.comparison, &machine, &cores, &[sheet])
        }
        Arguments::Delivery(options) => {
            let (machine, cores) = prepare(&options.comparison)?;
            let sheets = delivery::run(options, &cores).await?;
            publish(&options.comparison, &machine, &cores, &sheets)
        }
        Arguments::Floor(options) => floor::serve(options),
    }
}

/// Reads the machine's facts before this process confines itself to its cores.
fn prepare(comparison: &Comparison) -> Result<(Value, Cores)> {
    let machine = machine::facts();
    for peer in &comparison.peers {
        peer.prepare()?;
    }
    let cores = Cores::split(!comparison.no_pin)?;
    cores.enter()?;
    Ok((machine, cores))
}

fn publish(comparison: &Comparison, machine: &Value, cores: &Cores, sheets: &[Sheet]) -> Result<()> {
    for sheet in sheets {
        println!("{}", sheet.table());
    }
    let mut versions = Map::new();
    for peer in &comparison.peers {
        versions.insert(peer.name().to_owned(), peer.version()?.into());
    }
    // Without the program's own path.
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    println!(
        "{}; {}; medians of {} rounds\n{machine}",
        Value::from(versions.clone()),
        cores.describe(),
        comparison.rounds
    );
    let Some(path) = &comparison.json else { return Ok(()) };
    let report = json!({
        "arguments": arguments,
        "machine": machine,
        "cores": cores.describe(),
        "peers": versions,
        "sheets": sheets.iter().map(Sheet::json).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&report)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
