//! The argument of `join_channel`.

use serde_json::Value;

use crate::server::join_request as read;

/// The input is the argument as it stands in the event.
///
/// - A token is a string, and the one that a plain parser finds.
/// - An object says the same when it is sent as a string, as some clients of the original do, and a string in a string says nothing.
pub fn join_request(data: &[u8]) -> bool {
    let Ok(argument) = std::str::from_utf8(data) else { return false };
    let Some((token, request)) = read(argument) else { return false };
    let object = match argument.strip_prefix('"') {
        Some(_) => serde_json::from_str::<String>(argument).expect("it was read"),
        None => argument.to_owned(),
    };
    // The plain parser stops a little before the depth of ours, and holds no number like 1e400.
    if let Ok(plain) = serde_json::from_str::<Value>(&object) {
        assert_eq!(plain["token"], token.as_str());
    }
    let as_string = Value::from(object.as_str()).to_string();
    assert_eq!(read(&object).map(|(_, request)| request).as_ref(), Some(&request), "as an object");
    assert_eq!(read(&as_string).map(|(_, request)| request).as_ref(), Some(&request), "as a string");
    assert_eq!(read(&Value::from(as_string).to_string()), None, "as a string in a string");
    true
}
