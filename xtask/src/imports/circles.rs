//! Files that know each other in a circle: none can be read, changed or tested without all the others.
//!
//! Rooms may not do so by their table. Inside of a room there is no table, but files have floors, too: what several of them share lies
//! below them, in a file of its own. A name that a file only passes on (`pub use`) leads to the file that has it. A module may be known to
//! what is inside of it: the parts of one thing know the thing. What a file is tested with does not count.

use std::collections::{BTreeMap, BTreeSet};

use super::house::{File, House};
use super::paths::Path;

/// Each circle of the house, as a complaint that says what ties it.
pub(super) fn circles(house: &House) -> Vec<String> {
    let map = Map::new(house);
    let arrows: Vec<BTreeMap<usize, &Path>> = house.files.iter().map(|file| map.arrows_of(file)).collect();
    tied(&arrows).iter().map(|circle| complaint(house, &arrows, circle)).collect()
}

fn complaint(house: &House, arrows: &[BTreeMap<usize, &Path>], circle: &BTreeSet<usize>) -> String {
    let ties = circle.iter().flat_map(|from| {
        let inside = arrows[*from].iter().filter(|(to, _)| circle.contains(to));
        inside.map(|(to, path)| {
            let (from, to) = (&house.files[*from].name, &house.files[*to].name);
            format!("\n    {from}:{} -> {to} ({})", path.line, path.segments.join("::"))
        })
    });
    format!("  {} files know each other in a circle:{}", circle.len(), ties.collect::<String>())
}

/// Which file each module is.
struct Map<'a> {
    files: BTreeMap<(&'a str, &'a [String]), usize>,
    house: &'a House,
}

/// So often is a name passed on at most; more than that is a circle of its own.
const PASSED_ON_MAX: usize = 8;

impl<'a> Map<'a> {
    fn new(house: &'a House) -> Self {
        let files = house.files.iter().enumerate();
        Self {
            files: files.map(|(index, file)| ((file.krate.as_str(), &file.module[..]), index)).collect(),
            house,
        }
    }

    /// The files that one knows, each with a path that leads there.
    fn arrows_of(&self, file: &'a File) -> BTreeMap<usize, &'a Path> {
        let mut arrows = BTreeMap::new();
        for path in file.paths.iter().filter(|path| !path.is_of_tests) {
            let krate = path.krate.as_ref().map_or_else(|| file.krate.clone(), |name| name.replace('_', "-"));
            let Some(to) = self.file_of(&krate, &path.segments, PASSED_ON_MAX) else { continue };
            let other = &self.house.files[to];
            let is_inside_of_it = other.krate == file.krate && file.module.starts_with(&other.module);
            if !is_inside_of_it {
                arrows.entry(to).or_insert(path);
            }
        }
        arrows
    }

    fn file_of(&self, krate: &str, segments: &[String], passed_on: usize) -> Option<usize> {
        let (length, index) = (0..=segments.len())
            .rev()
            .find_map(|length| Some((length, *self.files.get(&(krate, &segments[..length]))?)))?;
        let Some(name) = segments.get(length) else { return Some(index) };
        let exported =
            self.house.files[index].paths.iter().find(|path| path.exported_as.as_ref() == Some(name));
        let Some(exported) = exported.filter(|_| passed_on > 0) else { return Some(index) };
        let krate = exported.krate.as_ref().map_or_else(|| krate.to_owned(), |name| name.replace('_', "-"));
        let through = exported.segments.iter().chain(&segments[length + 1..]).cloned().collect::<Vec<_>>();
        self.file_of(&krate, &through, passed_on - 1)
    }
}

/// The circles among so many, each as large as it is: whoever leads to somebody that leads back.
fn tied(arrows: &[BTreeMap<usize, &Path>]) -> Vec<BTreeSet<usize>> {
    let reached: Vec<BTreeSet<usize>> = (0..arrows.len()).map(|from| reached_from(arrows, from)).collect();
    let circles = reached.iter().enumerate().filter(|(from, reached)| reached.contains(from));
    let circles =
        circles.map(|(from, to)| to.iter().copied().filter(|to| reached[*to].contains(&from)).collect());
    circles.collect::<BTreeSet<BTreeSet<usize>>>().into_iter().collect()
}

fn reached_from(arrows: &[BTreeMap<usize, &Path>], from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        next.extend(arrows[file].keys().copied().filter(|to| reached.insert(*to)));
    }
    reached
}
