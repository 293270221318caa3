//! `cargo xtask torture`: breaks a release server on purpose and proves that nothing accepted was lost.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run as server;
use crate::step::{self, Closing, Outcome};
use crate::tree::Tree;

type Scenario = &'static [&'static str];

/// What `cargo xtask test` runs: three minutes.
const SHORT: &[Scenario] = &[
    &["kill", "--cycles", "50", "--longest", "800"],
    &["double-kill", "--cycles", "10", "--longest", "500"],
    &["restart", "--cycles", "5"],
    &["restored-backup", "--cycles", "2"],
    &["second-process", "--cycles", "1"],
    &["slow", "--cycles", "1"],
    &["short-memory", "--cycles", "2"],
    &["sync-order", "--cycles", "1"],
    &["failing", "--cycles", "1"],
    &["rolling", "--cycles", "1"],
    &["disk-full", "--cycles", "1"],
    &["read-only", "--cycles", "1"],
    &["bit-rot", "--cycles", "40"],
    &["power-cut", "--cycles", "5"],
    &["clock-jump", "--cycles", "1"],
    &["suspend", "--cycles", "1"],
    &["half-open", "--cycles", "1"],
    &["slow-link", "--cycles", "1", "--rate", "96"],
];

/// What `cargo xtask soak` runs: about an hour and a half.
const LONG: &[Scenario] = &[
    &["kill", "--cycles", "1000"],
    &["double-kill", "--cycles", "200"],
    &["restart", "--cycles", "100"],
    &["restored-backup", "--cycles", "100"],
    &["second-process", "--cycles", "10"],
    &["slow", "--cycles", "5"],
    &["slow-link", "--cycles", "2", "--rate", "8"],
    &["slow-link", "--cycles", "5", "--rate", "64"],
    &["short-memory", "--seconds", "600"],
    &["clock", "--cycles", "10"],
    &["sync-order", "--cycles", "10"],
    &["failing", "--cycles", "50"],
    &["rolling", "--cycles", "20"],
    &["disk-full", "--cycles", "20"],
    &["read-only", "--cycles", "20"],
    &["bit-rot", "--cycles", "1000"],
    &["power-cut", "--cycles", "200"],
    &["clock-jump", "--cycles", "5"],
    &["suspend", "--cycles", "20"],
    &["half-open", "--cycles", "5"],
    &["abuse"],
    &["abuse", "--alone"],
    &["issuers", "--count", "50000"],
    &["timing"],
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on as they are; without any, the scenarios of `cargo xtask test`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    passed_on: Vec<String>,
}

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    if arguments.passed_on.is_empty() {
        step::summarize(&short(tree)?);
        return Ok(());
    }
    build_all(tree)?;
    step::run("Torture", program(tree).args(&arguments.passed_on))
}

pub(crate) fn short(tree: &Tree) -> Result<Vec<Outcome>> {
    build_all(tree)?;
    SHORT.iter().map(|scenario| watch(tree, scenario)).collect()
}

pub(crate) fn long(tree: &Tree) -> Result<Vec<Outcome>> {
    build_all(tree)?;
    LONG.iter().map(|scenario| watch(tree, scenario)).collect()
}

/// The server and the program that breaks it.
pub(crate) fn build(tree: &Tree) -> Result<()> {
    server::build_server(tree)?;
    let mut build = tree.cargo();
    build.args(["build", "--release", "--locked", "--package", "channelapi-torture"]);
    step::run("Build the torture", &mut build)
}

/// The same, and the server that fails when it is told to.
pub(crate) fn build_all(tree: &Tree) -> Result<()> {
    build_failing_server(tree)?;
    build(tree)
}

/// It shares all dependencies with the server, and cargo gives both the same name: so it is put aside before the server is
/// built, which is quick if it was built before.
fn build_failing_server(tree: &Tree) -> Result<()> {
    let mut build = tree.cargo();
    build.args(["build", "--release", "--locked", "--package", "channelapi", "--features", "failpoints"]);
    step::run("Build the server that fails when it is told to", &mut build)?;
    let aside = built(tree, "channelapi-failpoints");
    fs::copy(tree.server(), &aside).with_context(|| format!("cannot write {}", aside.display()))?;
    Ok(())
}

fn watch(tree: &Tree, scenario: Scenario) -> Result<Outcome> {
    let mut command = program(tree);
    command.args(scenario);
    step::watch(&format!("Torture: {}", scenario[0]), command, Closing::Last(1))
}

/// It finds the server beside itself.
pub(crate) fn program(tree: &Tree) -> Command {
    Command::new(built(tree, "channelapi-torture"))
}

fn built(tree: &Tree, name: &str) -> PathBuf {
    tree.target("release").join(format!("{name}{}", env::consts::EXE_SUFFIX))
}
