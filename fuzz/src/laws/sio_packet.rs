//! The text of a Socket.IO packet.

use channelapi_protocol::socketio::{Arguments, DEPTH_MAX, Kind, Packet, ROOT, event_data};
use serde_json::Value;
use serde_json::value::RawValue;

pub(super) const ATTACHMENTS_MAX: usize = 10;

/// The input is a packet's text.
///
/// - A packet that was read, written and read again is the same packet.
/// - Its data is JSON or nothing, nested no deeper than the limit; its parts keep to what their docs say.
/// - The arguments of an event are JSON, and an event written with them has the same arguments.
pub fn sio_packet(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(packet) = Packet::parse(text, ATTACHMENTS_MAX) else { return false };

    let mut written = Vec::new();
    packet.write(&mut written);
    let written = String::from_utf8(written).expect("a packet made of text is text");
    assert_eq!(Packet::parse(&written, ATTACHMENTS_MAX), Ok(packet), "written as {written}");

    assert!(packet.attachments <= ATTACHMENTS_MAX);
    assert!(packet.attachments == 0 || packet.kind.is_binary());
    assert!(packet.namespace.starts_with(ROOT) && !packet.namespace.contains(','));
    assert!(text.ends_with(packet.data), "data is passed through as it was written");
    if !packet.data.is_empty() {
        assert!(serde_json::from_str::<&RawValue>(packet.data).is_ok(), "not JSON: {}", packet.data);
    }
    // Numbers like 1e400 and lone surrogates are JSON that no `Value` can hold.
    if let Ok(value) = serde_json::from_str::<Value>(packet.data) {
        assert!(depth(&value) <= DEPTH_MAX, "{} deep", depth(&value));
    }
    if matches!(packet.kind, Kind::Event | Kind::BinaryEvent) {
        assert_arguments(packet.data);
    }
    true
}

fn assert_arguments(data: &str) {
    let arguments = Arguments::parse(data).expect("an accepted event has a name");
    for value in &arguments.values {
        assert!(serde_json::from_str::<&RawValue>(value).is_ok(), "not JSON: {value}");
    }
    let written = event_data(&arguments.name, &arguments.values);
    let again = Arguments::parse(&written).expect("a written event has a name");
    assert_eq!((again.name, again.values), (arguments.name, arguments.values), "written as {written}");
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
