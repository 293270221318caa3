//! All benchmarks in one go, and the page that shows what they found.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser as _};
use serde_json::{Value, json};

use crate::Arguments;
use crate::benchmark::Benchmark;
use crate::cores::Cores;
use crate::outcome::{Outcome, write_json};
use crate::peer::Peer;
use crate::{plot, results};

/// Which benchmarks, and how.
pub(crate) struct Suite {
    name: &'static str,
    rounds: u16,
    /// Connections where a benchmark has no reason for another number.
    connections: usize,
    runs: &'static [&'static str],
}

/// What the published figures come from.
pub(crate) const ALL: Suite = Suite {
    name: "all",
    rounds: 3,
    connections: 10_000,
    runs: &[
        "connections --peers channelapi,socketioxide,node,node-uws,python-socketio,centrifuge,centrifuge-tuned",
        "connections --peers channelapi --connections 19000",
        "kinds",
        "delivery --peers channelapi,socketioxide,node,node-uws,centrifuge,centrifuge-tuned,floor",
        "delivery --peers channelapi,socketioxide,node,node-uws,centrifuge,floor --connections 10000 --size 4096 --unicasts 2000",
        "delivery --peers channelapi,python-socketio --connections 1000 --unicasts 5000",
        "paced --peers channelapi,socketioxide,node,node-uws,centrifuge,centrifuge-tuned,floor",
        "unicast --peers channelapi,socketioxide,node,node-uws,centrifuge,centrifuge-tuned,floor",
        "publish --seconds 2",
        "publish --seconds 5 --in-flight 64 --rate 5000",
        "publish --seconds 2 --in-flight 64 --ways v1,volatile,redis --no-pin",
        "batch",
        "resume --connections 1000",
        "slow",
        "stalled --connections 200",
        "history",
        "upkeep",
        "start",
        "scaling",
        "reconnect --connections 19000",
        "storm --peers channelapi,socketioxide",
        "churn --peers channelapi --connections 2000",
    ],
};

/// What shows within minutes whether something is badly wrong.
pub(crate) const QUICK: Suite = Suite {
    name: "quick",
    rounds: 1,
    connections: 2_000,
    runs: &[
        "connections --peers channelapi,socketioxide,node,node-uws,python-socketio,centrifuge --settle 4 --idle 4 --deliveries 100000",
        "kinds --settle 4",
        "delivery --peers channelapi,socketioxide,node,node-uws,centrifuge,floor --deliveries 100000 --unicasts 5000",
        "paced --peers channelapi,socketioxide,node,centrifuge,floor --publications 20",
        "unicast --peers channelapi,socketioxide,node,centrifuge,floor --publications 10000",
        "publish --seconds 1",
        "publish --seconds 2 --in-flight 64 --rate 2000",
        "batch --batches 200",
        "resume --deliveries 100000",
        "slow --pending 20000",
        "stalled --publications 500",
        "history --messages 20000 --seconds 1",
        "start --messages 200000",
        "scaling --publications 20",
        "reconnect",
        "storm --peers channelapi --waves 2 --settle 5",
        "churn --peers channelapi --seconds 10",
    ],
};

/// Where the results go, and what is done differently.
#[derive(Args)]
pub(crate) struct SuiteOptions {
    /// Where the page, its pictures and every single value go: DATE.md, DATE.json, DATE-….svg. Without it the page is printed.
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// Only these benchmarks, in this order.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Peers on request that are measured, too, wherever socketioxide is. One that cannot be installed or fails only marks its own figures.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PEERS")]
    with: Vec<Peer>,
    /// How often each is measured.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,
    /// How often each is measured in a round if the host takes more than 1 % of the machine away meanwhile.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=20))]
    attempts: Option<u16>,
    /// How many connections there are at most, in every benchmark.
    #[arg(long)]
    connections: Option<usize>,
    /// Let server and clients share all cores instead of giving the server one of its own.
    #[arg(long)]
    no_pin: bool,
}

