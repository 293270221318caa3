//! Abuse: everything that a stranger, a client or a publisher can send and should not, against a real server.
//!
//! A case is one attack and one promise. All of them run at the same time, beside two honest clients that must not notice.
//! When they are over, no task may have panicked, memory must have stayed within bounds, every counter of an attack must
//! have moved, and nothing may be left of the attackers.

mod case;
mod control;
pub(crate) mod issuers;
mod provider;
mod rows;
mod tunnel;
mod wire;
mod yard;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, sleep, timeout};

use self::case::Case;
use self::yard::Yard;

/// As it is started, but for what it says.
const DEFAULT: &str = "[log]\nlevel = \"trace\"\n";
/// Cases that run at the same time. Those that wait for a deadline of the server are a minority.
const AT_ONCE: usize = 48;
/// Longer than any deadline of the server.
const CASE_MAX: Duration = Duration::from_secs(100);
/// What the attacks together may cost: some thousand connections, and buffers that have limits. A single one that is believed in what
/// it announces costs more.
const MEMORY_MAX: u64 = 128 << 20;
/// After the last attack; sessions that were left without a word live for 45 seconds.
const CLEAN_MAX: Duration = Duration::from_mins(1);
/// Until what a case has done is counted.
const COUNTED_MAX: Duration = Duration::from_secs(5);
/// The honest.
const HONEST_CLIENTS: u64 = 2;

/// Which cases are run, and how.
pub(crate) struct Choice<'a> {
    /// Those whose row is one of these, or all of them.
    pub(crate) only: &'a [String],
    /// One after the other, each judged by what it alone has made the counters count: together, one can hide that another counts nothing.
    pub(crate) alone: bool,
}

/// Runs cases.
pub(crate) async fn run(binary: &Path, Choice { only, alone }: Choice<'_>) -> Result<()> {
    let mut failures = Vec::new();
    let mut total = 0;
    let began = Instant::now();
    // Opened one after the other: a port that is free is taken only when its server runs.
    let mut yards = Vec::new();
    for (configuration, cases) in all() {
        yards.push((Yard::open(binary, &configuration).await?, chosen(cases, only)));
    }
    let mut attacks = JoinSet::new();
    for (yard, cases) in yards {
        attacks.spawn(attack(yard, cases, alone));
    }
    while let Some(outcome) = attacks.join_next().await {
        let outcome = outcome??;
        total += outcome.cases;
        failures.extend(outcome.failures);
        println!("{}", outcome.line);
    }
    for failure in &failures {
        println!("FAILED {failure}");
    }
    println!("abuse: {total} cases in {:.0} s, {} failed", began.elapsed().as_secs_f64(), failures.len());
    ensure!(total > 0, "no case has a row that begins with one of {only:?}");
    ensure!(failures.is_empty(), "the server can be abused");
    Ok(())
}

/// The servers, and what is done to each.
fn all() -> [(String, Vec<Case>); 6] {
    [
        (DEFAULT.to_owned(), rows::on_default_server()),
        (rows::GUARDED.to_owned(), rows::on_guarded_server()),
        (rows::talkative(), rows::on_talkative_server()),
        (rows::PROXIED.to_owned(), rows::behind_a_proxy()),
        (rows::announced_and_issued(), rows::behind_an_announcing_proxy()),
        (tunnel::CONFIGURATION.to_owned(), rows::behind_tls()),
    ]
}

/// Names all cases.
pub(crate) fn list() {
    for case in all().into_iter().flat_map(|(_, cases)| cases) {
        print!("{:4} {}", case.row, case.promise);
        case.counters.iter().for_each(|counter| print!(" [{counter}]"));
        println!();
    }
}

fn chosen(mut cases: Vec<Case>, only: &[String]) -> Vec<Case> {
    cases.retain(|case| only.is_empty() || only.iter().any(|row| row == case.row));
    cases
}

struct Outcome {
    cases: usize,
    failures: Vec<String>,
    line: String,
}

async fn attack(yard: Yard, cases: Vec<Case>, alone: bool) -> Result<Outcome> {
    let yard = Arc::new(yard);
    let control = yard.control().await?;
    let memory = yard.server.memory()?;
    let before = yard.metrics().await?;
    let descriptors = yard.descriptors().await?;
    let watch = watch_memory(Arc::clone(&yard));

    let count = cases.len();
    let mut expected = BTreeMap::<String, u64>::new();
    for counter in cases.iter().flat_map(|case| case.counters.clone()) {
        *expected.entry(counter).or_default() += 1;
    }
    let mut failures = if alone { run_alone(&yard, cases).await? } else { run_all(&yard, cases).await? };
    let peak = watch.finish().await?;

    let mut judge = |verdict: Result<()>| failures.extend(verdict.err().map(|error| format!("{error:#}")));
    judge(counted_soon(&yard, &before, &expected).await);
    let after = yard.metrics().await?;
    judge(never_happened(&after));
    judge(nothing_left(&yard, descriptors).await);
    let grown = peak.saturating_sub(memory);
    judge(if grown <= MEMORY_MAX { Ok(()) } else { Err(anyhow!("the attacks took {} MiB", grown >> 20)) });
    let honest = control.finish().await;
    let log = yard.server.whole_log();
    let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked at")).collect();
    judge(if panics.is_empty() { Ok(()) } else { Err(anyhow!("the server panicked: {panics:#?}")) });
    let tokens = yard.tokens.lock().expect("nobody panics with it").clone();
    judge(rows::keeps_secrets(&log, &tokens));
    let line = match honest {
        Ok((heard, slowest)) => format!(
            "{count} cases: honest clients heard all of {heard} messages, the slowest after {} ms; memory grew by {} MiB at most",
            slowest.as_millis(),
            grown >> 20
        ),
        Err(error) => {
            judge(Err(error));
            format!("{count} cases, and honest clients noticed")
        }
    };
    stop(yard).await?;
    Ok(Outcome { cases: count, failures, line })
}

