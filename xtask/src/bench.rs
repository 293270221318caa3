//! `cargo xtask bench`: the load generator and the comparison of stores, always built the way their figures are published.

use anyhow::Result;

use crate::tree::Tree;
use crate::{run as server, step};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on as they are: `quick` or `all`, or one benchmark (`--help` names them); `stores` in front measures stores
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    passed_on: Vec<String>,
}

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    if let Some((first, passed_on)) = arguments.passed_on.split_first()
        && first == "stores"
    {
        let mut stores = tree.cargo();
        stores.args([
            "run",
            "--release",
            "--locked",
            "--manifest-path",
            "benchmarks/stores/Cargo.toml",
            "--",
        ]);
        return step::run("Comparison of stores", stores.arg("compare").args(passed_on));
    }
    // It starts the server that lies beside it.
    server::build_server(tree)?;
    let mut bench = tree.cargo();
    bench.args(["run", "--release", "--locked", "--package", "channelapi-bench", "--"]);
    step::run("Load generator", bench.args(&arguments.passed_on))
}
