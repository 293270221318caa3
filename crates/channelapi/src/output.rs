//! What a verb prints: its result goes to standard output, and nothing else does.
//!
//! Invariants:
//! - A result that did not arrive is an error, unless its reader closed the pipe and has seen enough.
//! - What others have written, and it may be anybody, gives a terminal no commands. To whatever is none it goes as it is.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
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

/// Why something that had to be heard was not.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard error: {0}")]
pub struct Untold(io::Error);

/// Prints a line, or says why it cannot and ends the process: for whoever has nothing to add to that.
pub fn print(line: &str) {
    if let Err(error) = try_print(line) {
        tell(&format!("error: {error}"));
        process::exit(1);
    }
}

/// Prints a line.
pub fn try_print(line: &str) -> Result<(), Unprinted> {
    try_write(&format!("{line}\n"))
}

/// Prints a text.
pub fn try_write(text: &str) -> Result<(), Unprinted> {
    match write(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Unprinted(error)),
        _ => Ok(()),
    }
}

/// Prints a text, and says also that its reader has gone.
pub fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let text = shown(text, &out);
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Says something on standard error, if anybody listens.
pub fn tell(text: &str) {
    _ = try_tell(text);
}

/// Says something on standard error that somebody has to hear.
pub fn try_tell(text: &str) -> Result<(), Untold> {
    let mut err = io::stderr().lock();
    let text = shown(text, &err);
    writeln!(err, "{text}").map_err(Untold)
}

/// A text as it is written there.
pub fn shown<'t>(text: &'t str, to: &impl IsTerminal) -> Cow<'t, str> {
    if to.is_terminal() { harmless(text) } else { text.into() }
}

/// A text for a terminal, in which controls and what reorders text are escaped as JSON does it: it may hold them only in texts, where
/// they mean the same then.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_command) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 5);
    for character in text.chars() {
        if is_command(character) {
            _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out.into()
}

/// Whether a terminal acts upon it, or shows what stands behind it in another order. All of them are written with four digits.
fn is_command(character: char) -> bool {
    (character.is_control() && !matches!(character, '\n' | '\t'))
        || matches!(
            character,
            '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::harmless;
    use serde_json::Value;

    #[test]
    fn what_a_terminal_would_act_upon_is_escaped_and_stays_the_same_json() {
        let check = |text: &str, expected: &str| assert_eq!(harmless(text), expected);
        check("plain\tand\n頻道 👩\u{200D}🚀", "plain\tand\n頻道 👩\u{200D}🚀");
        check("\u{9B}31m\u{7F}\u{9D}0;x\u{9C}", r"\u009b31m\u007f\u009d0;x\u009c");
        check("\u{1B}[2J\r\0", r"\u001b[2J\u000d\u0000");
        check("a\u{202E}b\u{2066}\u{61C}", r"a\u202eb\u2066\u061c");
        let published = "{\"\u{9B}a\\\\\":\"\u{202E}\\n\u{7F}\"}";
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_ne!(harmless(published), published);
        assert_eq!(read(&harmless(published)), read(published));
    }
}