/// Of what cannot be, nothing was.
fn never_happened(counters: &BTreeMap<String, u64>) -> Result<()> {
    for name in ["channelapi_publications_out_of_order_total", "channelapi_panics_total"] {
        let value = counters.get(name).with_context(|| format!("nobody counts {name}"))?;
        ensure!(*value == 0, "{name} is {value}");
    }
    let violated =
        counters.iter().filter(|(name, _)| name.starts_with("channelapi_invariant_violations_total"));
    for (name, value) in violated {
        ensure!(*value == 0, "{name} is {value}");
    }
    Ok(())
}

async fn stop(yard: Arc<Yard>) -> Result<()> {
    let mut yard = Arc::into_inner(yard).context("somebody holds the server")?;
    yard.server.stop().await
}

/// One after the other.
async fn run_alone(yard: &Arc<Yard>, cases: Vec<Case>) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for case in cases {
        let (name, counters) = (case.name(), case.counters.clone());
        let before = yard.metrics().await?;
        let expected = counters.into_iter().map(|counter| (counter, 1)).collect();
        let verdict = match timeout(CASE_MAX, case.run(Arc::clone(yard))).await {
            Ok(Ok(())) => counted_soon(yard, &before, &expected).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(anyhow!("it did not end within {CASE_MAX:?}")),
        };
        failures.extend(verdict.err().map(|error| format!("{name}: {error:#}")));
    }
    Ok(failures)
}

/// The same as [`counted`], of something that has just been done: the server may not be through with it.
async fn counted_soon(
    yard: &Yard,
    before: &BTreeMap<String, u64>,
    expected: &BTreeMap<String, u64>,
) -> Result<()> {
    let end = Instant::now() + COUNTED_MAX;
    loop {
        let verdict = counted(before, &yard.metrics().await?, expected);
        if verdict.is_ok() || Instant::now() > end {
            return verdict;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn run_all(yard: &Arc<Yard>, cases: Vec<Case>) -> Result<Vec<String>> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for case in cases {
        let (yard, turn) = (Arc::clone(yard), Arc::clone(&room).acquire_owned().await?);
        running.spawn(async move {
            let name = case.name();
            let ended = timeout(CASE_MAX, case.run(yard)).await;
            drop(turn);
            match ended {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{name}: {error:#}")),
                Err(_) => Some(format!("{name}: it did not end within {CASE_MAX:?}")),
            }
        });
    }
    let mut failures = Vec::new();
    while let Some(ended) = running.join_next().await {
        failures.extend(ended?);
    }
    Ok(failures)
}

/// The most memory that the server takes while it is watched.
struct Watch {
    stop: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<Result<u64>>,
}

fn watch_memory(yard: Arc<Yard>) -> Watch {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let (mut peak, mut ticks) = (0, interval(Duration::from_millis(100)));
        loop {
            tokio::select! {
                _ = ticks.tick() => peak = peak.max(yard.server.memory()?),
                _ = &mut stopped => return Ok(peak),
            }
        }
    });
    Watch { stop, task }
}

impl Watch {
    async fn finish(self) -> Result<u64> {
        // Gone only if it has failed, which the task itself says.
        let _ = self.stop.send(());
        self.task.await?
    }
}

/// Every attack that says where it is counted was counted there.
fn counted(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    expected: &BTreeMap<String, u64>,
) -> Result<()> {
    let value = |counters: &BTreeMap<String, u64>, name: &str| counters.get(name).copied().unwrap_or(0);
    let missing = expected.iter().filter_map(|(name, attacks)| {
        let counted = value(after, name) - value(before, name);
        let is_missing = counted < *attacks;
        is_missing.then(|| format!("{attacks} attacks are to be counted in {name}, and {counted} were"))
    });
    let missing: Vec<_> = missing.collect();
    ensure!(missing.is_empty(), "{}", missing.join("; "));
    Ok(())
}

/// Nothing is left of the attackers but what the honest use.
async fn nothing_left(yard: &Yard, descriptors: u64) -> Result<()> {
    let end = Instant::now() + CLEAN_MAX;
    loop {
        let (connections, open) = (yard.connections().await?, yard.descriptors().await?);
        // The question itself takes one, and an answer may still be on its way.
        if connections <= HONEST_CLIENTS && open <= descriptors + 4 {
            return Ok(());
        }
        if Instant::now() > end {
            bail!(
                "{connections} connections and {open} descriptors are left, {descriptors} were there before"
            );
        }
        sleep(Duration::from_millis(100)).await;
    }
}
