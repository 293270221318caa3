//! The compiler: what it says of itself and of this machine.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tree::Tree;

/// The machine that it is built for: this one.
pub(crate) fn host(tree: &Tree) -> Result<String> {
    said(tree, &["--print", "host-tuple"])
}

/// What the compiler answers.
pub(crate) fn said(tree: &Tree, arguments: &[&str]) -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).current_dir(tree.path("")).args(arguments).output();
    let output = output.context("cannot start rustc")?;
    ensure!(output.status.success(), "rustc does not answer {arguments:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
