//! The JSON of requests, field by field, with the data of publications as it was sent.
//!
//! It is read strictly: each key once, none that means nothing, and each value of its own type.

use super::problem::{Code, Problem};
use channelapi_core::limits::FIELDS_MAX;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The fields of an object that was sent, which are taken out one by one.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads an object. The values are parts of the text.
    pub(super) fn parse(text: &'a str) -> Result<Self, Problem> {
        serde_json::from_str(text).map_err(|error| {
            let is_empty = text.trim_ascii().is_empty();
            invalid(if is_empty {
                "The body is empty.".to_owned()
            } else {
                refusal("The body", &error, &error.to_string())
            })
        })
    }

    /// Reads one of the objects of a body that has one in each line.
    pub(super) fn parse_line(number: usize, line: &'a str) -> Result<Self, Problem> {
        serde_json::from_str(line).map_err(|error| {
            let text = error.to_string();
            // It counts lines, too, and has seen only this one.
            let text = text.replace(" at line 1 column ", " at column ");
            invalid(refusal(&format!("Line {number}"), &error, &text))
        })
    }

    /// The value of a field.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(place).1)
    }

    /// The value of a field that is of one type. `kind` says which.
    pub(super) fn take_as<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        kind: &str,
    ) -> Result<Option<T>, Problem> {
        let parse = |raw: &'a RawValue| serde_json::from_str(raw.get()).map_err(|_| wrong_type(name, kind));
        self.take(name).map(parse).transpose()
    }

    /// The text of a field.
    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, Problem> {
        Ok(self.take_as::<Text<'a>>(name, "a string")?.map(|text| text.0))
    }

    /// A field is not there. Maybe it is, by a name that is none: then that is what is told. `others` are those that may be left.
    pub(super) fn missing(&self, name: &str, others: &[&str]) -> Problem {
        match self.0.iter().find(|(left, _)| !others.contains(&&**left)) {
            Some((unknown, _)) => {
                let unknown = unknown.escape_debug();
                let detail =
                    format!("There is no field `{unknown}` here, and the field `{name}` is missing.");
                Problem::new(Code::UnknownField, detail)
            }
            None => invalid(format!("The field `{name}` is missing.")),
        }
    }

    /// There must be nothing left.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::new(
                Code::UnknownField,
                format!("There is no field `{}` here.", name.escape_debug()),
            )),
        }
    }
}

/// Something is wrong with a body.
pub(super) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidBody, detail)
}

/// A field has a value of another type.
pub(super) fn wrong_type(name: &str, kind: &str) -> Problem {
    invalid(format!("`{name}` must be {kind}."))
}

/// What is said of a text that is no object, or of an object that cannot be read. `text` is the error's.
fn refusal(what: &str, error: &serde_json::Error, text: &str) -> String {
    // Of data the parser itself says one thing only: that it is of another type.
    let is_object = error.is_data() && !text.starts_with("invalid type");
    format!("{what} is {}: {text}.", if is_object { "not valid" } else { "no JSON object" })
}

/// Borrows unless it holds escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if fields.len() >= FIELDS_MAX {
                        return Err(M::Error::custom("there are too many fields"));
                    }
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(M::Error::custom(format_args!(
                            "`{}` is there twice",
                            name.escape_debug()
                        )));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_as_they_were_written() {
        let mut fields = Fields::parse(r#" {"d\u0061ta" : {"b" : 1e400}, "n":3, "t":"\u00e9"} "#).unwrap();
        assert_eq!(fields.take("data").unwrap().get(), r#"{"b" : 1e400}"#);
        assert!(fields.take("data").is_none());
        assert_eq!(fields.take_as::<u64>("n", "a number"), Ok(Some(3)));
        assert_eq!(fields.take_text("t").unwrap().as_deref(), Some("é"));
        assert_eq!(fields.finish(), Ok(()));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for body in
            ["", "null", "7", "[]", r#"["data"]"#, "{", r#"{"a":1}x"#, r#"{"a":1,"a":2}"#, r#"{"a":01}"#]
        {
            assert_eq!(Fields::parse(body).map(|_| ()).unwrap_err().code, Code::InvalidBody, "{body}");
        }
        let many: Vec<_> = (0..100).map(|n| format!(r#""{n}":0"#)).collect();
        assert!(Fields::parse(&format!("{{{}}}", many.join(","))).is_err());
        let fields = Fields::parse(r#"{"x":1}"#).unwrap();
        assert_eq!(fields.finish().unwrap_err().code, Code::UnknownField);
        let mut fields = Fields::parse(r#"{"t":7}"#).unwrap();
        assert_eq!(fields.take_text("t").unwrap_err().detail, "`t` must be a string.");
    }

    /// Once, an object with a field twice was called none, and of a body that was empty it said where its end of file is.
    #[test]
    fn what_is_wrong_is_called_by_its_name() {
        for (body, detail) in [
            ("", "The body is empty."),
            (" \n", "The body is empty."),
            ("{", "The body is no JSON object: EOF while parsing an object at line 1 column 1."),
            (
                "[]",
                "The body is no JSON object: invalid type: sequence, expected an object at line 1 column 0.",
            ),
            (r#"{"data":1,"data":2}"#, "The body is not valid: `data` is there twice at line 1 column 19."),
        ] {
            assert_eq!(Fields::parse(body).map(|_| ()).unwrap_err().detail, detail, "{body}");
        }
        let detail = Fields::parse_line(3, r#"{"a":1,"a":2}"#).unwrap_err().detail;
        assert_eq!(detail, "Line 3 is not valid: `a` is there twice at column 13.");
        let missing = |body: &str| Fields::parse(body).unwrap().missing("data", &["ttl"]);
        assert_eq!(missing(r#"{"ttl":1}"#), invalid("The field `data` is missing."));
        let misspelt = missing(r#"{"ttl":1,"Data":1}"#);
        let detail = "There is no field `Data` here, and the field `data` is missing.";
        assert_eq!((misspelt.code, &*misspelt.detail), (Code::UnknownField, detail));
    }
}
