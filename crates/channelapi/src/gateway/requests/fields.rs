//! The fields of an object that a client sent, each read as the type that it must have.
//!
//! Invariant: nothing of a client is read as "any JSON". The parser's type for that takes an object of one certain name for JSON in a
//! text, and reads it with a depth of its own: texts in texts go past every limit, and numbers and texts can be dressed as objects.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// The fields. The values are parts of the text; of those of the same name the last counts.
#[derive(Default)]
pub(super) struct Fields<'a>(HashMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    pub(super) fn parse(object: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(object).map(Self)
    }

    /// The value of a field; `null` is as good as none.
    pub(super) fn get<T: Deserialize<'a>>(&self, name: &str) -> serde_json::Result<Option<T>> {
        self.0.get(name).map_or(Ok(None), |value| serde_json::from_str(value.get()))
    }
}
