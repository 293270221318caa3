//! `cargo xtask soak`: the long forms of the tests, for a night or before a release.

use std::process::Command;

use anyhow::Result;

use crate::step::{self, Closing, Outcome};
use crate::tree::Tree;
use crate::{fuzz, suites, torture};

/// Repetitions of the official suites; a race that shows once in a few runs shows here.
const SUITES_TIMES: u32 = 10;
/// Clients that come and go.
const ABANDON_CYCLES: u32 = 1_000_000;
/// Clients that lose their server in the same moment. Each has a file on both sides, and 20,000 is what many machines allow a process.
const STORM_CLIENTS: u32 = 19_000;
/// Seconds for each fuzz target: an hour.
const FUZZ_SECONDS: u32 = 3600;

pub(crate) fn run(tree: &Tree) -> Result<()> {
    step::summarize(&torture::long(tree)?);
    step::summarize(&[crowd(tree)?, storm(tree)?]);
    fuzz::run(tree, &fuzz::Arguments { targets: Vec::new(), seconds: FUZZ_SECONDS })?;
    // Last, for they need a checkout that not every machine has.
    suites::run(tree, &suites::Arguments { checkout: None, times: SUITES_TIMES })
}

/// Clients that come and go in every way there is, and leave nothing behind.
fn crowd(tree: &Tree) -> Result<Outcome> {
    let mut test = crowd_test(tree, "leaves_nothing");
    test.env("ABANDON_CYCLES", ABANDON_CYCLES.to_string());
    step::watch("A million clients that come and go", test, Closing::StartingWith("test result:"))
}

/// Clients whose server is killed, and who are all back within ten seconds.
fn storm(tree: &Tree) -> Result<Outcome> {
    let mut test = crowd_test(tree, "loses_the_server");
    test.env("STORM_CLIENTS", STORM_CLIENTS.to_string()).args(["--", "--nocapture"]);
    step::watch("Clients that all come back at once", test, Closing::StartingWith("storm:"))
}

fn crowd_test(tree: &Tree, name: &str) -> Command {
    let mut test = tree.cargo();
    test.args(["test", "--release", "--locked", "-p", "channelapi", "--test", "crowds", name]);
    test
}
