//! Rules about files that no compiler knows: their names, what lock files record, what ARCHITECTURE.md names.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::tree::Tree;

/// Names for rooms that nobody has thought about yet.
const VAGUE_NAMES: &[&str] =
    &["common", "commons", "helper", "helpers", "manager", "managers", "misc", "util", "utilities", "utils"];
/// Endings by which a code span in ARCHITECTURE.md is known to be a path.
const PATH_ENDINGS: &[&str] =
    &["/", ".rs", ".js", ".mjs", ".py", ".ts", ".md", ".toml", ".json", ".sh", ".txt", ".html", ".lock"];

pub(crate) fn check(tree: &Tree) -> Result<()> {
    let files = tree.files()?;
    let mut complaints = Vec::new();
    for file in &files {
        complaints.extend(vague_name(file));
        if file.file_name().is_some_and(|name| name == "package-lock.json") {
            complaints.extend(recorded_addresses(file, &serde_json::from_str(&tree.read(file)?)?));
        }
    }
    complaints.extend(missing_paths(&tree.read(Path::new("ARCHITECTURE.md"))?, &files));

    let mut list = String::new();
    for complaint in &complaints {
        writeln!(list, "  {complaint}")?;
    }
    ensure!(complaints.is_empty(), "files break the project's rules:\n{}", list.trim_end());
    println!("{} files, nothing to complain about", files.len());
    Ok(())
}

fn vague_name(file: &Path) -> Option<String> {
    let stems = file.iter().map(|part| Path::new(part).file_stem().unwrap_or(part));
    let vague = stems.map(|stem| stem.to_string_lossy().to_lowercase());
    let vague = vague.into_iter().find(|stem| VAGUE_NAMES.contains(&stem.as_str()))?;
    Some(format!("{}: `{vague}` names no thing; call it by the noun it owns", file.display()))
}

/// A recorded address ties every install to the machine that wrote the lock file.
fn recorded_addresses(file: &Path, lock: &Value) -> Vec<String> {
    let packages = lock.get("packages").and_then(Value::as_object).into_iter().flatten();
    let recorded = packages.filter(|(_, package)| {
        let resolved = package.get("resolved").and_then(Value::as_str);
        resolved.is_some_and(|address| address.starts_with("http"))
    });
    recorded
        .map(|(name, _)| {
            format!("{}: {name} records a download address; remove its \"resolved\" line", file.display())
        })
        .collect()
}

/// A path may be given from the root or from the directory the text is about.
fn missing_paths(architecture: &str, files: &[PathBuf]) -> Vec<String> {
    let mut known = BTreeSet::new();
    for file in files {
        known.extend(file.ancestors().filter(|path| !path.as_os_str().is_empty()));
    }
    let exists = |path: &str| known.iter().any(|file| file.ends_with(path.trim_end_matches('/')));
    let named = architecture.split('`').skip(1).step_by(2).filter(|span| is_path(span));
    named
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|path| !exists(path))
        .map(|path| format!("ARCHITECTURE.md names `{path}`, which does not exist"))
        .collect()
}

fn is_path(span: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_./-".contains(character);
    span.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '.')
        && span.chars().all(plain)
        && PATH_ENDINGS.iter().any(|ending| span.ends_with(ending) && span.len() > ending.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vague_names_are_found_in_any_part_of_a_path() {
        let complains = |path: &str| vague_name(Path::new(path)).is_some();
        assert!(complains("crates/a/src/utils.rs"));
        assert!(complains("crates/a/src/helpers/frame.rs"));
        assert!(complains("conformance/Common.js"));
        assert!(!complains("crates/a/src/utility_bill.rs"));
    }

    #[test]
    fn lock_files_may_not_record_addresses() {
        let lock = serde_json::json!({"packages": {
            "node_modules/one": {"version": "1.0.0", "resolved": "https://example.org/one.tgz"},
            "node_modules/two": {"version": "1.0.0"},
            "node_modules/three": {"resolved": "../three", "link": true},
        }});
        let complaints = recorded_addresses(Path::new("package-lock.json"), &lock);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("node_modules/one"));
    }

    #[test]
    fn architecture_may_name_paths_from_the_root_or_relative_but_only_existing_ones() {
        let files = [PathBuf::from("crates/core/src/hub.rs"), PathBuf::from("docs/adr/one.md")];
        let gone = |text: &str| missing_paths(text, &files).len();
        assert_eq!(gone("`crates/core/src/hub.rs`, `core/src/` and `hub.rs`, `docs/`"), 0);
        assert_eq!(gone("`crates/core/src/spoke.rs` and `ocs/`"), 2);
        assert_eq!(gone("`POST /channel/`, `Hub::publish`, `/healthz/`, `a.b`"), 0);
    }
}
