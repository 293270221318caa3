//! What a verb prints: its result goes to standard output, and nothing else does.

use std::io::{self, Write};

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Text for people.
    Table,
    /// JSON for programs.
    Json,
    /// Nothing; the exit code says it.
    Quiet,
}

/// Prints a line; a reader that closed the pipe has seen enough.
pub fn print(line: &str) {
    _ = io::stdout().write_all(format!("{line}\n").as_bytes());
}
