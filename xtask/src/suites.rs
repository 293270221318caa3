//! `cargo xtask suites`: the official Engine.IO and Socket.IO test suites, unmodified, against our server.
//!
//! They belong to another project and are never committed here: they come from a checkout we are pointed
//! to, or from a clone. Without either the suites did not run, and that is said so that nobody misses it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step::{self, Closing, Outcome};
use crate::tree::Tree;
use crate::{run, setup};

const REPOSITORY: &str = "https://github.com/socketio/socket.io";
/// Names a checkout of `REPOSITORY`, for machines that cannot clone it.
const CHECKOUT_VARIABLE: &str = "SOCKETIO_CHECKOUT";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A checkout of the public repository socketio/socket.io [default: $SOCKETIO_CHECKOUT, else a clone]
    #[arg(long, value_name = "DIR")]
    pub(crate) checkout: Option<PathBuf>,
    /// How many times in a row
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) times: u32,
}

/// The explicit command: suites that did not run are a failure.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    setup::for_javascript(tree)?;
    run::build_server(tree)?;
    let Some(outcome) = run_if_found(tree, arguments.checkout.as_deref(), arguments.times)? else {
        bail!("the official suites did not run");
    };
    step::summarize(&[outcome]);
    Ok(())
}

/// Runs the suites, or says loudly that there are none to run and answers `None`.
pub(crate) fn run_if_found(tree: &Tree, given: Option<&Path>, times: u32) -> Result<Option<Outcome>> {
    match find_checkout(tree, given) {
        Ok(checkout) => drive(tree, &checkout, times).map(Some),
        Err(reason) => {
            print_did_not_run(&reason);
            Ok(None)
        }
    }
}

fn drive(tree: &Tree, checkout: &Path, times: u32) -> Result<Outcome> {
    let mut node = Command::new("node");
    node.current_dir(tree.path("")).env("CHANNELAPI_BIN", tree.server());
    node.arg("conformance/official.js").arg("--checkout").arg(checkout);
    node.args(["--times", &times.to_string()]);
    step::watch("Official suites", node, Closing::Last(8))
}

fn find_checkout(tree: &Tree, given: Option<&Path>) -> Result<PathBuf> {
    let named = given.map(Path::to_path_buf).or_else(|| env::var_os(CHECKOUT_VARIABLE).map(PathBuf::from));
    if let Some(checkout) = named {
        return existing(&checkout);
    }
    let clone = tree.target("suites").join("socket.io");
    if !clone.is_dir() {
        clone_to(&clone)?;
    }
    existing(&clone)
}

/// Absolute, because the suites are run from elsewhere.
fn existing(checkout: &Path) -> Result<PathBuf> {
    fs::canonicalize(checkout).with_context(|| format!("there is no checkout at {}", checkout.display()))
}

fn clone_to(clone: &Path) -> Result<()> {
    let unfinished = clone.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    let mut git = Command::new("git");
    // A machine without a way out should learn so in a minute, and never be asked for a password.
    git.env("GIT_TERMINAL_PROMPT", "0").args(["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30"]);
    git.args(["clone", "--quiet", "--depth", "1", REPOSITORY]).arg(&unfinished);
    step::run("Clone the official suites", &mut git)?;
    // Renamed only when complete, so that an interrupted clone is never taken for a whole one.
    fs::rename(&unfinished, clone).with_context(|| format!("cannot create {}", clone.display()))
}

fn print_did_not_run(reason: &anyhow::Error) {
    let bar = "━".repeat(100);
    println!("\n{bar}");
    println!("  THE OFFICIAL TEST SUITES DID NOT RUN.");
    println!("  {reason:#}");
    println!("  Point {CHECKOUT_VARIABLE}, or `cargo xtask suites --checkout DIR`, to a checkout of");
    println!("  {REPOSITORY}");
    println!("{bar}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_that_is_not_there_is_an_error_that_names_it() {
        let error = existing(Path::new("no/such/checkout")).unwrap_err().to_string();
        assert!(error.contains("no/such/checkout"), "{error}");
    }
}
