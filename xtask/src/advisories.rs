//! `cargo xtask advisories`: whether a weakness is known in what we depend on, by the database of RustSec.
//!
//! The floors in `deny.toml` hold everywhere and for ever, but somebody has to write them. The database is not reachable from
//! every machine, so this is a step of a release and not of every check.

use anyhow::{Context as _, Result};

use crate::fuzz;
use crate::step;
use crate::tools::{CARGO_DENY, Tool};
use crate::tree::Tree;

/// What to do when it fails, for not all of its reasons are weaknesses.
const HINT: &str = "raise the version of what has a weakness, and its floor in deny.toml; where the database cannot be reached, fetch it where \
                    it can (`cargo deny fetch db`), bring the folder that this makes, ~/.cargo/advisory-dbs, and use --offline";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Ask the copy of the database that is here, if it is of the last three months
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    CARGO_DENY.install(tree)?;
    for (name, manifest) in [("Advisories", "Cargo.toml"), ("Advisories for fuzz/", fuzz::MANIFEST)] {
        let mut deny = Tool::cargo(tree)?;
        deny.args(["deny", "--locked", "--config", "deny.toml", "--manifest-path", manifest]);
        deny.args(arguments.offline.then_some("--offline"));
        step::run(name, deny.args(["check", "advisories"])).context(HINT)?;
    }
    Ok(())
}
