//! libfaketime: a server that is told another time than ours. Time since its start stays real, as it does when somebody
//! sets the clock.

use std::path::{Path, PathBuf};

use anyhow::Result;

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
