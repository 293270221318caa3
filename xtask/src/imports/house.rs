//! What the sources say: which file belongs to which room, and which room each of its paths leads to.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{Path, Place, paths};

/// What the sources say.
pub(super) struct House {
    pub(super) files: Vec<File>,
    /// Every module at a crate's root, as `crate/room`.
    rooms: BTreeSet<String>,
    /// Names that a crate's root file shows for things inside its rooms, as `crate/Name`.
    shown: BTreeMap<String, String>,
}

pub(super) struct File {
    pub(super) name: String,
    pub(super) krate: String,
    /// The module that it is, from its crate's root; empty for the root file.
    pub(super) module: Vec<String>,
    pub(super) room: String,
    pub(super) paths: Vec<Path>,
}

impl House {
    pub(super) fn new(sources: &[(String, String)]) -> Self {
        let crates: BTreeSet<String> =
            sources.iter().map(|(name, _)| krate_of(name).replace('-', "_")).collect();
        let crates: Vec<String> = crates.into_iter().collect();
        let files: Vec<File> =
            sources.iter().map(|(name, source)| File::new(name, source, &crates)).collect();
        let rooms = files.iter().map(|file| file.room.clone()).collect();
        let mut house = Self { files, rooms, shown: BTreeMap::new() };
        house.shown = house.names_shown();
        house
    }

    fn names_shown(&self) -> BTreeMap<String, String> {
        let roots = self.files.iter().filter(|file| file.is_root());
        let exports = roots.flat_map(|file| {
            file.paths.iter().filter_map(move |path| {
                let name = path.exported_as.as_ref()?;
                Some((format!("{}/{name}", file.krate), self.room_of(file, path)))
            })
        });
        exports.collect()
    }

    /// The room a path leads to; a name that only the root file knows leads to the root file.
    pub(super) fn room_of(&self, file: &File, path: &Path) -> String {
        let krate = path.krate.as_ref().map_or_else(|| file.krate.clone(), |name| name.replace('_', "-"));
        let root = ["lib", "main"].map(|root| format!("{krate}/{root}"));
        let root = root.into_iter().find(|root| self.rooms.contains(root)).unwrap_or_else(|| krate.clone());
        let Some(first) = path.segments.first() else { return root };
        let named = format!("{krate}/{first}");
        if self.rooms.contains(&named) {
            return named;
        }
        self.shown.get(&named).cloned().unwrap_or(root)
    }
}

impl File {
    fn new(name: &str, source: &str, crates: &[String]) -> Self {
        let krate = krate_of(name);
        let inside = name.split_once("/src/").map_or(name, |(_, inside)| inside);
        let mut module: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        module.pop_if(|last| last == "mod");
        let room = format!("{krate}/{}", module.first().map_or("lib", String::as_str));
        if module == ["lib"] || module == ["main"] {
            module.clear();
        }
        let paths = paths(source, &Place { module: &module, crates });
        Self { name: name.to_owned(), krate: krate.to_owned(), module, room, paths }
    }

    fn is_root(&self) -> bool {
        self.room.ends_with("/lib") || self.room.ends_with("/main")
    }
}

fn krate_of(name: &str) -> &str {
    name.trim_start_matches("crates/").split('/').next().unwrap_or_default()
}
