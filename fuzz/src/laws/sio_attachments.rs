//! A Socket.IO packet and the binary messages that follow it.

use channelapi_protocol::socketio::{Attachments, Packet};
use serde_json::Value;

use super::sio_packet::ATTACHMENTS_MAX;

/// Small enough for the fuzzer to reach it.
const BYTES_MAX: usize = 100;

/// The first line is a packet's text, every other line an attachment.
///
/// - Exactly the packets whose every placeholder names an attachment are waited for.
/// - What is gathered is what was sent, in order, never more bytes than the limit.
/// - It is complete exactly when the announced number is there, and the packet is still the one that came.
pub fn sio_attachments(data: &[u8]) -> bool {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(Ok(text)) = lines.next().map(std::str::from_utf8) else { return false };
    let Ok(packet) = Packet::parse(text, ATTACHMENTS_MAX) else { return false };
    if !packet.kind.is_binary() {
        return false;
    }

    let waiting = Attachments::new(text, &packet, BYTES_MAX);
    if let Ok(value) = serde_json::from_str::<Value>(packet.data) {
        assert_eq!(waiting.is_ok(), placeholders_exist(&value, packet.attachments), "{value}");
    }
    let Ok(mut waiting) = waiting else { return false };

    let mut sent: Vec<&[u8]> = Vec::new();
    while !waiting.is_complete() {
        assert_eq!(waiting.received(), sent);
        assert!(sent.len() < packet.attachments, "more attachments than announced");
        let Some(line) = lines.next() else { return false };
        let bytes = sent.iter().map(|bytes| bytes.len()).sum::<usize>() + line.len();
        let taken = waiting.push(line);
        assert_eq!(taken.is_ok(), bytes <= BYTES_MAX, "{bytes} bytes");
        if taken.is_err() {
            return false;
        }
        sent.push(line);
    }
    assert_eq!(waiting.received(), sent);
    assert_eq!(sent.len(), packet.attachments);
    assert_eq!(waiting.packet(), Ok(packet));
    true
}

/// Like the reference parser, looks no further into an object that is a placeholder.
fn placeholders_exist(value: &Value, count: usize) -> bool {
    match value {
        Value::Array(elements) => elements.iter().all(|element| placeholders_exist(element, count)),
        Value::Object(members) if members.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = members.get("num").and_then(Value::as_u64);
            number.and_then(|number| usize::try_from(number).ok()).is_some_and(|number| number < count)
        }
        Value::Object(members) => members.values().all(|member| placeholders_exist(member, count)),
        _ => true,
    }
}
