//! The bill of materials: every crate that is in the server, where it is from, and under which licence.
//!
//! CycloneDX 1.5, made from what cargo says and nothing else, so the same sources give the same text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::tree::Tree;
use crate::{release, step};

/// The package that is published.
const PACKAGE: &str = "channelapi";

/// A crate, by the id that cargo gives it.
#[derive(Debug, Default)]
struct Part {
    name: String,
    version: String,
    licence: String,
    /// The registry's checksum; our own crates have none.
    checksum: Option<String>,
    is_ours: bool,
    /// Whether it runs on the machine that builds, and is in nothing that is published.
    is_for_building: bool,
    needs: BTreeSet<String>,
}

/// Checks that a bill can be made in which nothing is missing.
pub(crate) fn check(tree: &Tree) -> Result<()> {
    step::announce("Bill of materials");
    let parts = parts(tree)?;
    for part in parts.values() {
        ensure!(!part.licence.is_empty(), "{} {} says no licence", part.name, part.version);
        ensure!(part.is_ours || part.checksum.is_some(), "{} {} has no checksum", part.name, part.version);
    }
    let in_it = parts.values().filter(|part| !part.is_for_building).count();
    println!("{in_it} crates are in the server, {} more help to build it", parts.len() - in_it);
    Ok(())
}

/// The version of what is published.
pub(crate) fn version(tree: &Tree) -> Result<String> {
    let parts = parts(tree)?;
    let ours = parts.values().find(|part| part.name == PACKAGE);
    Ok(ours.context("the server is not among its own parts")?.version.clone())
}

/// The bill.
pub(crate) fn bill(tree: &Tree) -> Result<String> {
    let document = document(&parts(tree)?)?;
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn document(parts: &BTreeMap<String, Part>) -> Result<Value> {
    let place = |part: &Part| format!("pkg:cargo/{}@{}", part.name, part.version);
    let component = |part: &Part| {
        let mut component = json!({
            "type": if part.name == PACKAGE { "application" } else { "library" },
            "bom-ref": place(part),
            "name": part.name,
            "version": part.version,
            "purl": place(part),
            "scope": if part.is_for_building { "excluded" } else { "required" },
            "licenses": [{ "expression": part.licence }],
        });
        if let Some(checksum) = &part.checksum {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    };
    let needs = |part: &Part| {
        let needs = part.needs.iter().filter_map(|id| parts.get(id)).map(place);
        json!({ "ref": place(part), "dependsOn": needs.collect::<BTreeSet<_>>() })
    };
    let main =
        parts.values().find(|part| part.name == PACKAGE).context("the server is not among its own parts")?;
    let others = parts.values().filter(|part| part.name != PACKAGE);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(main) },
        "components": others.map(component).collect::<Vec<_>>(),
        "dependencies": parts.values().map(needs).collect::<Vec<_>>(),
    }))
}

/// Everything that the published package needs, directly or not.
fn parts(tree: &Tree) -> Result<BTreeMap<String, Part>> {
    let mut metadata = tree.cargo();
    metadata.args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        &release::host(tree)?,
    ]);
    let output = metadata.output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo does not know its packages: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    read(&serde_json::from_slice(&output.stdout)?, &tree.read(Path::new("Cargo.lock"))?)
}

