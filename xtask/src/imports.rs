//! Proves that imports run one way: every arrow between rooms must be in the table below.
//!
//! A room is a module at the root of a crate, with everything inside it; the root file is the room `lib` or
//! `main`. The table itself may have no cycle, so code that follows it has none either. A new room gets its
//! row here, with the reason for what it may know. Test modules count: a test that needs the rooms above is
//! a test of those rooms, or of the whole server, and belongs there.

mod house;
mod paths;
mod table;
mod tokens;

use std::collections::BTreeSet;
use std::path::{Component, Path};

use anyhow::{Result, ensure};

use self::house::House;
use self::table::{Room, Table, room};
use crate::tree::Tree;

/// All rooms of all crates. Read it from the bottom of each crate upwards: nobody knows who is above.
const ROOMS: &[Room] = &[
    // Bytes to packets and back. Each protocol stands alone, so that each can be read, tested and fuzzed alone.
    room("channelapi-protocol/websocket", &[], "a frame does not know what travels in it"),
    room(
        "channelapi-protocol/engineio",
        &["websocket"],
        "a packet is kept as the WebSocket frame that all clients share",
    ),
    room("channelapi-protocol/socketio", &[], "a packet does not know how it travels"),
    room("channelapi-protocol/lib", &["websocket", "engineio", "socketio"], "the front door shows all rooms"),
    // Channels, publications, tokens and delivery: no HTTP, no Socket.IO.
    room("channelapi-core/limits", &[], "numbers depend on nothing"),
    room("channelapi-core/clock", &[], "time depends on nothing"),
    room("channelapi-core/counters", &[], "whoever counts knows its counter, which knows nobody"),
    room("channelapi-core/failpoint", &[], "a place where tests let the program fail depends on nothing"),
    room("channelapi-core/fence", &[], "the end of a store is told without knowing what it keeps"),
    room("channelapi-core/folder", &[], "a folder on disk does not know what lies in it"),
    room("channelapi-core/model", &["limits"], "words of the domain depend on no mechanism"),
    room(
        "channelapi-core/state",
        &["model", "limits", "fence", "folder"],
        "what is kept on disk knows the words it keeps, and not who asks",
    ),
    room(
        "channelapi-core/broker",
        &["model", "limits", "clock", "counters", "failpoint", "fence", "folder"],
        "it reaches the rooms above through the `PublicationSink` it is handed",
    ),
    room(
        "channelapi-core/delivery",
        &["model", "limits", "counters", "broker"],
        "fan-out takes publications from the broker and knows no node around it",
    ),
    room(
        "channelapi-core/hub",
        &["model", "limits", "clock", "counters", "state", "broker", "delivery"],
        "the façade of a node is where its parts meet",
    ),
    room(
        "channelapi-core/lib",
        &["model", "limits", "clock", "counters", "state", "broker", "delivery", "hub"],
        "the front door shows all rooms",
    ),
    // The binary. `gateway` and `api` are two faces of one hub and never know each other.
    room(
        "channelapi/stream",
        &["channelapi-core/limits"],
        "bytes are carried and encrypted without knowing what they say",
    ),
    room("channelapi/trust", &[], "whom to trust does not depend on what is asked of them"),
    room(
        "channelapi/tls",
        &["metrics", "channelapi-core/limits"],
        "certificates come and go without knowing who shows them",
    ),
    room(
        "channelapi/http",
        &["stream", "metrics", "waiting", "receiving", "channelapi-core/limits"],
        "shared answers serve every face and know none",
    ),
    room(
        "channelapi/config",
        &["channelapi-core/model", "channelapi-core/broker", "channelapi-core/limits"],
        "settings become the words of the domain and depend on no one who does the work",
    ),
    room("channelapi/output", &[], "a line is printed without knowing what it says"),
    room(
        "channelapi/store",
        &[
            "output",
            "channelapi-core/hub",
            "channelapi-core/broker",
            "channelapi-core/state",
            "channelapi-core/model",
        ],
        "it looks at a data directory from outside, and needs no server",
    ),
    room(
        "channelapi/client",
        &["config", "output", "trust", "channelapi-protocol/websocket"],
        "it meets the server where backends and clients do, at its HTTP API and, frame by frame, at its sockets",
    ),
    room(
        "channelapi/key",
        &["config", "output", "channelapi-core/limits"],
        "it makes what the configuration file wants, and needs no server",
    ),
    room(
        "channelapi/cli",
        &["config", "output", "client", "store", "custody", "jwt", "key", "tls", "channelapi-core/limits"],
        "the command line is one source of the settings, and the only one of what verbs are asked to do",
    ),
    room(
        "channelapi/metrics",
        &["channelapi-core/counters"],
        "whoever counts knows its metric, which knows nobody",
    ),
    room("channelapi/cores", &[], "a core serves whatever it is given"),
    room("channelapi/live", &[], "a value is replaced without knowing what it is"),
    room(
        "channelapi/receiving",
        &["channelapi-core/limits"],
        "what has not arrived is counted, without knowing what it will be",
    ),
    room(
        "channelapi/waiting",
        &["channelapi-core/limits"],
        "what waits is counted, and its readers are put out, without knowing who they are",
    ),
    room(
        "channelapi/admission",
        &["config", "metrics", "live", "channelapi-core/limits", "channelapi-core/clock"],
        "whoever decides about everybody knows nobody",
    ),
    room(
        "channelapi/spread",
        &["channelapi-core/limits"],
        "many are sent away without anyone knowing where they are",
    ),
    room("channelapi/upkeep", &[], "work begins anew without anyone knowing what it is"),
    room("channelapi/custody", &[], "who may change a directory is seen without knowing what is kept there"),
    room("channelapi/secrecy", &[], "the process is closed to others without knowing what it does"),
    room(
        "channelapi/reload",
        &["config", "live"],
        "it brings new settings to parts of which it knows only that they take them",
    ),
    room(
        "channelapi/logging",
        &["config", "reload"],
        "it is set up from the settings, changed with them, and used through macros",
    ),
    room(
        "channelapi/banner",
        &["config", "logging", "listener"],
        "it shows settings and places to whoever reads the log",
    ),
    room(
        "channelapi/auth",
        &[
            "receiving",
            "http",
            "config",
            "live",
            "reload",
            "metrics",
            "channelapi-core/clock",
            "channelapi-core/model",
        ],
        "a key is checked against the words of the domain, without a hub that would do anything with it",
    ),
    room(
        "channelapi/origin",
        &["http", "config"],
        "a page is judged without knowing at which door it knocks",
    ),
    room("channelapi/page", &["http"], "a static page"),
    room("channelapi/health", &["http"], "it says what it is told"),
    room(
        "channelapi/listener",
        &["stream", "http", "cores", "config", "metrics", "admission", "receiving", "channelapi-core/limits"],
        "it accepts for whoever it is handed",
    ),
    room(
        "channelapi/redirect",
        &["http", "metrics", "listener", "tls"],
        "it shows what an authority asks for, and leads everybody else away",
    ),
    room(
        "channelapi/identity",
        &[
            "config",
            "live",
            "reload",
            "metrics",
            "trust",
            "upkeep",
            "channelapi-core/limits",
            "channelapi-core/clock",
            "channelapi-core/model",
            "channelapi-core/hub",
            "channelapi-protocol/socketio",
        ],
        "a credential is judged without knowing at which door it was brought",
    ),
    room(
        "channelapi/jwt",
        &["config", "identity", "output", "channelapi-core/limits"],
        "it judges by the configuration, and needs no server",
    ),
    room(
        "channelapi/gateway",
        &[
            "receiving",
            "stream",
            "http",
            "cores",
            "identity",
            "config",
            "live",
            "origin",
            "metrics",
            "admission",
            "waiting",
            "spread",
            "channelapi-core/limits",
            "channelapi-core/clock",
            "channelapi-core/model",
            "channelapi-core/broker",
            "channelapi-core/delivery",
            "channelapi-core/hub",
            "channelapi-protocol/websocket",
            "channelapi-protocol/engineio",
            "channelapi-protocol/socketio",
        ],
        "it turns packets into calls of the hub, in the broker's words; HTTP publishing is the business of `api`",
    ),
    room(
        "channelapi/api",
        &[
            "receiving",
            "http",
            "cores",
            "auth",
            "identity",
            "config",
            "live",
            "origin",
            "reload",
            "metrics",
            "admission",
            "waiting",
            "spread",
            "channelapi-core/limits",
            "channelapi-core/clock",
            "channelapi-core/model",
            "channelapi-core/broker",
            "channelapi-core/delivery",
            "channelapi-core/hub",
            "channelapi-protocol/socketio",
        ],
        "it turns requests into calls of the hub, in the broker's words; sockets are the business of `gateway`",
    ),
    room(
        "channelapi/forms",
        &["gateway", "api", "channelapi-core/model", "channelapi-core/broker", "channelapi-core/delivery"],
        "what is encoded for everybody knows what everybody wants",
    ),
    room(
        "channelapi/watch",
        &["admission", "waiting", "receiving", "channelapi-core/hub", "channelapi-core/limits"],
        "it looks at what there is and tells those who can do something",
    ),
    room(
        "channelapi/drain",
        &["gateway", "listener", "spread", "channelapi-core/limits"],
        "it sends away whoever they hold",
    ),
    room(
        "channelapi/server",
        &[
            "receiving",
            "http",
            "cores",
            "auth",
            "identity",
            "config",
            "custody",
            "live",
            "logging",
            "reload",
            "banner",
            "page",
            "health",
            "metrics",
            "admission",
            "listener",
            "redirect",
            "tls",
            "drain",
            "upkeep",
            "waiting",
            "watch",
            "gateway",
            "api",
            "forms",
            "channelapi-core/limits",
            "channelapi-core/broker",
            "channelapi-core/hub",
            "channelapi-core/clock",
            "channelapi-core/state",
        ],
        "it wires the others together",
    ),
    room(
        "channelapi/main",
        &[
            "server", "cores", "client", "store", "jwt", "key", "cli", "config", "logging", "metrics",
            "output", "secrecy",
        ],
        "it reads the command line and starts what it asks for",
    ),
    // A tool of its own that must measure any server, so it shares no code with ours.
    room("channelapi-bench/*", &[], "whoever measures us must not be us"),
    room(
        "channelapi-instructions/*",
        &[
            "channelapi-core/clock",
            "channelapi-core/model",
            "channelapi-core/broker",
            "channelapi-core/delivery",
            "channelapi-protocol/websocket",
            "channelapi-protocol/engineio",
            "channelapi-protocol/socketio",
        ],
        "it does the work of the rooms whose instructions are counted",
    ),
    room("channelapi-torture/*", &[], "whoever judges us must not share our mistakes"),
];

