//! The data of an event: a JSON array of its name and its arguments.

use serde_json::value::RawValue;
use std::borrow::Cow;

/// An event's name and arguments; the arguments stay JSON text.
#[derive(Debug)]
pub struct Arguments<'a> {
    /// The name. A number as a name is given as its text.
    pub name: Cow<'a, str>,
    /// What follows the name, each as it was written.
    pub values: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    /// Takes apart the data of an event that [`super::Packet::parse`] accepted; `None` for anything else.
    pub fn parse(data: &'a str) -> Option<Self> {
        let elements: Vec<&'a RawValue> = serde_json::from_str(data).ok()?;
        let mut elements = elements.into_iter().map(RawValue::get);
        let name = elements.next()?;
        let name =
            if name.starts_with('"') { serde_json::from_str::<Name<'a>>(name).ok()?.0 } else { name.into() };
        Some(Self { name, values: elements.collect() })
    }
}

/// Borrows where the name holds no escapes; plain `Cow` would always copy.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The data of an event `name` with `values` that are already JSON.
pub fn event_data(name: &str, values: &[&str]) -> String {
    // A text is always serializable.
    let mut data = format!("[{}", serde_json::Value::from(name));
    for value in values {
        data.push(',');
        data.push_str(value);
    }
    data.push(']');
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_as_they_were_written() {
        let data = r#"["na\"me",{"b":1,"a":1e400}, "\u00e9" ,null]"#;
        let event = Arguments::parse(data).unwrap();
        assert_eq!(event.name, "na\"me");
        assert_eq!(event.values, [r#"{"b":1,"a":1e400}"#, r#""\u00e9""#, "null"]);
        assert_eq!(event_data(&event.name, &event.values), r#"["na\"me",{"b":1,"a":1e400},"\u00e9",null]"#);
        assert!(matches!(Arguments::parse(r#"["plain"]"#).unwrap().name, Cow::Borrowed("plain")));
        assert!(Arguments::parse("{}").is_none() && Arguments::parse("[]").is_none());
    }
}
