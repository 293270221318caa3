//! What the real program printed, and how it ended.

use std::process::Output;

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("everything printed is UTF-8")
}

/// Checks the exit code and that each stream contains these parts; no parts mean that it is empty.
#[track_caller]
pub(crate) fn check(output: &Output, code: i32, stdout: &[&str], stderr: &[&str]) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {err}");
    for (stream, parts) in [(out, stdout), (err, stderr)] {
        assert_eq!(stream.is_empty(), parts.is_empty(), "stdout: {out}\nstderr: {err}");
        for part in parts {
            assert!(stream.contains(part), "{part:?} is missing from {stream}");
        }
    }
}
