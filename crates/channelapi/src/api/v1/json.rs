//! The JSON of answers, with the data of publications passed through byte for byte.

use std::fmt::Display;
use std::io::Write as _;

/// An object that is being written.
pub(super) struct Object(Vec<u8>);

/// Room for the answer to a publication, so that it is written without moving.
const OBJECT_BYTES_ABOUT: usize = 384;

impl Object {
    pub(super) fn new() -> Self {
        let mut json = Vec::with_capacity(OBJECT_BYTES_ABOUT);
        json.push(b'{');
        Self(json)
    }

    /// A text.
    pub(super) fn text(mut self, name: &str, text: &str) -> Self {
        self.name(name);
        write_text(text, &mut self.0);
        self
    }

    /// A text of ours that needs no escapes.
    pub(super) fn plain(mut self, name: &str, text: &str) -> Self {
        debug_assert!(text.bytes().all(is_plain), "{text:?}");
        self.name(name);
        self.quoted(text);
        self
    }

    /// What is JSON when it is displayed: numbers and booleans.
    pub(super) fn value(mut self, name: &str, value: impl Display) -> Self {
        self.name(name);
        write!(self.0, "{value}").expect("memory takes everything");
        self
    }

    /// JSON.
    pub(super) fn raw(mut self, name: &str, json: &[u8]) -> Self {
        self.name(name);
        self.0.extend_from_slice(json);
        self
    }

    /// Members as JSON, with commas between them alone: for what is answered all the time.
    pub(super) fn members(mut self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        write(&mut self.0);
        self
    }

    /// An array of JSON.
    pub(super) fn array(mut self, name: &str, items: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.name(name);
        self.0.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.0.extend_from_slice(&item);
        }
        self.0.push(b']');
        self
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    /// Names are ours: they need no escapes.
    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.quoted(name);
        self.0.push(b':');
    }

    fn quoted(&mut self, text: &str) {
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }
}

/// A text as JSON.
pub(super) fn text(text: &str) -> Vec<u8> {
    let mut json = Vec::with_capacity(text.len() + 2);
    write_text(text, &mut json);
    json
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(is_plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    serde_json::to_writer(out, text).expect("memory takes everything, and text is JSON");
}

/// Whether a byte stands for itself in the text of JSON.
fn is_plain(byte: u8) -> bool {
    byte >= b' ' && !matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_as_it_is_told() {
        let object = Object::new()
            .text("a", "x\"y\n頻")
            .value("b", 7)
            .raw("c", b"1e400")
            .array("d", [text("p"), text("q")])
            .array("e", []);
        let json = String::from_utf8(object.finish()).unwrap();
        assert_eq!(json, r#"{"a":"x\"y\n頻","b":7,"c":1e400,"d":["p","q"],"e":[]}"#);
        assert_eq!(Object::new().finish(), b"{}");
        for (plain, json) in
            [("", r#""""#), ("a\u{7f}", "\"a\u{7f}\""), ("\\", r#""\\""#), ("\0", r#""\u0000""#)]
        {
            assert_eq!(String::from_utf8(text(plain)).unwrap(), json);
        }
    }
}
