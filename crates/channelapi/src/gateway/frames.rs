//! The frames of the seed contract, byte for byte.

use bytes::Bytes;
use channelapi_core::delivery::FrameEncoder;
use channelapi_core::model::{ChannelName, Publication};
use channelapi_protocol::engineio::Frame;
use channelapi_protocol::socketio::{Kind, Packet};

/// Encodes publications as the event `message`.
pub(crate) struct PublicationFrames;

impl FrameEncoder for PublicationFrames {
    fn encode(&self, publication: &Publication) -> Bytes {
        let data: &[u8] = &publication.data;
        // The original published `null` as an event without arguments.
        let parts: &[&[u8]] =
            if data == b"null" { &[br#"42["message"]"#] } else { &[br#"42["message","#, data, b"]"] };
        Frame::text(parts).into_wire()
    }
}

/// A packet of Socket.IO in a message of Engine.IO.
pub(super) fn packet(packet: &Packet<'_>) -> Frame {
    let mut text = vec![b'4'];
    packet.write(&mut text);
    Frame::text(&[&text])
}

/// The first event of every connection.
pub(super) fn connected() -> Frame {
    packet(&Packet::new(Kind::Event, r#"["clientevent",{"data":"Connected","count":0}]"#))
}

/// Tells a client that it is in a channel, and answers its event if it asked for an answer.
pub(super) fn joined(channel: &ChannelName, ack: Option<u64>) -> Frame {
    let text = serde_json::Value::from(format!("Connected to {channel}"));
    let event = packet(&Packet::new(Kind::Event, &format!(r#"["clientevent",{{"data":{text}}}]"#)));
    match ack {
        None => event,
        Some(_) => join(&[event, packet(&Packet { ack, ..Packet::new(Kind::Ack, "[]") })]),
    }
}

/// Several frames as one write.
pub(super) fn join(frames: &[Frame]) -> Frame {
    Frame::from_wire(frames.iter().flat_map(|frame| frame.wire().iter().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(frame: &Frame) -> Vec<String> {
        frame.frames().map(|packet| String::from_utf8(packet.payload.into()).unwrap()).collect()
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[test]
    fn data_is_passed_on_unchanged() {
        let check = |data: &'static str, expected: &str| {
            let data = Bytes::from_static(data.as_bytes());
            let publication = Publication { channel: channel("a"), sequence: 1, data };
            let frame = Frame::from_wire(PublicationFrames.encode(&publication));
            assert_eq!(texts(&frame), [expected]);
        };
        check(r#"{"b":1e400,"a":"\u00e9\ud800"}"#, r#"42["message",{"b":1e400,"a":"\u00e9\ud800"}]"#);
        check("12345678901234567890", r#"42["message",12345678901234567890]"#);
        check("null", r#"42["message"]"#);
        check(r#""null""#, r#"42["message","null"]"#);
        check("[]", r#"42["message",[]]"#);
    }

    #[test]
    fn answers_are_the_seeds() {
        assert_eq!(texts(&connected()), [r#"42["clientevent",{"data":"Connected","count":0}]"#]);
        assert_eq!(
            texts(&joined(&channel("a/\"ü\""), None)),
            [r#"42["clientevent",{"data":"Connected to a/\"ü\""}]"#]
        );
        assert_eq!(
            texts(&joined(&channel("a"), Some(7))),
            [r#"42["clientevent",{"data":"Connected to a"}]"#, "437[]"]
        );
    }
}
