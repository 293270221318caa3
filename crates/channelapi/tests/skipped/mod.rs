//! Says that a test cannot run on this machine.

use std::io::{Write as _, stderr};

/// Tells people, also where what a test prints is shown only if it fails.
pub(crate) fn skipped(why: &str) {
    _ = writeln!(stderr(), "SKIPPED: {why}");
}
