//! Cargo tools that our commands need, installed into the build directory at the version we chose.
//!
//! Nothing is installed into the home directory, and `cargo clean` removes it all.

use std::env;
use std::process::Command;

use anyhow::{Context, Result};

use crate::step;
use crate::tree::Tree;

/// A tool from the crates registry. A new version is a change of this file, never a surprise.
pub(crate) struct Tool {
    package: &'static str,
    version: &'static str,
}

pub(crate) const CARGO_DENY: Tool = Tool { package: "cargo-deny", version: "0.20.2" };
pub(crate) const CARGO_FUZZ: Tool = Tool { package: "cargo-fuzz", version: "0.13.2" };

impl Tool {
    /// Builds the tool unless this version is already there.
    pub(crate) fn install(&self, tree: &Tree) -> Result<()> {
        let Self { package, version } = self;
        if let Some(mut install) = self.installing(tree) {
            return step::install(&format!("Install {package} {version} (once, some minutes)"), &mut install);
        }
        println!("{package} {version} is installed");
        Ok(())
    }

    /// What builds the tool; `None` if this version is already there.
    pub(crate) fn installing(&self, tree: &Tree) -> Option<Command> {
        let Self { package, version } = self;
        if self.installed_version(tree).is_some_and(|found| found == *version) {
            return None;
        }
        let mut install = tree.cargo();
        install.args(["install", package, "--version", version, "--locked", "--force"]);
        install.arg("--root").arg(tree.target("tools"));
        Some(install)
    }

    /// A cargo that finds our tools as its subcommands.
    pub(crate) fn cargo(tree: &Tree) -> Result<Command> {
        let ours = tree.target("tools").join("bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(std::iter::once(ours).chain(env::split_paths(&path)))
            .context("PATH has an entry that cannot be joined")?;
        let mut cargo = tree.cargo();
        cargo.env("PATH", path);
        Ok(cargo)
    }

    fn installed_version(&self, tree: &Tree) -> Option<String> {
        let binary = tree.target("tools").join("bin").join(self.package);
        let output = Command::new(binary).arg("--version").output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        said.rsplit(' ').next().map(str::to_owned)
    }
}
