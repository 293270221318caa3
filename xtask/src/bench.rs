//! `cargo xtask bench`: the load generator, always built the way its figures are published.

use anyhow::Result;

use crate::tree::Tree;
use crate::{run as server, step};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    passed_on: Vec<String>,
}

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    // It starts the server that lies beside it.
    server::build_server(tree)?;
    let mut bench = tree.cargo();
    bench.args(["run", "--release", "--locked", "--package", "channelapi-bench", "--"]);
    step::run("Load generator", bench.args(&arguments.passed_on))
}
