//! The rows of the page.

use crate::config::options::spec;
use std::time::Duration;

/// One limit: what, how much, what happens, and what counts it.
pub(super) type Row = (&'static str, String, &'static str, &'static str);

/// One that can be set.
pub(super) fn set(
    what: &'static str,
    key: &'static str,
    happens: &'static str,
    counter: &'static str,
) -> Row {
    let default = match (spec(key).default.expect("a limit has a default"), key) {
        ("0", "limits.connections") => "what the file descriptors allow",
        ("0", "limits.memory") => "that of the container, or of the machine",
        ("0", _) => "none",
        (default, _) => default,
    };
    (what, format!("{default} (`{key}`)"), happens, counter)
}

/// A number that is fixed.
pub(super) fn fixed(what: &'static str, value: usize, happens: &'static str, counter: &'static str) -> Row {
    (what, value.to_string(), happens, counter)
}

pub(super) fn bytes(what: &'static str, value: usize, happens: &'static str, counter: &'static str) -> Row {
    let text = match value {
        mebibytes if mebibytes % (1 << 20) == 0 => format!("{} MiB", mebibytes >> 20),
        kibibytes if kibibytes % (1 << 10) == 0 => format!("{} KiB", kibibytes >> 10),
        bytes => format!("{bytes} bytes"),
    };
    (what, text, happens, counter)
}

pub(super) fn time(what: &'static str, value: Duration, happens: &'static str, counter: &'static str) -> Row {
    let text = match value.as_secs() {
        0 => format!("{} ms", value.as_millis()),
        seconds => format!("{seconds} s"),
    };
    (what, text, happens, counter)
}
