//! Fuzzing beside the other tests: it takes the time in which they wait, and no more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{building, seeds_of, settings, targets};
use crate::rustc;
use crate::step::{self, Outcome};
use crate::tools::CARGO_FUZZ;
use crate::tree::Tree;

/// How long each target runs.
const SECONDS: u32 = 60;

/// So many targets run at once. Each gets less than a core, because everything else comes first.
const SIDE_BY_SIDE: usize = 3;

/// Lines of a log that are shown of what failed.
const LINES_SHOWN: usize = 60;

/// All targets, one after the other, in the background.
pub(crate) struct Aside {
    is_unwanted: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Outcome>>>,
}

impl Aside {
    /// Builds the targets and begins. What they say goes to files in the build directory.
    pub(crate) fn start(tree: &Tree) -> Self {
        let is_unwanted = Arc::new(AtomicBool::new(false));
        let (tree, stop) = (tree.clone(), is_unwanted.clone());
        let thread = thread::spawn(move || fuzz_all(&tree, &stop));
        Self { is_unwanted, thread: Some(thread) }
    }

    /// Waits until every target had its time.
    pub(crate) fn finish(mut self) -> Result<Outcome> {
        step::announce("Fuzzing, which has been going on beside the tests");
        let thread = self.thread.take().expect("it is finished once");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Aside {
    /// Another test has failed: nobody wants to wait.
    fn drop(&mut self) {
        self.is_unwanted.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // That other test is what is told.
            _ = thread.join();
        }
    }
}

fn fuzz_all(tree: &Tree, stop: &AtomicBool) -> Result<Outcome> {
    let started = Instant::now();
    if let Some(install) = CARGO_FUZZ.installing(tree) {
        step::insist(|| Running::start("install", tree, &install)?.wait(stop).map(drop))?;
    }
    Running::start("build", tree, &building(tree)?)?.wait(stop)?;
    let mut closing = Vec::new();
    for targets in targets(tree)?.chunks(SIDE_BY_SIDE) {
        let all = targets.iter().map(|target| Running::start(target, tree, &fuzzing(tree, target)?));
        for running in all.collect::<Result<Vec<_>>>()? {
            let target = running.name.clone();
            closing.push(told(&target, &running.wait(stop)?)?);
        }
    }
    let name = format!("Every parser fuzzed for {SECONDS} s");
    Ok(Outcome { name, took: started.elapsed(), closing })
}

/// The target itself, without cargo around it: whoever ends it has ended all of it.
fn fuzzing(tree: &Tree, target: &str) -> Result<Command> {
    let built = format!("fuzz/{}/release/{target}", rustc::host(tree)?);
    let mut command = Command::new(tree.target(&built));
    command.args(seeds_of(tree, target)?);
    command.args(settings(tree, target, SECONDS));
    Ok(command)
}

/// A program in the background.
struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program that only gets what nobody else wants of the processor.
    fn start(name: &str, tree: &Tree, command: &Command) -> Result<Self> {
        let log = tree.target("fuzz").join(format!("{name}.log"));
        fs::create_dir_all(tree.target("fuzz"))?;
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut nice = Command::new("nice");
        nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
        nice.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        nice.current_dir(tree.path("")).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = nice.spawn().context("cannot start `nice`")?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits for its end, and returns what it said.
    fn wait(mut self, stop: &AtomicBool) -> Result<String> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(!stop.load(Ordering::Relaxed), "{} was not needed any more", self.name);
            thread::sleep(Duration::from_millis(100));
        };
        let said = fs::read(&self.log).map(|said| String::from_utf8_lossy(&said).into_owned())?;
        check(&self.name, status, &said, &self.log)?;
        Ok(said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If it has ended, neither does anything.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn check(name: &str, status: ExitStatus, said: &str, log: &Path) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let lines: Vec<_> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
    bail!("{last}\n\nfuzzing: {name} failed ({status}); all of what it said is in {}", log.display())
}

/// What a target did. One that does not say how often it ran has proven nothing, and neither has one that did not run.
fn told(target: &str, said: &str) -> Result<String> {
    let runs = runs(said).with_context(|| format!("fuzzing: {target} did not say how often it ran"))?;
    ensure!(runs > 0, "fuzzing: {target} did not run once");
    Ok(format!("{target}: {runs} runs"))
}

/// How often a target was run, by what libFuzzer says at its end.
fn runs(said: &str) -> Option<u64> {
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    runs?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_how_often_it_ran() {
        let said = "Done 7\nstat::number_of_executed_units: 1234\nstat::average: 2\n";
        assert_eq!(told("engineio", said).unwrap(), "engineio: 1234 runs");
    }

    /// It was told as `no runs`, and called passed.
    #[test]
    fn a_target_that_proves_nothing_fails() {
        for (said, problem) in [
            ("", "engineio did not say how often it ran"),
            ("error: something", "engineio did not say how often it ran"),
            ("stat::number_of_executed_units: many", "engineio did not say how often it ran"),
            ("stat::number_of_executed_units: 0\n", "engineio did not run once"),
        ] {
            let error = told("engineio", said).unwrap_err().to_string();
            assert!(error.contains(problem), "{said}: {error}");
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_ended() {
        let tree = Tree::find().unwrap();
        let mut forever = Command::new("sleep");
        forever.arg("60");
        let started = Instant::now();
        let running = Running::start("test-unwanted", &tree, &forever).unwrap();
        let told = running.wait(&AtomicBool::new(true)).unwrap_err();
        assert!(told.to_string().contains("not needed") && started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_finding_fails_and_shows_what_was_said() {
        let tree = Tree::find().unwrap();
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo a law was broken; exit 77"]);
        let running = Running::start("test-finding", &tree, &failing).unwrap();
        let told = running.wait(&AtomicBool::new(false)).unwrap_err().to_string();
        assert!(told.contains("a law was broken") && told.contains("test-finding failed"), "{told}");
    }
}
