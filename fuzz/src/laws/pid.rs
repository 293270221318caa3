//! What names the session of a client that comes back.

use crate::server::rewritten_pid;

/// The input is a text.
///
/// - A pid has one form: written again it is the same text.
/// - A text of a kilobyte and more than any pid is none, however it goes on.
pub fn pid(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Some(written) = rewritten_pid(text) else { return false };
    assert_eq!(written, text);
    assert_eq!(rewritten_pid(&"A".repeat(2000)), None);
    true
}
