//! The body of a publish request.

use bytes::Bytes;
use serde_json::Value;

use crate::server::data_of;

/// How deeply a message may be nested.
const DEPTH_MAX: usize = 128;

/// The input is a body.
///
/// - The data is a part of the body as it was sent, and JSON.
/// - It is what a plain parser finds under the key `message`, the last of several.
/// - Put into a body of its own it is the same data.
pub fn publish_body(data: &[u8]) -> bool {
    let body = Bytes::copy_from_slice(data);
    let found = data_of(&body);
    // Numbers like 1e400 and lone surrogates are JSON that no `Value` can hold; the plain parser stops a little before our depth.
    let plain: Option<Value> = serde_json::from_slice(data).ok();
    if let Some(Value::Object(members)) = &plain {
        assert_eq!(found.is_some(), members.contains_key("message"), "{plain:?}");
    } else if plain.is_some() {
        assert_eq!(found, None, "no object: {plain:?}");
    }
    let Some(found) = found else { return false };
    assert!(body.as_ptr_range().contains(&found.as_ptr()), "the data was copied");
    assert!(found.len() < body.len());
    let text = std::str::from_utf8(&found).expect("JSON is text");
    assert!(serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() || text.len() > DEPTH_MAX);
    if let (Some(Value::Object(members)), Ok(value)) = (plain, serde_json::from_str::<Value>(text)) {
        assert_eq!(members.get("message"), Some(&value));
    }
    let again = Bytes::from(format!(r#"{{"message":{text}}}"#));
    assert_eq!(data_of(&again).as_deref(), Some(&found[..]));
    true
}
