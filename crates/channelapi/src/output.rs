//! What a verb prints: its result goes to standard output, and nothing else does.
//!
//! Invariant: a result that did not arrive is an error, unless its reader closed the pipe and has seen enough.

use std::{
    io::{self, Write},
    process,
};

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

/// Why a result did not arrive.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct Unprinted(io::Error);

/// Prints a line, or says why it cannot and ends the process: for whoever has nothing to add to that.
pub fn print(line: &str) {
    if let Err(error) = try_print(line) {
        eprintln!("error: {error}");
        process::exit(1);
    }
}

/// Prints a line.
pub fn try_print(line: &str) -> Result<(), Unprinted> {
    try_write(&format!("{line}\n"))
}

/// Prints this as it is.
pub fn try_write(text: &str) -> Result<(), Unprinted> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Unprinted(error)),
        _ => Ok(()),
    }
}
