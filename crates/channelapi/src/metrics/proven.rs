//! Every counter has a test that looks at it: whoever adds one adds the test that provokes it.
//!
//! Looked for are the words by which tests name a counter: what `/metrics` shows of it, as `joins_refused_total{reason="token"}`, with its
//! quotes and braces escaped or not; the helpers of the abuse rows, as `join_refused("token")`; and of a single counter that this crate
//! does not count itself, its field, as `COUNTERS.given_up.value()`. That a test provokes what it names, only its author can prove.

use super::counters::{families, totals};
use std::fs;
use std::path::{Path, PathBuf};

/// How abuse rows (`channelapi-torture`, `abuse/case.rs`) name the counters of a family.
const HELPERS: &[(&str, &str)] = &[
    ("connections_refused", "connection_refused"),
    ("http_refused", "http_refused"),
    ("http_timeouts", "timed_out"),
    ("handshakes_refused", "handshake_refused"),
    ("joins_refused", "join_refused"),
    ("acks_refused", "ack_refused"),
    ("upgrades_failed", "upgrade_failed"),
    ("requests_refused", "request_refused"),
    ("disconnects", "disconnected"),
    ("events", "event"),
];

/// Where tests are that are not beside the code they are about.
const ROOMS_OF_TESTS: &[&str] = &["crates/channelapi/tests", "crates/channelapi-torture/src", "conformance"];

/// Where they are beside it.
const ROOMS: &[&str] = &["crates/channelapi/src", "crates/channelapi-core/src"];

/// What all tests say, without the signs that escape quotes and braces.
fn tests() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut text = String::new();
    let whole = ROOMS_OF_TESTS.iter().map(|room| (room, true));
    for (room, is_whole) in whole.chain(ROOMS.iter().map(|room| (room, false))) {
        for path in sources(&root.join(room)) {
            let source = fs::read_to_string(&path).unwrap();
            let is_whole = is_whole || path.iter().any(|part| part == "tests" || part == "tests.rs");
            let begins = if is_whole { Some(0) } else { source.find("#[cfg(test)]\nmod tests {") };
            text.push_str(begins.map_or("", |begins| &source[begins..]));
        }
    }
    text.replace('\\', "")
}

/// Sources below a folder, but for the code of others, and what is written down here.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if matches!(name, "node_modules" | "metrics") {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "js") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_counter_is_named_by_a_test() {
    let tests = tests();
    let mut missing = Vec::new();
    for family in families() {
        let name = family.name.strip_prefix("channelapi_").unwrap();
        let helper = HELPERS.iter().find(|(of, _)| name.strip_suffix("_total") == Some(of));
        for (value, _) in family.values {
            let series = format!("{name}{{{}=\"{value}\"}}", family.label);
            let call = helper.map(|(_, helper)| format!(".{helper}(\"{value}\")"));
            if !tests.contains(&series) && !call.is_some_and(|call| tests.contains(&call)) {
                missing.push(series);
            }
        }
    }
    for total in totals() {
        let field = total.place.strip_prefix("&COUNTERS.").map(|field| format!("COUNTERS.{field}.value()"));
        if !tests.contains(total.name) && !field.is_some_and(|field| tests.contains(&field)) {
            missing.push(total.name.to_owned());
        }
    }
    assert!(
        missing.is_empty(),
        "no test looks at {missing:#?}: provoke each on a real server, in an abuse row or beside crates/channelapi/tests/reasons.rs"
    );
}
