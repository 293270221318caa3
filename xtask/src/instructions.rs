//! `cargo xtask instructions`: counts the processor's instructions of the work that every message needs, and fails when it has
//! become more.
//!
//! Times differ between machines and minutes, instructions hardly: valgrind counts them, so the machine may be as busy as it likes.
//! Each piece of work is done a few times and then three times as often; the difference is what the work itself takes, without the
//! start of the program. What it may take is in benchmarks/instructions.toml.

mod server;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::tree::Tree;
use crate::{setup, step};

/// What the counts may be at most, and at least, compared to the recorded ones, in percent.
const TOLERANCE: u64 = 5;

/// The recorded counts.
const RECORD: &str = "benchmarks/instructions.toml";

/// How often a server is counted. What it does of its own now and then, such as making the log longer, is a million instructions: with three
/// runs it was in the least of them often enough to move the count by 6 %.
const SERVER_RUNS: usize = 8;

/// Does the work.
const PROGRAM: &str = "channelapi-instructions";

/// A piece of work, and how often it is done.
struct Work {
    name: &'static str,
    times: u64,
    place: Place,
}

/// Where work is done.
#[derive(Clone, Copy)]
enum Place {
    /// In a program of its own, on what the server is made of.
    Parts,
    /// In the server itself.
    Server,
}

const WORK: &[Work] = &[
    // A client's event, from the bytes of the WebSocket frame to its arguments.
    Work { name: "decode", times: 1_000, place: Place::Parts },
    // The frame of a publication of 200 bytes.
    Work { name: "encode", times: 1_000, place: Place::Parts },
    // A publication to 1,000 connections, from the fan-out to each connection's door.
    Work { name: "fanout", times: 20, place: Place::Parts },
    // A volatile publication of 200 bytes by HTTP, from the bytes of its request to those of the answer.
    Work { name: "http", times: 1_000, place: Place::Server },
    // 100 publications into the log.
    Work { name: "publish", times: 20, place: Place::Parts },
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Record what is counted now as what it may be
    #[arg(long)]
    accept: bool,
}

/// The explicit command: counts that could not be taken are a failure.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    if let Some(reason) = reason_to_skip()? {
        bail!("instructions were not counted: {reason}");
    }
    let counted = count_all(tree)?;
    if arguments.accept {
        fs::write(tree.path(RECORD), record(&counted)).with_context(|| format!("cannot write {RECORD}"))?;
        println!("{RECORD} has what was counted");
        return Ok(());
    }
    compare(&counted, &tree.read(Path::new(RECORD))?)
}

/// As a part of `check`: skipped, with a word, where they cannot be counted.
pub(crate) fn check(tree: &Tree) -> Result<()> {
    match reason_to_skip()? {
        Some(reason) => {
            println!("SKIPPED, instructions are not counted here: {reason}");
            Ok(())
        }
        None => compare(&count_all(tree)?, &tree.read(Path::new(RECORD))?),
    }
}

fn reason_to_skip() -> Result<Option<String>> {
    if env::consts::ARCH != "x86_64" {
        return Ok(Some(format!("{RECORD} is for x86_64, this is {}", env::consts::ARCH)));
    }
    Ok(setup::install_valgrind()?.err())
}

fn count_all(tree: &Tree) -> Result<Vec<(&'static str, u64)>> {
    let mut build = tree.cargo();
    build.args(["build", "--release", "--locked", "--package", PROGRAM, "--package", "channelapi"]);
    step::run("Build what is counted (release)", &mut build)?;
    step::announce("Count instructions (valgrind)");
    WORK.iter().map(|work| Ok((work.name, count(tree, work)?))).collect()
}

fn count(tree: &Tree, work: &Work) -> Result<u64> {
    let few = collect(tree, work, work.times)?;
    let many = collect(tree, work, 3 * work.times)?;
    Ok((many - few) / (2 * work.times))
}

/// All instructions of one run; of a server's, the least of some: now and then it does something of its own meanwhile.
fn collect(tree: &Tree, work: &Work, times: u64) -> Result<u64> {
    let run = || {
        let said = match work.place {
            Place::Parts => run_parts(tree, work.name, times)?,
            Place::Server => server::published(tree, times)?,
        };
        collected(&said).with_context(|| format!("valgrind does not say what it has counted: {said}"))
    };
    let mut least = run()?;
    if matches!(work.place, Place::Server) {
        for _ in 1..SERVER_RUNS {
            least = least.min(run()?);
        }
    }
    Ok(least)
}

fn run_parts(tree: &Tree, name: &str, times: u64) -> Result<String> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(tree.target("release").join(PROGRAM));
    valgrind.args([name, &times.to_string()]);
    let output = valgrind.output().context("cannot start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "counting `{name}` failed: {said}");
    Ok(said.into_owned())
}

fn collected(said: &str) -> Option<u64> {
    let (_, behind) = said.split_once("Collected : ")?;
    behind.split_whitespace().next()?.parse().ok()
}

fn compare(counted: &[(&str, u64)], record: &str) -> Result<()> {
    let mut complaints = String::new();
    for (name, now) in counted {
        let Some(recorded) = recorded(record, name) else {
            writeln!(complaints, "  {name}: {now}, and {RECORD} says nothing of it")?;
            continue;
        };
        println!("{name}: {now} instructions, recorded are {recorded}");
        if *now * 100 > recorded * (100 + TOLERANCE) {
            writeln!(complaints, "  {name}: {now} instructions, more than {TOLERANCE} % over {recorded}")?;
        } else if *now * 100 < recorded * (100 - TOLERANCE) {
            println!(
                "  That is less: record it with `cargo xtask instructions --accept`, so that it stays so."
            );
        }
    }
    ensure!(
        complaints.is_empty(),
        "the work for each message has become more:\n{complaints}  \
         If that is worth it, say why in the commit and record it with `cargo xtask instructions --accept`."
    );
    Ok(())
}

fn recorded(record: &str, name: &str) -> Option<u64> {
    record.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim().parse().ok())?
    })
}

fn record(counted: &[(&str, u64)]) -> String {
    let mut text = "# Instructions of the work that every message needs; `cargo xtask check` fails when it becomes 5 % more.\n\
                    # Written by `cargo xtask instructions --accept`, whose source describes the work.\n\n"
        .to_owned();
    for (name, count) in counted {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name} = {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_work_fails_and_less_does_not() {
        let record = record(&[("decode", 1000), ("encode", 100)]);
        for (decode, is_accepted) in [(500, true), (1000, true), (1050, true), (1051, false)] {
            let counted = [("decode", decode), ("encode", 100)];
            assert_eq!(compare(&counted, &record).is_ok(), is_accepted, "{decode}");
        }
        let error = compare(&[("decode", 2000)], &record).unwrap_err().to_string();
        assert!(error.contains("decode: 2000 instructions, more than 5 % over 1000"), "{error}");
        let error = compare(&[("new", 1)], &record).unwrap_err().to_string();
        assert!(error.contains("new: 1"), "{error}");
    }

    #[test]
    fn counts_are_found_in_what_valgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 5042159\n==7==\n";
        assert_eq!(collected(said), Some(5_042_159));
        assert_eq!(collected("==7== Events    : Ir\n"), None);
    }

    #[test]
    fn all_work_is_on_record() {
        let record = Tree::find().unwrap().read(Path::new(RECORD)).unwrap();
        for work in WORK {
            assert!(recorded(&record, work.name).is_some(), "{} is missing in {RECORD}", work.name);
        }
    }
}
