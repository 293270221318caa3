//! The bill of materials: every crate that is in the server, where it is from, and under which licence.
//!
//! CycloneDX 1.5, made from what cargo says and nothing else, so the same sources give the same text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::tree::Tree;
use crate::{rustc, step};

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
    ensure_complete(&parts)?;
    let in_it = parts.values().filter(|part| !part.is_for_building).count();
    println!("{in_it} crates are in the server, {} more help to build it", parts.len() - in_it);
    Ok(())
}

/// What is published without a licence or a checksum is of no use to whoever looks for one.
fn ensure_complete(parts: &BTreeMap<String, Part>) -> Result<()> {
    for part in parts.values() {
        ensure!(!part.licence.is_empty(), "{} {} says no licence", part.name, part.version);
        ensure!(part.is_ours || part.checksum.is_some(), "{} {} has no checksum", part.name, part.version);
    }
    Ok(())
}

/// The version of what is published.
pub(crate) fn version(tree: &Tree) -> Result<String> {
    let parts = parts(tree)?;
    let ours = parts.values().find(|part| part.name == PACKAGE);
    Ok(ours.context("the server is not among its own parts")?.version.clone())
}

/// The bill. Fails if something is missing in it.
pub(crate) fn bill(tree: &Tree) -> Result<String> {
    let parts = parts(tree)?;
    ensure_complete(&parts)?;
    let document = document(&parts)?;
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
    let host = rustc::host(tree)?;
    let metadata =
        said(tree, &["metadata", "--locked", "--format-version", "1", "--filter-platform", &host])?;
    // The metadata also has what is wanted only by features that nobody enables, and by other packages of the workspace.
    let of_tree = |edges: &str| {
        let lines = [
            "tree",
            "--locked",
            "--package",
            PACKAGE,
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--edges",
            edges,
        ];
        said(tree, &lines).map(|lines| crates(&lines))
    };
    let (built, inside) = (of_tree("normal,build")?, of_tree("normal,no-proc-macro")?);
    read(&serde_json::from_str(&metadata)?, &tree.read(Path::new("Cargo.lock"))?, &Resolved { built, inside })
}

fn said(tree: &Tree, arguments: &[&str]) -> Result<String> {
    let output = tree.cargo().args(arguments).output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo does not know its packages: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Crates by name and version.
type Crates = BTreeSet<(String, String)>;

/// What cargo builds for the published package.
struct Resolved {
    /// Everything, also what runs on the machine that builds.
    built: Crates,
    /// What is in the binary.
    inside: Crates,
}

/// The crates in the lines of `cargo tree`, such as `serde v1.0.0 (proc-macro)`.
fn crates(lines: &str) -> Crates {
    let words = lines.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let named = words
        .filter_map(|words| Some((words.first()?.to_string(), words.get(1)?.strip_prefix('v')?.to_owned())));
    named.collect()
}

fn read(metadata: &Value, lock: &str, resolved: &Resolved) -> Result<BTreeMap<String, Part>> {
    let checksums = checksums(lock);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for package in list(&metadata["packages"]) {
        let named = (text(&package["name"]), text(&package["version"]));
        if !resolved.built.contains(&named) {
            continue;
        }
        let part = Part {
            licence: text(&package["license"]).replace('/', " OR "),
            checksum: checksums.get(&named).cloned(),
            is_ours: package["source"].is_null(),
            is_for_building: !resolved.inside.contains(&named),
            needs: BTreeSet::new(),
            name: named.0,
            version: named.1,
        };
        parts.insert(text(&package["id"]), part);
    }
    ensure!(
        parts.len() == resolved.built.len(),
        "cargo builds {} crates and describes {} of them",
        resolved.built.len(),
        parts.len()
    );
    for node in list(&metadata["resolve"]["nodes"]) {
        let Some(part) = parts.get_mut(&text(&node["id"])) else { continue };
        // What is needed for tests only is not.
        let is_needed =
            |kinds: &Value| list(kinds).iter().any(|kind| kind["kind"].is_null() || kind["kind"] == "build");
        let needed = list(&node["deps"]).into_iter().filter(|needed| is_needed(&needed["dep_kinds"]));
        part.needs = needed.map(|needed| text(&needed["pkg"])).collect();
    }
    Ok(parts)
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

    fn package(name: &str) -> Value {
        json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": "registry" })
    }

    fn needs(id: &str, needed: &[(&str, Value)]) -> Value {
        let needed = needed.iter().map(|(id, kind)| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] }));
        json!({ "id": id, "deps": needed.collect::<Vec<_>>() })
    }

    #[test]
    fn what_is_in_the_server_is_told_from_what_builds_and_tests_it() {
        let names = [PACKAGE, "runs", "macro", "builds", "tests", "feature"];
        let metadata = json!({
            "packages": names.map(package),
            "resolve": { "nodes": [
                needs(PACKAGE, &[("runs", Value::Null), ("macro", Value::Null), ("builds", "build".into()), ("tests", "dev".into())]),
                needs("runs", &[("feature", Value::Null)]),
                needs("macro", &[]),
                needs("builds", &[]),
                needs("tests", &[]),
                needs("feature", &[]),
            ] },
        });
        let lock = "[[package]]\nname = \"runs\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n";
        let built = "channelapi v1.0.0 (/somewhere)\nruns v1.0.0\nmacro v1.0.0 (proc-macro)\nbuilds v1.0.0\nruns v1.0.0 (*)\n";
        let resolved = Resolved {
            built: crates(built),
            inside: crates("channelapi v1.0.0 (/somewhere)\nruns v1.0.0\n"),
        };
        let parts = read(&metadata, lock, &resolved).unwrap();
        let is_for_building = |name: &str| parts.get(name).map(|part| part.is_for_building);
        assert_eq!(is_for_building("runs"), Some(false));
        assert_eq!(["macro", "builds"].map(is_for_building), [Some(true); 2]);
        assert_eq!(["tests", "feature"].map(is_for_building), [None; 2], "nobody builds them");

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

    #[test]
    fn nothing_is_published_without_a_licence_or_a_checksum() {
        let part = |licence: &str, checksum: Option<&str>, is_ours| {
            let (licence, checksum) = (licence.to_owned(), checksum.map(str::to_owned));
            let part = Part { name: "a".to_owned(), licence, checksum, is_ours, ..Part::default() };
            ensure_complete(&BTreeMap::from([("a".to_owned(), part)]))
        };
        part("MIT", Some("abc"), false).unwrap();
        part("GPL-3.0-or-later", None, true).unwrap();
        assert!(part("", Some("abc"), false).unwrap_err().to_string().contains("no licence"));
        assert!(part("MIT", None, false).unwrap_err().to_string().contains("no checksum"));
    }

    #[test]
    fn a_crate_that_nobody_describes_is_not_left_out_in_silence() {
        let metadata = json!({ "packages": [package(PACKAGE)], "resolve": { "nodes": [] } });
        let built = crates("channelapi v1.0.0\nhidden v1.0.0\n");
        let resolved = Resolved { inside: built.clone(), built };
        assert!(
            read(&metadata, "", &resolved)
                .unwrap_err()
                .to_string()
                .contains("builds 2 crates and describes 1")
        );
    }
}
