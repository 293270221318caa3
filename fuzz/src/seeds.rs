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

/// How often each seed is changed.
const CHANGES: u32 = 100;
/// Where each try starts a log twice.
const CHANGES_OF_LOGS: u32 = 10;

/// A little of what the fuzzer does, the same every time.
#[test]
fn no_seed_breaks_a_law_when_it_is_changed() {
    for (name, law) in laws::ALL {
        let seeds: Vec<Vec<u8>> =
            entries(&format!("seeds/{name}")).iter().map(|seed| fs::read(seed).unwrap()).collect();
        let mut dice = Dice(7);
        let changes = if *name == "store_recovery" { CHANGES_OF_LOGS } else { CHANGES };
        for seed in &seeds {
            for _ in 0..changes {
                let mut changed = seed.clone();
                for _ in 0..=dice.below(3) {
                    change(&mut changed, &seeds, &mut dice);
                }
                law(&changed);
            }
        }
    }
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let place = dice.below(bytes.len() + 1);
    match dice.below(6) {
        0 => bytes.truncate(place),
        1 => bytes.insert(place, u8::try_from(dice.below(256)).unwrap()),
        2 => bytes.insert(place, *b"\x00\xFF\"[{\\-,0\x1e".get(dice.below(10)).unwrap()),
        3 if place < bytes.len() => bytes[place] ^= 1 << dice.below(8),
        4 if place < bytes.len() => _ = bytes.remove(place),
        _ => {
            let other = &seeds[dice.below(seeds.len())];
            bytes.splice(place.., other[dice.below(other.len() + 1)..].iter().copied());
        }
    }
}

/// A Weyl sequence with a mixing function (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}
