//! The body of a publish request: `{"message": <any JSON>}`.

use bytes::Bytes;
use channelapi_core::limits::DATA_DEPTH_MAX;
use channelapi_core::model::{CURSOR_CHARS, Checkpoint, EventName};
use channelapi_protocol::socketio::is_deeper_than;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// How deeply a message may be nested: more than any sane one is, less than what breaks the parsers of clients.
pub(super) const DEPTH_MAX: usize = DATA_DEPTH_MAX;

/// Why a body is no message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MessageError {
    /// It is no JSON object with the key `message`.
    Format,
    /// It is nested too deeply.
    TooDeep,
    /// Clients would take it for their place.
    Checkpoint,
}

/// The part of a body that is the data, byte for byte as it was written.
pub(super) fn data_in(body: &[u8]) -> Result<&[u8], MessageError> {
    let text = std::str::from_utf8(body).map_err(|_| MessageError::Format)?;
    // The object around the message is one level more.
    if is_deeper_than(DEPTH_MAX + 1, text) {
        return Err(MessageError::TooDeep);
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|_| MessageError::Format)?;
    let data = envelope.message.ok_or(MessageError::Format)?.get().as_bytes();
    if is_checkpoint(&EventName::default(), data) { Err(MessageError::Checkpoint) } else { Ok(data) }
}

/// Whether this would end like a checkpoint: stock clients take the text that an event ends with for their place (an event without data
/// ends with its name), and come back to it as if they had everything before. So nobody but this server may send one.
pub(super) fn is_checkpoint(event: &EventName, data: &[u8]) -> bool {
    let is_one = |text: &str| text.parse::<Checkpoint>().is_ok();
    match data {
        b"null" => is_one(event.as_str()),
        // Each of its characters may be written as an escape of six.
        [b'"', ..] if (CURSOR_CHARS + 2..=6 * CURSOR_CHARS + 2).contains(&data.len()) => {
            serde_json::from_slice::<Cow<'_, str>>(data).is_ok_and(|text| is_one(&text))
        }
        _ => false,
    }
}

/// Data as a part of its body, if it is most of that: a small message must not keep a large body in memory for as long as it is kept
/// itself.
pub(super) fn shared(data: &[u8], body: &Bytes) -> Bytes {
    if data.len() >= body.len() / 2 { body.slice_ref(data) } else { Bytes::copy_from_slice(data) }
}

/// Like the original's parser, the last of several keys `message` counts and others are passed over.
struct Envelope<'a> {
    message: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut message = None;
                while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    if key.0 == "message" {
                        message = Some(value);
                    }
                }
                Ok(Envelope { message })
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

/// Borrows unless it holds escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use channelapi_core::model::{CURSOR_BYTES, Cursor};

    #[test]
    fn what_clients_would_take_for_their_place_is_no_message() {
        let cursor = Cursor::from_bytes([2; CURSOR_BYTES]);
        let event = EventName::default();
        for has_left in [false, true] {
            let encoded = Checkpoint { cursor, has_left }.encode();
            let text = std::str::from_utf8(&encoded).unwrap();
            let escaped = text.bytes().fold(String::new(), |text, byte| text + &format!("\\u{byte:04x}"));
            for data in [format!("\"{text}\""), format!("\"{escaped}\"")] {
                assert!(is_checkpoint(&event, data.as_bytes()), "{data}");
                let body = format!(r#"{{"message": {data} }}"#);
                assert_eq!(data_in(body.as_bytes()), Err(MessageError::Checkpoint));
            }
            let name = EventName::parse(text).unwrap();
            assert!(is_checkpoint(&name, b"null") && !is_checkpoint(&name, b"0"));
            for data in [format!("[\"{text}\"]"), format!("\" {text}\""), format!("\"{}\"", &text[1..])] {
                assert!(!is_checkpoint(&event, data.as_bytes()), "{data}");
            }
        }
        let formed =
            |what: &str, count| is_checkpoint(&event, format!("\"ca1.{}\"", what.repeat(count)).as_bytes());
        assert!(formed("A", 28), "it is told from another server's only when somebody comes with it");
        assert!(!formed("A", 27) && !formed("A", 29) && !formed(".", 28));
    }

    #[test]
    fn data_is_taken_as_it_was_written() {
        let check = |body: &'static str, data: &str| {
            assert_eq!(data_in(body.as_bytes()), Ok(data.as_bytes()), "{body}");
        };
        check(
            r#"{"message": {"b" : 1e400,"a":12345678901234567890}}"#,
            r#"{"b" : 1e400,"a":12345678901234567890}"#,
        );
        check(r#"{"x":[1],"message":"\u00e9\ud800","y":{}}"#, r#""\u00e9\ud800""#);
        check("{\"message\":\n null \n}", "null");
        check(r#"{"message":1,"message":2}"#, "2");
        check(r#"{"mess\u0061ge":[]}"#, "[]");
    }

    #[test]
    fn a_body_without_a_message_is_refused() {
        for body in [
            "",
            "{}",
            "null",
            "[]",
            "1",
            r#""message""#,
            r#"{"message"}"#,
            r#"{"message":1"#,
            r#"{"message":1}x"#,
            r#"{"Message":1}"#,
            r#"{"message":NaN}"#,
        ] {
            assert_eq!(data_in(body.as_bytes()), Err(MessageError::Format), "{body}");
        }
        assert_eq!(data_in(b"{\"message\":\"\xff\"}"), Err(MessageError::Format));
    }

    #[test]
    fn a_small_message_does_not_keep_a_large_body() {
        for (pad, is_shared) in [(0, true), (1_000, false)] {
            let body =
                Bytes::from(format!(r#"{{"message":"12345678901234567890","pad":"{}"}}"#, "x".repeat(pad)));
            let data = data_in(&body).unwrap();
            let own = shared(data, &body);
            assert_eq!((&own[..], own.as_ptr() == data.as_ptr()), (data, is_shared));
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested =
            |depth| format!(r#"{{"message":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)).into_bytes();
        assert!(data_in(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(data_in(&nested(DEPTH_MAX + 1)), Err(MessageError::TooDeep));
        assert_eq!(data_in(&nested(100_000)), Err(MessageError::TooDeep));
    }
}