/// Runs one benchmark after the other. One that fails does not keep the others from running, but the run as a whole has failed then.
pub(crate) async fn run(suite: &Suite, options: &SuiteOptions, machine: &Value, cores: &Cores) -> Result<()> {
    // Before the run, not after an hour of it.
    let runs = chosen(suite, &options.only)?;
    if let Some(folder) = &options.results {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    for line in &runs {
        let arguments = arguments(suite, options, line);
        match measure(&arguments, cores).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                let failure = format!("`channelapi-bench {}` failed: {error:#}", arguments.join(" "));
                eprintln!("{failure}");
                failures.push(failure);
            }
        }
        // After each, so that whoever ends the run early has what it has found.
        if let Some(folder) = &options.results {
            write(folder, suite, machine, &outcomes, &failures)?;
        }
    }
    if options.results.is_none() {
        println!(
            "{}",
            results::page(date_of(suite, machine), &command(), machine, &outcomes, &failures, &[])
        );
    }
    ensure!(failures.is_empty(), "{} of {} benchmarks failed", failures.len(), runs.len());
    Ok(())
}

/// The runs of the benchmarks with these names, or all.
fn chosen(suite: &Suite, names: &[String]) -> Result<Vec<&'static str>> {
    let name_of = |run: &'static str| run.split(' ').next().unwrap_or(run);
    if names.is_empty() {
        return Ok(suite.runs.to_vec());
    }
    let mut chosen = Vec::new();
    for name in names {
        let before = chosen.len();
        chosen.extend(suite.runs.iter().filter(|run| name_of(run) == name));
        if chosen.len() == before {
            let mut known: Vec<_> = suite.runs.iter().map(|run| name_of(run)).collect();
            known.dedup();
            bail!("`{name}` is not in `{}`; what is: {}", suite.name, known.join(", "));
        }
    }
    Ok(chosen)
}

fn date_of<'a>(suite: &Suite, machine: &'a Value) -> &'a str {
    machine["date"].as_str().unwrap_or(suite.name)
}

fn command() -> String {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    format!("cargo xtask bench {}", arguments.join(" "))
}

/// Writes the page, its pictures and every single value.
fn write(
    folder: &Path,
    suite: &Suite,
    machine: &Value,
    outcomes: &[Outcome],
    failures: &[String],
) -> Result<()> {
    let (date, command) = (date_of(suite, machine), command());
    let path = |ending: &str| folder.join(format!("{date}{ending}"));
    let pictures = plot::pictures(outcomes);
    let page = results::page(date, &command, machine, outcomes, failures, &pictures);
    std::fs::write(path(".md"), page).with_context(|| format!("cannot write into {}", folder.display()))?;
    for picture in &pictures {
        std::fs::write(path(&format!("-{}.svg", picture.name)), &picture.svg)?;
    }
    let values: Vec<_> = outcomes.iter().map(|outcome| outcome.json(machine)).collect();
    write_json(&path(".json"), &json!({ "command": command, "runs": values }))
}

async fn measure(arguments: &[String], cores: &Cores) -> Result<Outcome> {
    benchmark(arguments)?.run(arguments.to_vec(), cores).await
}

fn benchmark(arguments: &[String]) -> Result<Benchmark> {
    let program = std::iter::once("channelapi-bench".to_owned());
    match Arguments::try_parse_from(program.chain(arguments.iter().cloned()))? {
        Arguments::One(benchmark) => Ok(benchmark),
        _ => unreachable!("a suite holds single benchmarks"),
    }
}

