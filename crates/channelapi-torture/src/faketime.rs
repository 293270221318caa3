//! libfaketime: a server that is told another time than ours. Time since its start stays real, as it does when somebody
//! sets the clock.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::machine::skipped;

/// Where Debian's package `libfaketime` puts it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The library, if it is installed.
pub(crate) fn library(given: Option<&Path>) -> Result<PathBuf> {
    let installed = || LIBRARIES.iter().map(PathBuf::from).find(|path| path.exists());
    given.map(Path::to_owned).or_else(installed).ok_or_else(|| {
        skipped("libfaketime is not installed: install Debian's package `libfaketime`, or name it with --libfaketime")
    })
}

/// For a server whose clock is wrong by `jump` from its start on, in libfaketime's words.
pub(crate) fn fixed(library: &Path, jump: &str) -> Vec<(String, String)> {
    environment(library, &[("FAKETIME", jump)])
}

/// For a server whose clock is as wrong as a file says that may change.
pub(crate) fn changing(library: &Path, file: &Path) -> Vec<(String, String)> {
    let file = file.display().to_string();
    environment(library, &[("FAKETIME_TIMESTAMP_FILE", &file), ("FAKETIME_NO_CACHE", "1")])
}

/// How many hours a jump goes ahead; it is a whole number of them.
pub(crate) fn hours(jump: &str) -> Result<i64> {
    let (number, unit) =
        match jump.split_at(jump.trim_end_matches(|unit: char| unit.is_ascii_alphabetic()).len()) {
            (number, "h") => (number, 1),
            (number, "d") => (number, 24),
            (number, "y") => (number, 24 * 365),
            ("+0", "") => ("+0", 0),
            _ => bail!("{jump:?} is no jump: say how many hours, days or years, as in `-1h`"),
        };
    Ok(number.parse::<i64>().with_context(|| format!("{jump:?} has no number"))? * unit)
}

fn environment(library: &Path, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let library = library.display().to_string();
    let all = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let all = all.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_hours() {
        for (jump, expected) in [("+0", 0), ("+1h", 1), ("-2h", -2), ("+3d", 72), ("-10y", -87_600)] {
            assert_eq!(hours(jump).unwrap(), expected, "{jump}");
        }
        for other in ["", "0", "+1", "h", "+1m", "+1.5h"] {
            assert!(hours(other).is_err(), "{other}");
        }
    }
}
