//! The frames of the seed contract, byte for byte.

use channelapi_core::broker::Gap;
use channelapi_core::model::{ChannelName, Checkpoint, Publication};
use channelapi_protocol::engineio::Frame;
use channelapi_protocol::socketio::{Kind, Packet};
use serde_json::Value;

/// Appends a publication as the event it was published as. With `is_meta`, its last argument says where and when.
pub(crate) fn publication(publication: &Publication, is_meta: bool, out: &mut Vec<u8>) {
    let event;
    let head: &[u8] = if publication.event.is_message() {
        br#"42["message""#
    } else {
        event = format!("42[{}", Value::from(publication.event.as_str()));
        event.as_bytes()
    };
    let data: &[u8] = &publication.data;
    if is_meta {
        Frame::write_text(&[head, b",", data, b",", meta(publication).as_bytes(), b"]"], out);
    } else if data == b"null" {
        // The original published `null` as an event without arguments.
        Frame::write_text(&[head, b"]"], out);
    } else {
        Frame::write_text(&[head, b",", data, b"]"], out);
    }
}

/// Where and when something was published, as JSON.
fn meta(publication: &Publication) -> String {
    let (channel, at) = (Value::from(publication.channel.as_str()), publication.published_at);
    match publication.kept {
        None => format!(r#"{{"channel":{channel},"ts":{at}}}"#),
        Some(kept) => format!(
            r#"{{"id":"{}","channel":{channel},"offset":{},"cursor":"{}","ts":{at}}}"#,
            kept.position, kept.position.offset, kept.cursor
        ),
    }
}

/// What a checkpoint begins with.
const CHECKPOINT: &[u8] = br#"42["checkpoint",""#;

/// Appends the event that tells a client where it stands. Stock clients remember it because it ends with text.
pub(crate) fn checkpoint(checkpoint: &Checkpoint, out: &mut Vec<u8>) {
    Frame::write_text(&[CHECKPOINT, &checkpoint.encode(), br#""]"#], out);
}

/// Whether a packet is a checkpoint. Polls do not tear it from the publication before it.
pub(super) fn is_checkpoint(packet: &[u8]) -> bool {
    packet.starts_with(CHECKPOINT)
}

/// Appends the event that tells a client that something is missing.
pub(crate) fn gap(channel: &ChannelName, gap: Gap, out: &mut Vec<u8>) {
    let channel = Value::from(channel.as_str());
    let event = format!(r#"42["gap",{{"channel":{channel},"reason":"{gap}"}}]"#);
    Frame::write_text(&[event.as_bytes()], out);
}

/// Puts a client out of the root namespace: a stock client does not come back by itself.
pub(super) fn disconnect() -> Frame {
    packet(&Packet::new(Kind::Disconnect, ""))
}

/// Tells a client that its JWT ends, and that it is sent away in so many milliseconds unless it brings a new one.
pub(super) fn expiring(millis: u64) -> Frame {
    let seconds = millis / 1_000;
    let event = format!(r#"["auth",{{"code":"expiring","expires_in":{seconds}}}]"#);
    packet(&Packet::new(Kind::Event, &event))
}

/// Tells a client which channels it has left because its new JWT does not open them.
pub(super) fn left(channels: &[ChannelName]) -> Frame {
    let event = format!(r#"["auth",{{"code":"left","channels":{}}}]"#, names(channels));
    packet(&Packet::new(Kind::Event, &event))
}

/// Names of channels as a JSON array.
pub(super) fn names(channels: &[ChannelName]) -> Value {
    channels.iter().map(ChannelName::as_str).collect()
}

/// Bytes of a packet besides its data.
const PACKET_BYTES_ABOUT: usize = 32;

/// A packet of Socket.IO in a message of Engine.IO.
pub(super) fn packet(packet: &Packet<'_>) -> Frame {
    let mut text = Vec::with_capacity(PACKET_BYTES_ABOUT + packet.data.len());
    text.push(b'4');
    packet.write(&mut text);
    Frame::text(&[&text])
}

/// The first event of every connection.
pub(super) fn connected() -> Frame {
    packet(&Packet::new(Kind::Event, r#"["clientevent",{"data":"Connected","count":0}]"#))
}

/// Tells a client that it is in a channel, and answers its event if it asked for an answer.
pub(super) fn joined(channel: &ChannelName, ack: Option<u64>) -> Frame {
    let text = Value::from(format!("Connected to {channel}"));
    let event = packet(&Packet::new(Kind::Event, &format!(r#"["clientevent",{{"data":{text}}}]"#)));
    match ack {
        None => event,
        Some(_) => join(&[event, answer(ack, "[]")]),
    }
}

/// Answers an event of a client.
pub(super) fn answer(ack: Option<u64>, arguments: &str) -> Frame {
    packet(&Packet { ack, ..Packet::new(Kind::Ack, arguments) })
}

/// Does not let a client in, for a reason that its program can tell from others.
pub(super) fn refusal(code: &str, message: &str) -> Frame {
    let message = Value::from(message);
    let data = format!(r#"{{"message":{message},"data":{{"code":"{code}"}}}}"#);
    packet(&Packet::new(Kind::ConnectError, &data))
}

/// Several frames as one write.
pub(super) fn join(frames: &[Frame]) -> Frame {
    let wires = frames.iter().map(|frame| &frame.wire()[..]);
    Frame::from_wire(wires.collect::<Vec<_>>().concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use channelapi_core::model::{CURSOR_BYTES, Cursor, EventName, Kept, Position};

    fn texts(frame: &Frame) -> Vec<String> {
        frame.frames().map(|packet| String::from_utf8(packet.payload.into()).unwrap()).collect()
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn published(event: &str, data: &'static str, kept: Option<Kept>) -> Publication {
        Publication {
            channel: channel("a"),
            event: EventName::parse(event).unwrap(),
            data: Bytes::from_static(data.as_bytes()),
            published_at: 7,
            kept,
        }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let mut out = Vec::new();
        write(&mut out);
        texts(&Frame::from_wire(out.into()))
    }

    #[test]
    fn data_is_passed_on_unchanged() {
        let check = |data: &'static str, expected: &str| {
            assert_eq!(written(|out| publication(&published("message", data, None), false, out)), [expected]);
        };
        check(r#"{"b":1e400,"a":"\u00e9\ud800"}"#, r#"42["message",{"b":1e400,"a":"\u00e9\ud800"}]"#);
        check("12345678901234567890", r#"42["message",12345678901234567890]"#);
        check("null", r#"42["message"]"#);
        check(r#""null""#, r#"42["message","null"]"#);
        check("[]", r#"42["message",[]]"#);
    }

    #[test]
    fn other_events_and_where_they_are_kept() {
        let cursor = Cursor::from_bytes([2; CURSOR_BYTES]);
        let kept = Kept { position: Position { epoch: 1, offset: 2, tag: 3 }, turn: 2, cursor };
        let one = published("order \"placed\"", "1", Some(kept));
        assert_eq!(written(|out| publication(&one, false, out)), [r#"42["order \"placed\"",1]"#]);
        let meta = format!(
            r#"{{"id":"0000000000000001-2-00000003","channel":"a","offset":2,"cursor":"{cursor}","ts":7}}"#
        );
        assert_eq!(
            written(|out| publication(&published("message", "null", Some(kept)), true, out)),
            [format!(r#"42["message",null,{meta}]"#)]
        );
        assert_eq!(
            written(|out| publication(&published("message", "1", None), true, out)),
            [r#"42["message",1,{"channel":"a","ts":7}]"#]
        );
        let stands = Checkpoint { cursor, has_left: false };
        assert_eq!(written(|out| checkpoint(&stands, out)), [format!(r#"42["checkpoint","{cursor}"]"#)]);
        assert_eq!(
            written(|out| gap(&channel("a\"b"), Gap::Trimmed, out)),
            [r#"42["gap",{"channel":"a\"b","reason":"trimmed"}]"#]
        );
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
