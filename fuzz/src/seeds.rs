//! Replays every seed through its law: `ok-*` must be accepted, `bad-*` refused, and neither may break a law.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::laws;

fn entries(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn names(directory: &str) -> BTreeSet<String> {
    entries(directory).iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_seed_is_accepted_or_refused_as_its_name_says() {
    for (name, law) in laws::ALL {
        let mut expectations = BTreeSet::new();
        for seed in entries(&format!("seeds/{name}")) {
            let file = seed.file_name().unwrap().to_string_lossy().into_owned();
            let (expected, _) = file.split_once('-').expect("a seed is called ok-… or bad-…");
            let accepted = law(&fs::read(&seed).unwrap());
            assert_eq!(accepted, expected == "ok", "{}", seed.display());
            expectations.insert(expected.to_owned());
        }
        let both: BTreeSet<String> = ["bad".to_owned(), "ok".to_owned()].into();
        assert_eq!(expectations, both, "seeds/{name} needs seeds of both kinds");
    }
}

#[test]
fn every_law_has_a_target_and_seeds() {
    let laws: BTreeSet<String> = laws::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("targets"), laws);
    assert_eq!(names("seeds"), laws);
}