/// What to do about a forbidden arrow.
const REMEDY: &str = "Move what is shared down to a room that both may know, or hand it in as a trait from \
                      above. If the arrow is right, add it to ROOMS in xtask/src/imports.rs, with the reason.";

pub(crate) fn check(tree: &Tree) -> Result<()> {
    let mut sources = Vec::new();
    for file in tree.files()?.iter().filter(|file| is_source(file)) {
        sources.push((file.to_string_lossy().into_owned(), tree.read(file)?));
    }
    let verdict = judge(ROOMS, &sources);
    ensure!(
        verdict.complaints.is_empty(),
        "imports must run one way:\n{}\n{REMEDY}",
        verdict.complaints.join("\n")
    );
    println!("{} files in {} rooms, {} arrows, one way", sources.len(), verdict.rooms, verdict.arrows);
    Ok(())
}

/// `crates/*/src/**.rs`.
fn is_source(file: &Path) -> bool {
    let parts: Vec<_> = file.components().collect();
    parts.len() > 3
        && parts[0] == Component::Normal("crates".as_ref())
        && parts[2] == Component::Normal("src".as_ref())
        && file.extension().is_some_and(|extension| extension == "rs")
}

struct Verdict {
    rooms: usize,
    arrows: usize,
    complaints: Vec<String>,
}

