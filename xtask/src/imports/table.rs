//! The table of allowed arrows as data: full names, and the question whether it has a cycle.

use std::collections::{BTreeMap, BTreeSet};

/// A room, and the rooms it may know: of its own crate by name, of another as `crate/room`. The name
/// `crate/*` makes a whole crate one room.
pub(super) struct Room {
    pub(super) name: &'static str,
    pub(super) knows: &'static [&'static str],
    pub(super) because: &'static str,
}

pub(super) const fn room(name: &'static str, knows: &'static [&'static str], because: &'static str) -> Room {
    Room { name, knows, because }
}

/// The table with full names.
pub(super) struct Table {
    pub(super) rows: BTreeMap<&'static str, Row>,
}

pub(super) struct Row {
    pub(super) knows: BTreeSet<String>,
    pub(super) because: &'static str,
}

impl Table {
    pub(super) fn new(rooms: &[Room]) -> Self {
        let rows = rooms.iter().map(|room| {
            let krate = room.name.split('/').next().unwrap_or_default();
            let full = |known: &&str| {
                if known.contains('/') { (*known).to_owned() } else { format!("{krate}/{known}") }
            };
            let knows = room.knows.iter().map(full).collect();
            (room.name, Row { knows, because: room.because })
        });
        Self { rows: rows.collect() }
    }

    /// The name of the row that a room belongs to: its own, or the one for its whole crate.
    pub(super) fn row_name(&self, room: &str) -> String {
        let whole = format!("{}/*", room.split('/').next().unwrap_or_default());
        if self.rows.contains_key(whole.as_str()) { whole } else { room.to_owned() }
    }

    /// Takes away rooms that know only rooms already taken; what is left knows itself in a circle.
    pub(super) fn cycle(&self) -> Option<String> {
        let mut left: BTreeMap<&str, &Row> = self.rows.iter().map(|(name, row)| (*name, row)).collect();
        loop {
            let free: Vec<&str> = left
                .iter()
                .filter(|(_, row)| !row.knows.iter().any(|known| left.contains_key(known.as_str())))
                .map(|(name, _)| *name)
                .collect();
            if free.is_empty() {
                break;
            }
            left.retain(|name, _| !free.contains(name));
        }
        if left.is_empty() {
            return None;
        }
        let names: Vec<&str> = left.keys().copied().collect();
        Some(format!("  ROOMS in xtask/src/imports/rooms.rs allows a cycle among: {}", names.join(", ")))
    }
}
