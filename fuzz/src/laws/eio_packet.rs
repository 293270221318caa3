//! One Engine.IO packet of a client, as a WebSocket carries it.

use channelapi_protocol::engineio::Packet;

/// The input is a text message.
///
/// - What was read says all that was written: put together again, it is the same text.
/// - A packet in a body means the same as in a message of its own, unless it holds the separator or looks like base64.
pub fn eio_packet(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let read = Packet::parse(text);
    if !text.contains('\x1e') && !text.starts_with('b') {
        let mut in_body = channelapi_protocol::engineio::payload::decode(text, 1);
        assert_eq!(in_body.next(), Some(read.clone()), "in a body");
        assert_eq!(in_body.next(), None);
    }
    let Ok(packet) = read else { return false };
    let written = match packet {
        Packet::Close => "1".to_owned(),
        Packet::Ping(data) => format!("2{data}"),
        Packet::Pong(data) => format!("3{data}"),
        Packet::Text(data) => format!("4{data}"),
        Packet::Upgrade => "5".to_owned(),
        Packet::Noop => "6".to_owned(),
        Packet::Binary(_) => panic!("text is never binary"),
    };
    assert_eq!(written, text);
    true
}