fn judge(rooms: &[Room], sources: &[(String, String)]) -> Verdict {
    let table = Table::new(rooms);
    let house = House::new(sources);
    let mut complaints: Vec<String> = table.cycle().into_iter().collect();
    let (mut rooms, mut arrows) = (BTreeSet::new(), BTreeSet::new());

    for file in &house.files {
        let from = table.row_name(&file.room);
        let row = table.rows.get(from.as_str());
        if rooms.insert(from.clone()) && row.is_none() {
            complaints
                .push(format!("  {}: the room `{from}` has no row in ROOMS, with its reason", file.name));
        }
        for path in &file.paths {
            let to = table.row_name(&house.room_of(file, path));
            if to == from || !arrows.insert((from.clone(), to.clone(), file.name.clone(), path.line)) {
                continue;
            }
            if let Some(row) = row.filter(|row| !row.knows.contains(&to)) {
                let (at, because) = (path.line, row.because);
                complaints.push(format!("  {}:{at}: `{from}` must not know `{to}`: {because}", file.name));
            }
        }
    }
    let arrows: BTreeSet<_> = arrows.into_iter().map(|(from, to, ..)| (from, to)).collect();
    Verdict { rooms: rooms.len(), arrows: arrows.len(), complaints }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Room] = &[
        room("core/model", &[], "words"),
        room("core/hub", &["model"], "façade"),
        room("core/lib", &["model", "hub"], "front door"),
        room("app/api", &["core/hub"], "no sockets"),
        room("app/gateway", &["core/hub"], "no publishing"),
        room("app/main", &["api", "gateway"], "wires"),
        room("tool/*", &[], "stands alone"),
    ];

    /// The complaints about these files, in addition to a well-behaved house.
    fn complaints(extra: &[(&str, &str)]) -> Vec<String> {
        let house = [
            ("crates/core/src/lib.rs", "pub mod hub; pub mod model; pub use hub::Hub;"),
            ("crates/core/src/model.rs", "pub struct Channel;"),
            ("crates/core/src/hub.rs", "use crate::model::Channel; mod join;"),
            ("crates/core/src/hub/join.rs", "use super::Hub; use crate::model::Channel;"),
            (
                "crates/app/src/main.rs",
                "mod api; mod gateway; use gateway::Gateway; fn main() { api::run() }",
            ),
            ("crates/app/src/gateway/mod.rs", "use core::Hub;"),
        ];
        let sources: Vec<(String, String)> = house
            .iter()
            .chain(extra)
            .map(|(name, source)| ((*name).to_owned(), (*source).to_owned()))
            .collect();
        judge(TABLE, &sources).complaints
    }

    fn check_forbidden(name: &str, source: &str, expected: &str) {
        let found = complaints(&[(name, source)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{} does not contain {expected}", found[0]);
    }

    #[test]
    fn downward_imports_pass() {
        assert_eq!(complaints(&[("crates/app/src/api.rs", "use core::hub::Hub;")]), Vec::<String>::new());
    }

    #[test]
    fn sideways_and_upward_imports_are_caught_with_their_line() {
        check_forbidden(
            "crates/app/src/api/publish.rs",
            "use core::hub::Hub;\nuse crate::gateway::Socket;",
            "crates/app/src/api/publish.rs:2: `app/api` must not know `app/gateway`",
        );
        check_forbidden("crates/app/src/api.rs", "fn f() { super::gateway::stop(); }", "`app/gateway`");
        check_forbidden("crates/core/src/model/name.rs", "use super::super::hub::X;", "`core/hub`");
        check_forbidden("crates/core/src/model/name.rs", "use crate::{hub::X};", "`core/hub`");
    }

    #[test]
    fn names_shown_at_the_front_door_count_for_their_room() {
        check_forbidden("crates/core/src/model/name.rs", "use crate::Hub;", "must not know `core/hub`");
        check_forbidden("crates/core/src/model/name.rs", "use crate::*;", "must not know `core/lib`");
    }

    #[test]
    fn rooms_without_a_row_are_an_error_that_names_the_table() {
        check_forbidden("crates/app/src/attic.rs", "", "`app/attic` has no row in ROOMS");
    }

    #[test]
    fn a_crate_that_is_one_room_may_do_inside_as_it_likes_and_no_more() {
        let inside = ("crates/tool/src/client.rs", "use crate::server::Port;");
        assert_eq!(complaints(&[inside, ("crates/tool/src/server.rs", "use crate::client::X;")]), [""; 0]);
        check_forbidden("crates/tool/src/client.rs", "use core::Hub;", "`tool/*` must not know `core/hub`");
    }

    #[test]
    fn a_table_with_a_cycle_is_refused() {
        let cyclic =
            [room("a/one", &["two"], ""), room("a/two", &["one"], ""), room("a/three", &["one"], "")];
        let found = judge(&cyclic, &[]).complaints;
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("a/one, a/three, a/two"), "{found:?}");
    }

    #[test]
    fn our_own_table_has_no_cycle_and_names_only_rooms_it_has() {
        let table = Table::new(ROOMS);
        assert_eq!(table.cycle(), None);
        for (name, row) in &table.rows {
            for known in &row.knows {
                assert!(
                    table.rows.contains_key(known.as_str()),
                    "`{name}` knows `{known}`, which has no row"
                );
            }
        }
    }
}
