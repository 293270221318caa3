//! `cargo xtask torture`: breaks a release server on purpose and proves that nothing accepted was lost.

use std::env;
use std::process::Command;

use anyhow::Result;

use crate::run as server;
use crate::step::{self, Closing, Outcome};
use crate::tree::Tree;

type Scenario = &'static [&'static str];

/// What `cargo xtask test` runs: a minute and a half.
const SHORT: &[Scenario] = &[
    &["kill", "--cycles", "50", "--longest", "800"],
    &["double-kill", "--cycles", "10", "--longest", "500"],
    &["restored-backup", "--cycles", "2"],
    &["second-process", "--cycles", "1"],
    &["slow", "--cycles", "1"],
];

/// What `cargo xtask soak` runs: about an hour.
const LONG: &[Scenario] = &[
    &["kill", "--cycles", "1000"],
    &["double-kill", "--cycles", "200"],
    &["restored-backup", "--cycles", "100"],
    &["second-process", "--cycles", "10"],
    &["slow", "--cycles", "5"],
    &["clock", "--cycles", "10"],
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
    build(tree)?;
    step::run("Torture", program(tree).args(&arguments.passed_on))
}

pub(crate) fn short(tree: &Tree) -> Result<Vec<Outcome>> {
    build(tree)?;
    SHORT.iter().map(|scenario| watch(tree, scenario)).collect()
}

pub(crate) fn long(tree: &Tree) -> Result<Vec<Outcome>> {
    build(tree)?;
    LONG.iter().map(|scenario| watch(tree, scenario)).collect()
}

fn build(tree: &Tree) -> Result<()> {
    server::build_server(tree)?;
    let mut build = tree.cargo();
    build.args(["build", "--release", "--locked", "--package", "channelapi-torture"]);
    step::run("Build the torture", &mut build)
}

fn watch(tree: &Tree, scenario: Scenario) -> Result<Outcome> {
    let mut command = program(tree);
    command.args(scenario);
    step::watch(&format!("Torture: {}", scenario[0]), command, Closing::Last(1))
}

/// It finds the server beside itself.
fn program(tree: &Tree) -> Command {
    Command::new(tree.target("release").join(format!("channelapi-torture{}", env::consts::EXE_SUFFIX)))
}
