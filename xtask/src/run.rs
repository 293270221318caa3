//! `cargo xtask run`: the server, built the way users run it and started with the given arguments.

use anyhow::Result;

use crate::step;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    passed_on: Vec<String>,
}

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let mut server = tree.cargo();
    server.args(["run", "--release", "--locked", "--package", "channelapi", "--"]);
    step::run("Server", server.args(&arguments.passed_on))
}

/// Builds what the tests start; quick when nothing changed.
pub(crate) fn build_server(tree: &Tree) -> Result<()> {
    let mut build = tree.cargo();
    build.args(["build", "--release", "--locked", "--package", "channelapi"]);
    step::run("Build the server (release)", &mut build)
}
