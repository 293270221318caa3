//! Rounds: every contender once per round, each round beginning with another, so that a slow minute of the disk hits all alike.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;

use crate::contender::Contender;
use crate::sheet::{Sheet, grouped};
use crate::usage::is_running;
use crate::worker::{Appended, FILL_TIMEOUT, Filled, Reopened, Step};

/// How long a measurement may take longer than it should: opening, warming up, counting what is there.
const MARGIN: Duration = Duration::from_mins(2);

/// How long a killed server may take to be gone.
const DEATH_TIMEOUT: Duration = Duration::from_secs(30);

/// What every contender has to do.
pub(crate) struct Work<'a> {
    pub(crate) batches: &'a [usize],
    pub(crate) seconds: u64,
    pub(crate) records: u64,
    pub(crate) folder: &'a Path,
}

pub(crate) fn run(contenders: &[Contender], rounds: u16, work: &Work<'_>) -> Result<Sheet> {
    let title =
        format!("Stores: {} bytes to {} channels", crate::job::DATA_BYTES, grouped(crate::job::CHANNELS));
    let mut sheet = Sheet::new(title, contenders.iter().map(|contender| contender.name()).collect());
    for round in 0..usize::from(rounds) {
        for turn in 0..contenders.len() {
            let column = (round + turn) % contenders.len();
            let contender = contenders[column];
            eprintln!("round {} of {rounds}, {}", round + 1, contender.name());
            measure(contender, work, |name, value| sheet.record(column, name, value))
                .with_context(|| format!("measuring {}", contender.name()))?;
        }
    }
    Ok(sheet)
}

fn measure(contender: Contender, work: &Work<'_>, mut record: impl FnMut(String, f64)) -> Result<()> {
    for &batch in work.batches {
        let folder = tempfile::tempdir_in(work.folder)?;
        let seconds = work.seconds.to_string();
        let arguments = ["--batch", &batch.to_string(), "--seconds", &seconds];
        let mut worker = Worker::start(contender, folder.path(), Step::Append, &arguments)?;
        let done: Appended = worker.report(Duration::from_secs(work.seconds) + MARGIN)?;
        worker.finish()?;
        let records = real(done.records);
        let batch = grouped(batch);
        record(format!("{batch} at a time: records/s"), records / done.seconds);
        record(format!("{batch} at a time: CPU per record, µs"), done.cpu_seconds * 1e6 / records);
    }
    if work.records == 0 {
        return Ok(());
    }
    let folder = tempfile::tempdir_in(work.folder)?;
    let arguments = ["--records", &work.records.to_string()];
    let mut worker = Worker::start(contender, folder.path(), Step::Fill, &arguments)?;
    let filled: Filled = worker.report(FILL_TIMEOUT + MARGIN)?;
    worker.kill(filled.server)?;
    let mut worker = Worker::start(contender, folder.path(), Step::Reopen, &arguments)?;
    let reopened: Reopened = worker.report(MARGIN)?;
    worker.finish()?;
    let with = format!("with {} records", grouped(work.records));
    record(format!("{with}: bytes on disk per record"), real(filled.disk_bytes) / real(work.records));
    record(format!("{with}: RSS, MiB"), real(filled.resident_bytes) / 1_048_576.0);
    record(format!("{with}: opening after kill -9, ms"), reopened.seconds * 1e3);
    Ok(())
}

/// A process that measures. It is killed when dropped, whatever happened before.
struct Worker {
    child: Child,
    lines: mpsc::Receiver<std::io::Result<String>>,
}

impl Worker {
    fn start(contender: Contender, folder: &Path, step: Step, arguments: &[&str]) -> Result<Self> {
        let step = match step {
            Step::Append => "append",
            Step::Fill => "fill",
            Step::Reopen => "reopen",
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["work", "--store", contender.name(), "--step", step]).args(arguments);
        command.arg("--folder").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the worker")?;
        let output = child.stdout.take().context("the worker has no output")?;
        let (line, lines) = mpsc::channel();
        // Ends with the worker, whose output ends then.
        std::thread::spawn(move || BufReader::new(output).lines().all(|read| line.send(read).is_ok()));
        Ok(Self { child, lines })
    }

    /// What the worker has to say.
    fn report<T: DeserializeOwned>(&mut self, limit: Duration) -> Result<T> {
        let line = match self.lines.recv_timeout(limit) {
            Ok(line) => line?,
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("nothing was heard of the worker for {limit:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!("the worker ended with {}", self.child.wait()?)
            }
        };
        serde_json::from_str(&line).with_context(|| format!("the worker said {line:?}"))
    }

    fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the worker ended with {status}");
        Ok(())
    }

    /// `kill -9`. A server of the worker dies with it; this waits until it is gone.
    fn kill(mut self, server: Option<u32>) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let Some(server) = server else { return Ok(()) };
        let deadline = Instant::now() + DEATH_TIMEOUT;
        while is_running(server)? {
            anyhow::ensure!(Instant::now() < deadline, "the server (process {server}) does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only if it has ended by itself, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of bytes and records are far below 2^53")]
fn real(count: u64) -> f64 {
    count as f64
}
