//! Which store for publications? This program gives every contender the same work and says what it cost.
//!
//! Each measurement is a process of its own (`worker.rs`), so that memory and CPU belong to one store alone and `kill -9` means
//! what it says. `rounds.rs` lets the contenders take turns; `job.rs` is the work.

mod contender;
mod job;
mod rounds;
mod sheet;
mod stores;
mod usage;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::json;

use crate::contender::Contender;
use crate::worker::Task;

/// The same allocator as the product's, for everybody who allocates in this process.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Compares stores for the job of the product's log.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Measure the contenders in turns.
    Compare(Comparison),
    /// One measurement of one contender; started by the other.
    #[command(hide = true)]
    Work(Task),
}

/// What to measure.
#[derive(clap::Args)]
struct Comparison {
    /// Who takes part, by name.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::ALL)]
    stores: Vec<Contender>,
    /// How often each is measured; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// How many records are made durable together: so many publishers wait at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    batches: Vec<usize>,
    /// Seconds of appending for each batch size.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Records in the store that is killed and opened again; 0 leaves that part out.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// A folder on the disk to measure; something is made in it and removed again.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Write every single value to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table to this file, too.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse() {
        Arguments::Work(task) => worker::run(&task),
        Arguments::Compare(comparison) => compare(&comparison),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(comparison: &Comparison) -> Result<()> {
    let folder = comparison.folder.clone().unwrap_or_else(std::env::temp_dir);
    usage::ensure_disk(&folder)?;
    let machine = usage::machine(&folder);
    let contenders: Vec<_> =
        comparison.stores.iter().copied().filter(|contender| contender.is_available()).collect();
    anyhow::ensure!(!contenders.is_empty(), "nobody is left to be measured");
    let work = rounds::Work {
        batches: &comparison.batches,
        seconds: comparison.seconds,
        records: comparison.records,
        folder: &folder,
    };
    let sheet = rounds::run(&contenders, comparison.rounds, &work)?;
    let versions: serde_json::Map<_, _> = contenders
        .iter()
        .map(|contender| (contender.name().to_owned(), contender.version().into()))
        .collect();
    let table = format!(
        "{}\n{}; medians of {} rounds (lowest–highest)\n\n{machine}\n",
        sheet.table(),
        json!(versions),
        comparison.rounds
    );
    print!("{table}");
    if let Some(path) = &comparison.markdown {
        std::fs::write(path, &table).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &comparison.json {
        // Without the program's own path.
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let report = json!({
            "arguments": arguments, "machine": machine, "stores": versions, "sheets": [sheet.json()],
        });
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
