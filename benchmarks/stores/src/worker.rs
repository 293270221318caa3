//! One measurement of one contender, in a process of its own: it does what it is told and says one line of JSON.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::job::Job;
use crate::stores::Store;
use crate::usage::{cpu, disk, resident_memory};

/// Longest time to store the records that are to be found again.
pub(crate) const FILL_TIMEOUT: Duration = Duration::from_mins(5);

/// Records that are made durable together while a store is filled.
const FILL_BATCH: usize = 1024;

/// Records that are stored before the clock starts: files are made, buffers grow.
const WARM_UP: Duration = Duration::from_millis(500);

/// Most records of one measurement, so that the fastest does not fill the disk.
const RECORDS_MAX: u64 = 2_000_000;

/// What to do.
#[derive(Args)]
pub(crate) struct Task {
    #[arg(long, value_enum)]
    pub(crate) store: Contender,
    #[arg(long)]
    pub(crate) folder: PathBuf,
    #[arg(long, value_enum)]
    pub(crate) step: Step,
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: usize,
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    #[arg(long, default_value_t = 0)]
    pub(crate) records: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Store as much as possible for some seconds.
    Append,
    /// Store so many records, then wait to be killed.
    Fill,
    /// Open what a killed process has left, and check that nothing is missing.
    Reopen,
}

/// What came of [`Step::Append`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Appended {
    pub(crate) records: u64,
    pub(crate) seconds: f64,
    /// Of this process and the store's server.
    pub(crate) cpu_seconds: f64,
}

/// What came of [`Step::Fill`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Filled {
    pub(crate) resident_bytes: u64,
    pub(crate) disk_bytes: u64,
    /// A process that must die with this one.
    pub(crate) server: Option<u32>,
}

/// What came of [`Step::Reopen`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Reopened {
    pub(crate) seconds: f64,
}

pub(crate) fn run(task: &Task) -> Result<()> {
    // Whoever asked for this is the only one who wants it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    match task.step {
        Step::Append => say(&append(task)?),
        Step::Fill => {
            let (_store, filled) = fill(task)?;
            say(&filled)?;
            // Ends when the other side has gone, if it does not kill us first.
            std::io::stdin().read_to_end(&mut Vec::new())?;
            Ok(())
        }
        Step::Reopen => say(&reopen(task)?),
    }
}

fn append(task: &Task) -> Result<Appended> {
    let mut store = task.store.open(&task.folder)?;
    let warm = store.append(task.batch, 0..RECORDS_MAX, Instant::now() + WARM_UP)?;
    let (started, before) = (Instant::now(), cpu_of(&*store)?);
    let until = started + Duration::from_secs(task.seconds);
    let records = store.append(task.batch, warm..warm + RECORDS_MAX, until)?;
    let (elapsed, used) = (started.elapsed(), cpu_of(&*store)?.saturating_sub(before));
    ensure!(store.count()? == warm + records, "the store does not hold what was stored");
    Ok(Appended { records, seconds: elapsed.as_secs_f64(), cpu_seconds: used.as_secs_f64() })
}

fn fill(task: &Task) -> Result<(Box<dyn Store>, Filled)> {
    let own = std::process::id();
    let empty = resident_memory(own)?;
    let mut store = task.store.open(&task.folder)?;
    let stored = store.append(FILL_BATCH, 0..task.records, Instant::now() + FILL_TIMEOUT)?;
    ensure!(
        stored == task.records,
        "only {stored} of {} records were stored within {FILL_TIMEOUT:?}",
        task.records
    );
    let server = store.server();
    let of_server = server.map_or(Ok(0), resident_memory)?;
    let resident_bytes = resident_memory(own)?.saturating_sub(empty) + of_server;
    Ok((store, Filled { resident_bytes, disk_bytes: disk(&task.folder)?, server }))
}

/// A store is open when it can say what was published last in a channel.
fn reopen(task: &Task) -> Result<Reopened> {
    let last = task.records.checked_sub(1).context("there is nothing to be found")?;
    let expected = Job::new().data(last).clone();
    let started = Instant::now();
    let mut store = task.store.open(&task.folder)?;
    let found = store.newest(Job::channel(last))?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(*found == *expected, "the last record is not what was stored: {found:?}");
    let count = store.count()?;
    ensure!(count == task.records, "of {} records {count} are there after the kill", task.records);
    Ok(Reopened { seconds })
}

fn cpu_of(store: &dyn Store) -> Result<Duration> {
    Ok(cpu(std::process::id())? + store.server().map_or(Ok(Duration::ZERO), cpu)?)
}

fn say(what: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    Ok(out.flush()?)
}
