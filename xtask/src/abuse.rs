//! `cargo xtask abuse`: sends a release server everything that it should not be sent.

use anyhow::Result;

use crate::step::{self, Closing, Outcome};
use crate::torture;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on as they are: `--only E5,S9`, `--list`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    passed_on: Vec<String>,
}

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    torture::build(tree)?;
    step::run("Abuse", torture::program(tree).arg("abuse").args(&arguments.passed_on))
}

/// What `cargo xtask test` runs: all of it, in about a minute and a half.
pub(crate) fn watch(tree: &Tree) -> Result<Outcome> {
    torture::build(tree)?;
    let mut command = torture::program(tree);
    command.arg("abuse");
    step::watch("Abuse", command, Closing::Last(3))
}