/// The whole command line of one run.
fn arguments(suite: &Suite, options: &SuiteOptions, line: &str) -> Vec<String> {
    /// These count no connections.
    const WITHOUT_CONNECTIONS: [&str; 6] = ["publish", "batch", "slow", "history", "upkeep", "start"];
    let mut words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    let peers = words.iter().position(|word| word == "--peers").and_then(|index| words.get_mut(index + 1));
    if let Some(peers) = peers.filter(|peers| peers.split(',').any(|peer| peer == Peer::Socketioxide.name()))
    {
        for peer in &options.with {
            if !peers.split(',').any(|known| known == peer.name()) {
                let _ = write!(peers, ",{}", peer.name());
            }
        }
    }
    words.extend(["--rounds".to_owned(), options.rounds.unwrap_or(suite.rounds).to_string()]);
    if let Some(attempts) = options.attempts {
        words.extend(["--attempts".to_owned(), attempts.to_string()]);
    }
    if options.no_pin && !words.iter().any(|word| word == "--no-pin") {
        words.push("--no-pin".to_owned());
    }
    if !WITHOUT_CONNECTIONS.contains(&words[0].as_str()) {
        let given = words.iter().position(|word| word == "--connections").map(|index| index + 1);
        let own = given.and_then(|index| words[index].parse().ok()).unwrap_or(suite.connections);
        let count = options.connections.map_or(own, |most| most.min(own)).to_string();
        match given {
            Some(index) => words[index] = count,
            None => words.extend(["--connections".to_owned(), count]),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: SuiteOptions = SuiteOptions {
        results: None,
        only: Vec::new(),
        with: Vec::new(),
        rounds: None,
        attempts: None,
        connections: None,
        no_pin: false,
    };

    #[test]
    fn every_run_of_a_suite_can_be_started() {
        for suite in [&ALL, &QUICK] {
            for line in suite.runs {
                let arguments = arguments(suite, &PLAIN, line);
                let benchmark = benchmark(&arguments).unwrap_or_else(|error| panic!("{line}: {error}"));
                assert_eq!(benchmark.setup().rounds, suite.rounds);
            }
        }
    }

    #[test]
    fn benchmarks_are_chosen_by_their_names_and_run_in_that_order() {
        let chosen =
            |names: &[&str]| chosen(&ALL, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(chosen(&[]).unwrap(), ALL.runs);
        assert_eq!(chosen(&["upkeep", "batch"]).unwrap(), ["upkeep", "batch"]);
        assert_eq!(chosen(&["publish"]).unwrap().len(), 3);
        let refusal = chosen(&["batch", "bach"]).unwrap_err().to_string();
        assert!(refusal.starts_with("`bach` is not in `all`; what is: connections, kinds, "), "{refusal}");
    }

    /// One command measures a peer that takes long to build beside all others, in the same rounds.
    #[test]
    fn peers_on_request_are_measured_in_every_comparison() {
        let with = vec![Peer::Sockudo, Peer::SocketioxideSystem, Peer::Node];
        let options = SuiteOptions { with, ..PLAIN };
        for suite in [&ALL, &QUICK] {
            let mut benchmarks = std::collections::BTreeSet::new();
            for line in suite.runs {
                let arguments = arguments(suite, &options, line);
                benchmark(&arguments).unwrap_or_else(|error| panic!("{line}: {error}"));
                let Some(index) = arguments.iter().position(|word| word == "--peers") else { continue };
                let peers: Vec<_> = arguments[index + 1].split(',').collect();
                assert_eq!(peers.contains(&"sockudo"), peers.contains(&"socketioxide"), "{line}");
                assert_eq!(
                    peers.iter().filter(|peer| **peer == "node").count(),
                    usize::from(peers.contains(&"node"))
                );
                if peers.contains(&"sockudo") {
                    benchmarks.insert(arguments[0].clone());
                }
            }
            for name in ["connections", "delivery", "paced", "unicast"] {
                assert!(benchmarks.contains(name), "{name} of {}", suite.name);
            }
        }
    }

    #[test]
    fn options_of_the_suite_reach_every_run() {
        let options = SuiteOptions {
            rounds: Some(2),
            attempts: Some(3),
            connections: Some(500),
            no_pin: true,
            ..PLAIN
        };
        for (line, expected) in [
            ("kinds", "kinds --rounds 2 --attempts 3 --no-pin --connections 500"),
            ("churn --connections 200", "churn --connections 200 --rounds 2 --attempts 3 --no-pin"),
            ("churn --connections 2000", "churn --connections 500 --rounds 2 --attempts 3 --no-pin"),
            ("batch --no-pin", "batch --no-pin --rounds 2 --attempts 3"),
        ] {
            assert_eq!(arguments(&ALL, &options, line).join(" "), expected);
        }
    }
}