fn read(metadata: &Value, lock: &str) -> Result<BTreeMap<String, Part>> {
    let checksums = checksums(lock);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), node)).collect();
    let Some(root) = packages.iter().find(|(_, package)| package["name"] == PACKAGE) else {
        bail!("there is no package {PACKAGE}")
    };
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    // What is needed while running is looked at first: what is needed for both is in the server.
    let mut waiting = vec![(root.0.clone(), false)];
    let mut later = Vec::new();
    while let Some((id, is_for_building)) = waiting.pop().or_else(|| later.pop()) {
        if parts.contains_key(&id) {
            continue;
        }
        let package = packages.get(&id).with_context(|| format!("cargo does not describe {id}"))?;
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let mut part = Part {
            licence: text(&package["license"]).replace('/', " OR "),
            checksum: checksums.get(&(name.clone(), version.clone())).cloned(),
            is_ours: package["source"].is_null(),
            is_for_building,
            needs: BTreeSet::new(),
            name,
            version,
        };
        for needed in list(&nodes.get(&id).context("cargo resolves no such package")?["deps"]) {
            let kinds = list(&needed["dep_kinds"]);
            let is_normal = kinds.iter().any(|kind| kind["kind"].is_null());
            let is_build = kinds.iter().any(|kind| kind["kind"] == "build");
            if !is_normal && !is_build {
                continue; // For tests only.
            }
            let needed = text(&needed["pkg"]);
            part.needs.insert(needed.clone());
            let is_macro = is_macro(packages.get(&needed));
            if is_for_building || !is_normal || is_macro {
                later.push((needed, true));
            } else {
                waiting.push((needed, false));
            }
        }
        parts.insert(id, part);
    }
    Ok(parts)
}

/// Macros run in the compiler.
fn is_macro(package: Option<&Value>) -> bool {
    let targets = package.and_then(|package| package["targets"].as_array());
    targets.into_iter().flatten().any(|target| {
        target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "proc-macro"))
    })
}

/// The checksums in a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut checksums = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.map(|value| value.trim_end_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (field("name"), field("version"), field("checksum"))
        {
            checksums.insert((name, version), checksum);
        }
    }
    checksums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, kind: &str) -> Value {
        json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": "registry",
            "targets": [{ "kind": [kind] }] })
    }

    fn needs(id: &str, needed: &[(&str, Value)]) -> Value {
        let needed = needed.iter().map(|(id, kind)| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] }));
        json!({ "id": id, "deps": needed.collect::<Vec<_>>() })
    }

    #[test]
    fn what_is_in_the_server_is_told_from_what_builds_and_tests_it() {
        let names = [
            (PACKAGE, "bin"),
            ("runs", "lib"),
            ("both", "lib"),
            ("macro", "proc-macro"),
            ("builds", "lib"),
            ("tests", "lib"),
        ];
        let metadata = json!({
            "packages": names.map(|(name, kind)| package(name, kind)),
            "resolve": { "nodes": [
                needs(PACKAGE, &[("runs", Value::Null), ("macro", Value::Null), ("builds", "build".into()), ("tests", "dev".into())]),
                needs("runs", &[("both", Value::Null)]),
                needs("macro", &[("both", Value::Null)]),
                needs("builds", &[]),
                needs("both", &[]),
                needs("tests", &[]),
            ] },
        });
        let lock = "[[package]]\nname = \"runs\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n";
        let parts = read(&metadata, lock).unwrap();
        let is_for_building = |name: &str| parts.get(name).map(|part| part.is_for_building);
        assert_eq!(["runs", "both"].map(is_for_building), [Some(false); 2]);
        assert_eq!(["macro", "builds"].map(is_for_building), [Some(true); 2]);
        assert_eq!(is_for_building("tests"), None);

        let bill = document(&parts).unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], PACKAGE);
        let runs = bill["components"].as_array().unwrap().iter().find(|part| part["name"] == "runs").unwrap();
        assert_eq!(runs["purl"], "pkg:cargo/runs@1.0.0");
        assert_eq!(runs["hashes"][0]["content"], "abc");
        assert_eq!(runs["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let of_the_server = |entry: &&Value| entry["ref"] == "pkg:cargo/channelapi@1.0.0";
        let needed = bill["dependencies"].as_array().unwrap().iter().find(of_the_server).unwrap();
        let expected = ["builds", "macro", "runs"].map(|name| format!("pkg:cargo/{name}@1.0.0"));
        assert_eq!(needed["dependsOn"], json!(expected));
    }
}
