//! Proves that imports run one way: every arrow between rooms must be in the table of `imports/rooms.rs`, and no files know each other in
//! a circle (`imports/circles.rs`).
//!
//! A room is a module at the root of a crate, with everything inside it; the root file is the room `lib` or
//! `main`. The table itself may have no cycle, so code that follows it has none either. A new room gets its
//! row here, with the reason for what it may know. Test modules count: a test that needs the rooms above is
//! a test of those rooms, or of the whole server, and belongs there.

mod circles;
mod house;
mod paths;
mod rooms;
mod table;
mod tokens;

use std::collections::BTreeSet;
use std::path::{Component, Path};

use anyhow::{Result, ensure};

use self::circles::circles;
use self::house::House;
use self::rooms::ROOMS;
use self::table::{Room, Table};
use crate::tree::Tree;

/// What to do about a forbidden arrow.
const REMEDY: &str = "Move what is shared down to a room that both may know, or to a file below both, or hand it in as \
                      a trait from above. If the arrow is right, add it to ROOMS in xtask/src/imports/rooms.rs, with the reason.";

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

/// `crates/*/src/**.rs` and `xtask/src/**.rs`.
fn is_source(file: &Path) -> bool {
    let parts: Vec<_> = file.components().collect();
    let is = |part: usize, name: &str| parts.get(part) == Some(&Component::Normal(name.as_ref()));
    (is(0, "crates") && is(2, "src") || is(0, "xtask") && is(1, "src"))
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
    let mut complaints: Vec<String> = table.cycle().into_iter().chain(circles(&house)).collect();
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
    use super::table::room;
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
        assert_eq!(complaints(&[inside, ("crates/tool/src/server.rs", "use crate::wire::X;")]), [""; 0]);
        check_forbidden("crates/tool/src/client.rs", "use core::Hub;", "`tool/*` must not know `core/hub`");
    }

    #[test]
    fn files_that_know_each_other_in_a_circle_are_caught_with_what_ties_them() {
        let client = ("crates/tool/src/client.rs", "use crate::server::Port;");
        let found = complaints(&[client, ("crates/tool/src/server.rs", "\nfn f() { crate::client::X; }")]);
        let expected = "  2 files know each other in a circle:\
            \n    crates/tool/src/client.rs:1 -> crates/tool/src/server.rs (server::Port)\
            \n    crates/tool/src/server.rs:2 -> crates/tool/src/client.rs (client::X)";
        assert_eq!(found, [expected]);
        // A face passes names on: whoever takes one from it knows the file that has it.
        let face = ("crates/tool/src/wire/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;");
        let a = ("crates/tool/src/wire/a.rs", "use crate::wire::B;");
        let circle = complaints(&[face, a, ("crates/tool/src/wire/b.rs", "use super::a::A;")]);
        assert!(circle.len() == 1 && circle[0].contains("2 files"), "{circle:?}");
        assert_eq!(complaints(&[face, a, ("crates/tool/src/wire/b.rs", "")]), [""; 0]);
    }

    #[test]
    fn parts_may_know_the_whole_and_tests_everything() {
        let whole = ("crates/tool/src/wire.rs", "mod part; use part::Part; pub struct Wire;");
        assert_eq!(complaints(&[whole, ("crates/tool/src/wire/part.rs", "use super::Wire;")]), [""; 0]);
        let client = ("crates/tool/src/client.rs", "use crate::server::Port;");
        let tested = ("crates/tool/src/server.rs", "mod tests { use crate::client::X; }");
        assert_eq!(complaints(&[client, tested]), [""; 0]);
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
