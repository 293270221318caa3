//! `cargo xtask soak`: the long forms of the tests, for a night or before a release.

use anyhow::Result;

use crate::tree::Tree;
use crate::{fuzz, step, suites, torture};

/// Repetitions of the official suites; a race that shows once in a few runs shows here.
const SUITES_TIMES: u32 = 10;
/// Seconds for each fuzz target.
const FUZZ_SECONDS: u32 = 600;

pub(crate) fn run(tree: &Tree) -> Result<()> {
    suites::run(tree, &suites::Arguments { checkout: None, times: SUITES_TIMES })?;
    step::summarize(&torture::long(tree)?);
    fuzz::run(tree, &fuzz::Arguments { targets: Vec::new(), seconds: FUZZ_SECONDS })
}
