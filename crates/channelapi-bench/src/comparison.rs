//! Rounds: every peer once per round, each round beginning with another, so that a slow minute hits all alike.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::time::timeout;

use crate::peer::Peer;
use crate::report::{Sample, Sheet};

/// Longest time one peer may take in one round, so that a benchmark always ends by itself.
const ROUND_TIMEOUT: Duration = Duration::from_mins(10);

/// What all benchmarks have in common.
#[derive(Args)]
pub(crate) struct Comparison {
    /// The servers to measure; ratios refer to the first.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::Channelapi, Peer::Socketioxide])]
    pub(crate) peers: Vec<Peer>,
    /// How often each is measured; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) rounds: u16,
    /// Let server and clients share all cores instead of giving the server one of its own.
    #[arg(long)]
    pub(crate) no_pin: bool,
    /// Write every single value to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Calls `measure` for every peer in every round.
pub(crate) async fn compare(
    comparison: &Comparison,
    title: String,
    mut measure: impl AsyncFnMut(Peer) -> Result<Vec<Sample>>,
) -> Result<Sheet> {
    let mut sheet = Sheet::new(title, comparison.peers.clone());
    for round in 0..usize::from(comparison.rounds) {
        for turn in 0..comparison.peers.len() {
            let column = (round + turn) % comparison.peers.len();
            let peer = comparison.peers[column];
            eprintln!("{}: round {} of {}, {}", sheet.title, round + 1, comparison.rounds, peer.name());
            let samples =
                timeout(ROUND_TIMEOUT, measure(peer)).await.context("the round took too long").flatten();
            sheet.record(column, samples.with_context(|| format!("measuring {}", peer.name()))?);
        }
    }
    Ok(sheet)
}
