//! `cargo xtask fuzz`: feeds the parsers what nobody would think of, and checks the laws of fuzz/src/laws.rs.
//!
//! Without a sanitizer, so that the stable compiler is enough: our own code has no `unsafe`, and the laws
//! are assertions. The corpus grows in the build directory, starting from the seeds in fuzz/seeds/.

mod aside;

pub(crate) use aside::Aside;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::step;
use crate::tools::{CARGO_FUZZ, Tool};
use crate::tree::Tree;

/// The fuzzing package is not part of the workspace: its dependencies are nobody else's business.
pub(crate) const MANIFEST: &str = "fuzz/Cargo.toml";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Targets, or `list` to name them [default: all]
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) seconds: u32,
}

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let known = targets(tree)?;
    if arguments.targets == ["list"] {
        println!("{}", known.join("\n"));
        return Ok(());
    }
    for target in &arguments.targets {
        ensure!(known.contains(target), "no fuzz target `{target}`; there are: {}", known.join(", "));
    }
    CARGO_FUZZ.install(tree)?;
    let chosen = if arguments.targets.is_empty() { &known } else { &arguments.targets };
    build(tree)?;
    for targets in chosen.chunks(SIDE_BY_SIDE) {
        let name = format!("Fuzz {} for {} s", targets.join(" and "), arguments.seconds);
        let fuzzing = targets.iter().map(|target| fuzz(tree, target, arguments.seconds));
        step::run_together(&name, fuzzing.collect::<Result<_>>()?)?;
    }
    Ok(())
}

/// A machine has two cores at least, and a target uses one.
const SIDE_BY_SIDE: usize = 2;

/// All targets at once, so that none waits for the build of another.
fn build(tree: &Tree) -> Result<()> {
    step::run("Build the fuzz targets", &mut building(tree)?)
}

fn building(tree: &Tree) -> Result<Command> {
    cargo_fuzz(tree, "build")
}

/// It builds everything with instructions for the fuzzer in it, so nothing is shared with other builds; in a directory of its own it
/// makes none of them wait.
fn cargo_fuzz(tree: &Tree, command: &str) -> Result<Command> {
    let mut cargo = Tool::cargo(tree)?;
    cargo.env("CARGO_TARGET_DIR", tree.target("fuzz"));
    cargo.args(["fuzz", command, "--fuzz-dir", "fuzz", "--sanitizer", "none", "--features", "fuzzer"]);
    Ok(cargo)
}

/// One target is one file; its law and its seeds carry the same name.
fn targets(tree: &Tree) -> Result<Vec<String>> {
    let directory = tree.path("fuzz/targets");
    let files = fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut names = Vec::new();
    for file in files {
        if let Some(name) = file?.path().file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    ensure!(!names.is_empty(), "no fuzz target is in {}", directory.display());
    names.sort();
    Ok(names)
}

fn fuzz(tree: &Tree, target: &str, seconds: u32) -> Result<Command> {
    let mut command = cargo_fuzz(tree, "run")?;
    command.arg(target).args(seeds_of(tree, target)?);
    command.arg("--").args(settings(tree, target, seconds));
    Ok(command)
}

/// How long a target runs, and what is a finding besides a panic: an input that takes more than `TIMEOUT` seconds, or for which more than
/// `ALLOCATION_MAX` MiB are asked for at once.
fn settings(tree: &Tree, target: &str, seconds: u32) -> [String; 6] {
    // Thousands of times what any takes, because a process of the lowest priority may stand still for many seconds.
    const TIMEOUT: u32 = 60;
    const ALLOCATION_MAX: u32 = 32;
    // As long as the longest packet. By default it is what fits a page, which some limits are beyond; inputs grow only when short ones find
    // nothing new.
    const LENGTH_MAX: u32 = 64 << 10;
    // libFuzzer joins this with a file name as it is, so it has to end with a separator.
    let findings = tree.target("fuzz-findings").join(target);
    [
        format!("-max_total_time={seconds}"),
        format!("-timeout={TIMEOUT}"),
        format!("-malloc_limit_mb={ALLOCATION_MAX}"),
        format!("-max_len={LENGTH_MAX}"),
        "-print_final_stats=1".to_owned(),
        format!("-artifact_prefix={}/", findings.display()),
    ]
}

/// Where a target begins. What it finds goes to the first directory; the seeds are only read.
fn seeds_of(tree: &Tree, target: &str) -> Result<[PathBuf; 2]> {
    let corpus = tree.target("fuzz-corpus").join(target);
    for directory in [&corpus, &tree.target("fuzz-findings").join(target)] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    Ok([corpus, tree.path("fuzz/seeds").join(target)])
}
