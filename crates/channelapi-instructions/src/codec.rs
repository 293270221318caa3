//! What a client sends is decoded, what it gets is encoded.

use std::hint::black_box;

use channelapi_protocol::engineio::{Frame, Packet};
use channelapi_protocol::socketio::{self, Arguments};
use channelapi_protocol::websocket::frame::{Opcode, encode_masked};
use channelapi_protocol::websocket::{Decoder, Limits, Message};

/// A client's masked frame, down to the event in it.
pub(crate) fn decode(times: usize) {
    let token = "t".repeat(43);
    let event = format!(r#"42["join_channel",{{"token":"{token}"}}]"#);
    let frame = encode_masked(Opcode::Text, &[event.as_bytes()], [0x5c, 0x1a, 0xe3, 0x97]);
    let mut decoder = Decoder::new(Limits { message_bytes: 65_536, fragments: 64 });
    for _ in 0..times {
        let mut input = frame.clone();
        let mut at = 0;
        let message = decoder.next(black_box(&mut input), &mut at).expect("the frame is right");
        let Some(Message::Text(text)) = message else { panic!("the frame is whole") };
        let Ok(Packet::Text(text)) = Packet::parse(text) else { panic!("it is a message") };
        let packet = socketio::Packet::parse(text, 0).expect("it is a packet");
        let event = Arguments::parse(packet.data).expect("it is an event");
        assert_eq!(black_box(event).name, "join_channel");
    }
}

/// A publication's frame, into a buffer that is used again.
pub(crate) fn encode(times: usize) {
    let data = format!("\"{}\"", "x".repeat(198));
    let mut out = Vec::with_capacity(1024);
    for _ in 0..times {
        out.clear();
        Frame::write_text(&[br#"42["message""#, b",", black_box(data.as_bytes()), b"]"], &mut out);
        black_box(&out);
    }
}
