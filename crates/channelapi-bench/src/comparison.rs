//! Setup: everybody once per round, each round beginning with another, so that a slow minute hits all alike.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::time::timeout;

use crate::machine::Stolen;
use crate::memory;
use crate::peer::Peer;
use crate::report::{Sample, Sheet};

/// Longest time one measurement may take in one round, so that a benchmark always ends by itself.
const ROUND_TIMEOUT: Duration = Duration::from_mins(10);

/// So much later it is given up where nobody does before, so that it is said of whom it was.
const LEEWAY: Duration = Duration::from_secs(10);

/// How much of the machine was not there while something was measured: figures of a round that lost much are worth little.
const STOLEN: &str = "taken away by the host, % of the machine";

/// How much of it may be taken away before it is worth trying again.
const STOLEN_MAX: f64 = 1.0;

/// What all benchmarks have in common.
#[derive(Args)]
pub(crate) struct Setup {
    /// How often each is measured; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) rounds: u16,
    /// How often each is measured in a round if the host takes more than 1 % of the machine away meanwhile; what was disturbed least
    /// counts. Only where the host says what it takes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=20))]
    pub(crate) attempts: u16,
    /// Let server and clients share all cores instead of giving the server one of its own.
    #[arg(long)]
    pub(crate) no_pin: bool,
    /// Write every single value to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// What the benchmarks have in common that compare servers.
#[derive(Args)]
pub(crate) struct Comparison {
    /// The servers to measure; ratios refer to the first.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::Channelapi, Peer::Socketioxide])]
    pub(crate) peers: Vec<Peer>,
    #[command(flatten)]
    pub(crate) setup: Setup,
}

/// Calls `measure` for every peer in every round. One that is not ours may fail: then its column says so.
pub(crate) async fn compare(
    comparison: &Comparison,
    title: String,
    mut measure: impl AsyncFnMut(Peer) -> Result<Vec<Sample>>,
) -> Result<Sheet> {
    let columns: Vec<_> = comparison.peers.iter().map(|peer| (peer.name(), *peer)).collect();
    compare_columns(&comparison.setup, title, &columns, async |column: usize| {
        measure(columns[column].1).await
    })
    .await
}

/// The same where several columns may belong to one peer.
pub(crate) async fn compare_columns(
    setup: &Setup,
    title: String,
    columns: &[(&'static str, Peer)],
    mut measure: impl AsyncFnMut(usize) -> Result<Vec<Sample>>,
) -> Result<Sheet> {
    let names = columns.iter().map(|(name, _)| *name).collect();
    let mut failed = vec![None; columns.len()];
    let mut measured_rounds = vec![0; columns.len()];
    let mut sheet = take_turns(setup, title, names, async |column: usize| {
        if failed[column].is_some() {
            return Ok(Vec::new());
        }
        // Also one that hangs: whoever waits for it outside would give up all of them.
        let measured = timeout(ROUND_TIMEOUT, measure(column)).await;
        match measured.context("the round took too long").flatten() {
            Err(error) if !columns[column].1.is_ours() => {
                let (name, _) = columns[column];
                eprintln!("{name} failed and is left out from here on: {error:#}");
                failed[column] = Some(failure(name, measured_rounds[column], &error));
                Ok(Vec::new())
            }
            measured => {
                measured_rounds[column] += 1;
                measured
            }
        }
    })
    .await?;
    sheet.notes.extend(failed.into_iter().flatten());
    Ok(sheet)
}

/// The line below a table of a column that ends before the last round.
fn failure(name: &str, rounds: usize, error: &anyhow::Error) -> String {
    let figures = match rounds {
        0 => "it has no figures",
        1 => "its figures are of the one time before",
        _ => "its figures are of the times before",
    };
    format!("**{name} failed** in measurement {} of it; {figures}: {error:#}", rounds + 1)
}

/// Calls `measure` for every column in every round.
pub(crate) async fn take_turns(
    setup: &Setup,
    title: String,
    columns: Vec<&'static str>,
    mut measure: impl AsyncFnMut(usize) -> Result<Vec<Sample>>,
) -> Result<Sheet> {
    let mut sheet = Sheet::new(title, columns.clone());
    for round in 0..usize::from(setup.rounds) {
        for turn in 0..columns.len() {
            let column = (round + turn) % columns.len();
            let name = columns[column];
            eprintln!("{}: round {} of {}, {name}", sheet.title, round + 1, setup.rounds);
            let samples = least_disturbed(setup.attempts, async || {
                let samples = timeout(ROUND_TIMEOUT + LEEWAY, measure(column)).await;
                samples.context("the round took too long").flatten()
            });
            sheet.record(round, column, samples.await.with_context(|| format!("measuring {name}"))?);
        }
    }
    memory::explain(&mut sheet);
    Ok(sheet)
}

/// Calls `measure` until the host leaves the machine alone meanwhile, at most so many times. The figures are those of the best of them.
async fn least_disturbed(
    attempts: u16,
    mut measure: impl AsyncFnMut() -> Result<Vec<Sample>>,
) -> Result<Vec<Sample>> {
    let mut best = (f64::INFINITY, Vec::new());
    for _ in 0..attempts {
        let before = Stolen::so_far();
        let mut samples = measure().await?;
        if samples.is_empty() {
            // A peer that fails now may have figures of a try before.
            break;
        }
        let (Some(before), Some(now)) = (before, Stolen::so_far()) else { return Ok(samples) };
        let stolen = 100.0 * now.share_since(before);
        samples.push(Sample::fact(STOLEN, stolen));
        if stolen < best.0 {
            best = (stolen, samples);
        }
        if stolen <= STOLEN_MAX {
            break;
        }
    }
    Ok(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETUP: Setup = Setup { rounds: 2, attempts: 1, no_pin: false, json: None };
    const COLUMNS: [(&str, Peer); 3] =
        [("channelapi", Peer::Channelapi), ("node", Peer::Node), ("sockudo", Peer::Sockudo)];

    /// A peer that hung took the table of all others with it.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_fails_or_hangs_leaves_the_others_their_figures() {
        let mut calls = [0_u32; 3];
        let measure = async |column: usize| {
            calls[column] += 1;
            match (column, calls[column]) {
                (1, 2) => anyhow::bail!("a publication was lost"),
                (2, _) => std::future::pending().await,
                (_, call) => Ok(vec![Sample::cost("bytes", f64::from(call))]),
            }
        };
        let sheet = compare_columns(&SETUP, "Test".to_owned(), &COLUMNS, measure).await.unwrap();
        assert_eq!(calls, [2, 2, 1], "who has failed is not measured again");
        let medians = COLUMNS.map(|(name, _)| sheet.median("bytes", name));
        assert_eq!(medians, [Some(1.5), Some(1.0), None]);
        let (node, sockudo) = ("a publication was lost", "the round took too long: deadline has elapsed");
        assert_eq!(
            sheet.notes,
            [
                format!(
                    "**node failed** in measurement 2 of it; its figures are of the one time before: {node}"
                ),
                format!("**sockudo failed** in measurement 1 of it; it has no figures: {sockudo}"),
            ]
        );
    }

    #[tokio::test]
    async fn ours_may_not_fail() {
        let measure = async |_: usize| anyhow::bail!("a connection was lost");
        let error = compare_columns(&SETUP, "Test".to_owned(), &COLUMNS, measure).await.err().unwrap();
        assert_eq!(format!("{error:#}"), "measuring channelapi: a connection was lost");
    }
}
