//! `cargo xtask soak`: the long forms of the tests, for a night or before a release.

use anyhow::Result;

use crate::step::{self, Closing, Outcome};
use crate::tree::Tree;
use crate::{fuzz, suites, torture};

/// Repetitions of the official suites; a race that shows once in a few runs shows here.
const SUITES_TIMES: u32 = 10;
/// Clients that come and go.
const ABANDON_CYCLES: u32 = 1_000_000;
/// Seconds for each fuzz target: an hour.
const FUZZ_SECONDS: u32 = 3600;

pub(crate) fn run(tree: &Tree) -> Result<()> {
    suites::run(tree, &suites::Arguments { checkout: None, times: SUITES_TIMES })?;
    step::summarize(&torture::long(tree)?);
    step::summarize(&[crowd(tree)?]);
    fuzz::run(tree, &fuzz::Arguments { targets: Vec::new(), seconds: FUZZ_SECONDS })
}

/// Clients that come and go in every way there is, and leave nothing behind.
fn crowd(tree: &Tree) -> Result<Outcome> {
    let mut test = tree.cargo();
    test.env("ABANDON_CYCLES", ABANDON_CYCLES.to_string());
    test.args(["test", "--release", "--locked", "-p", "channelapi", "--test", "crowds", "leaves_nothing"]);
    step::watch("A million clients that come and go", test, Closing::StartingWith("test result:"))
}
