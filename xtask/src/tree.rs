//! The checkout: where its root and its build directory are, and which files belong to the project.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Directories with nothing of ours in them, wherever they appear.
const NOT_OURS: &[&str] = &["target", "node_modules", ".git", ".venv", "__pycache__"];

/// The checkout this command runs in.
#[derive(Clone)]
pub(crate) struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Finds the checkout through cargo, so that commands work from any directory inside it.
    pub(crate) fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("the xtask package has no parent directory")?.to_path_buf();
        ensure!(
            root.join("Cargo.lock").is_file(),
            "{} is not the checkout; start this command as `cargo xtask` inside it",
            root.display()
        );
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |given| root.join(given));
        Ok(Self { root, target })
    }

    /// A path inside the checkout; the root itself for `""`.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        if inside.is_empty() { self.root.clone() } else { self.root.join(inside) }
    }

    /// A path inside the build directory, which everything we generate shares.
    pub(crate) fn target(&self, inside: &str) -> PathBuf {
        self.target.join(inside)
    }

    /// The release binary, built or not.
    pub(crate) fn server(&self) -> PathBuf {
        self.target("release").join(format!("channelapi{}", env::consts::EXE_SUFFIX))
    }

    /// A cargo that builds into the one shared build directory, whatever package it builds.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    /// Every file of the project, as sorted paths relative to the root.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        collect(&self.root, &self.root, &mut found)?;
        found.sort();
        Ok(found)
    }

    /// The text of a file that has to be there.
    pub(crate) fn read(&self, inside: &Path) -> Result<String> {
        let path = self.root.join(inside);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // Not `is_dir` of the path: a link to a directory could lead out of the checkout or in circles.
        if !entry.file_type()?.is_dir() {
            found.push(entry.path().strip_prefix(root)?.to_path_buf());
        } else if !NOT_OURS.iter().any(|skipped| name == *skipped) {
            collect(root, &entry.path(), found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_the_project_only() {
        let files = Tree::find().unwrap().files().unwrap();
        assert!(files.contains(&PathBuf::from("xtask/src/tree.rs")));
        assert!(files.iter().all(|file| file.components().all(|part| part.as_os_str() != "target")));
    }
}
