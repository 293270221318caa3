//! `cargo xtask check`: everything that can be said about a change without running the server.
//!
//! The quick checks come first. All of them are the project's own rules, so none needs the network once
//! the tools are installed.

use anyhow::Result;

use crate::tools::{CARGO_DENY, Tool};
use crate::tree::Tree;
use crate::{fuzz, hygiene, imports, instructions, materials, step};

pub(crate) fn run(tree: &Tree) -> Result<()> {
    step::announce("Import direction");
    imports::check(tree)?;
    step::announce("Names, lock files, and the paths ARCHITECTURE.md mentions");
    hygiene::check(tree)?;
    formatting(tree)?;
    lints(tree)?;
    documentation(tree)?;
    dependencies(tree)?;
    materials::check(tree)?;
    instructions::check(tree)?;
    println!("\nAll checks passed.");
    Ok(())
}

fn formatting(tree: &Tree) -> Result<()> {
    step::run("Formatting", tree.cargo().args(["fmt", "--all", "--check"]))?;
    let mut fuzzing = tree.cargo();
    step::run("Formatting of fuzz/", fuzzing.args(["fmt", "--check", "--manifest-path", fuzz::MANIFEST]))
}

fn lints(tree: &Tree) -> Result<()> {
    let mut workspace = tree.cargo();
    workspace.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    step::run("Lints", &mut workspace)?;
    let mut fuzzing = tree.cargo();
    fuzzing.args(["clippy", "--all-targets", "--locked", "--manifest-path", fuzz::MANIFEST]);
    step::run("Lints of fuzz/", fuzzing.args(["--", "-D", "warnings"]))
}

/// Private items too: most readers of our documentation are readers of the source.
fn documentation(tree: &Tree) -> Result<()> {
    let mut doc = tree.cargo();
    doc.env("RUSTDOCFLAGS", "-D warnings");
    doc.args(["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
    step::run("Documentation", &mut doc)
}

/// Licences, banned crates, version floors and sources, as deny.toml has them.
fn dependencies(tree: &Tree) -> Result<()> {
    CARGO_DENY.install(tree)?;
    let mut deny = Tool::cargo(tree)?;
    step::run("Dependencies", deny.args(["deny", "--locked", "check", "bans", "licenses", "sources"]))?;
    let mut fuzzing = Tool::cargo(tree)?;
    fuzzing.args(["deny", "--locked", "--config", "deny.toml", "--manifest-path", fuzz::MANIFEST]);
    fuzzing.args(["check", "--allow", "license-not-encountered", "bans", "licenses", "sources"]);
    step::run("Dependencies of fuzz/", &mut fuzzing)
}
