//! Several packets in one HTTP body, separated by the character U+001E; binary ones in base64 behind a `b`.

use super::{Frame, Frames, Packet, PacketError};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use std::borrow::Cow;

/// Stands between two packets.
pub const SEPARATOR: u8 = 0x1E;

/// Writes padding, as the protocol's page shows; reads with or without it, as Node.js does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The packets of a request's body, one at a time, up to the first error. A body with more than `packets_max` is an error by itself:
/// nobody takes some of its packets to find out that there are too many.
pub fn decode(body: &str, packets_max: usize) -> impl Iterator<Item = Result<Packet<'_>, PacketError>> {
    let are_too_many = body.split(char::from(SEPARATOR)).nth(packets_max).is_some();
    let mut failed = false;
    body.split(char::from(SEPARATOR)).map_while(move |part| {
        if failed {
            return None;
        }
        let packet = if are_too_many { Err(PacketError::TooMany) } else { decode_one(part) };
        failed = packet.is_err();
        Some(packet)
    })
}

fn decode_one(part: &str) -> Result<Packet<'_>, PacketError> {
    match part.strip_prefix('b') {
        None => Packet::parse(part),
        Some(encoded) => match BASE64.decode(encoded) {
            Ok(bytes) => Ok(Packet::Binary(Cow::Owned(bytes))),
            Err(_) => Err(PacketError::Base64),
        },
    }
}

/// The whole body that `frames` are by themselves, sharing their memory. `None` if they are not one packet of text.
pub fn shared(frames: &Frame) -> Option<Bytes> {
    let mut packets = frames.frames();
    let packet = packets.next().filter(|packet| !packet.is_binary)?;
    packets.as_bytes().is_empty().then(|| frames.wire().slice_ref(packet.payload))
}

/// Moves up to `packets_max` packets from the front of `frames` to the end of a response's body, which may already hold some.
/// If not all of them fit, it ends behind the last of those that `is_good_end`; if the first of those would not fit, the body ends before
/// them all. One that is empty ends wherever it is full then, but directly before a good end only if it would stay empty otherwise.
/// Returns how many it moved; `frames` keeps the others.
pub fn take(
    frames: &mut Frame,
    packets_max: usize,
    is_good_end: impl Fn(&[u8]) -> bool,
    body: &mut Vec<u8>,
) -> usize {
    let count = packets_that_leave(frames.frames(), packets_max, is_good_end, body.is_empty());
    let mut packets = frames.frames();
    for packet in packets.by_ref().take(count) {
        if !body.is_empty() {
            body.push(SEPARATOR);
        }
        if packet.is_binary {
            body.push(b'b');
            body.extend_from_slice(BASE64.encode(packet.payload).as_bytes());
        } else {
            body.extend_from_slice(packet.payload);
        }
    }
    let rest = packets.as_bytes().len();
    frames.keep_last(rest);
    count
}

fn packets_that_leave(
    mut packets: Frames<'_>,
    packets_max: usize,
    is_good_end: impl Fn(&[u8]) -> bool,
    must_some: bool,
) -> usize {
    let (mut count, mut good_end) = (0_usize, None);
    for packet in packets.by_ref().take(packets_max) {
        count = count.saturating_add(1);
        if is_good_end(packet.payload) {
            good_end = Some(count);
        }
    }
    if packets.as_bytes().is_empty() {
        return count;
    }
    if let Some(count) = good_end {
        return count;
    }
    match packets.position(|packet| is_good_end(packet.payload)) {
        Some(_) if !must_some => 0,
        Some(0) if count > 1 => count.saturating_sub(1),
        _ => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Packet<'_>>, PacketError> {
        decode(body, 3).collect()
    }

    #[test]
    fn reads_text_and_binary() {
        assert_eq!(
            read("4hello\x1ebAQIDBA==\x1e3"),
            Ok(vec![Packet::Text("hello"), Packet::Binary(Cow::Owned(vec![1, 2, 3, 4])), Packet::Pong("")])
        );
        assert_eq!(read("bAQIDBA"), Ok(vec![Packet::Binary(Cow::Owned(vec![1, 2, 3, 4]))]));
    }

    #[test]
    fn refuses_what_is_not_a_payload() {
        assert_eq!(read(""), Err(PacketError::Empty));
        assert_eq!(read("4a\x1e"), Err(PacketError::Empty));
        assert_eq!(read("abc"), Err(PacketError::UnknownType));
        assert_eq!(read("b*"), Err(PacketError::Base64));
        let too_many: Vec<_> = decode("6\x1e6\x1e6\x1e6", 3).collect();
        assert_eq!(too_many, [Err(PacketError::TooMany)], "none of them is read");
        assert_eq!(decode("abc\x1e4ok", 3).count(), 1, "nothing is read behind an error");
    }

    #[test]
    fn takes_packets_up_to_a_number() {
        let wire: Vec<u8> = [Frame::text(&[b"4hello"]), Frame::binary(&[1, 2, 3, 4]), Frame::PING]
            .iter()
            .flat_map(|frame| frame.wire().to_vec())
            .collect();
        let mut frames = Frame::from_wire(wire.into());
        let mut body = Vec::new();
        assert_eq!(take(&mut frames, 2, |_| false, &mut body), 2);
        assert_eq!(body, b"4hello\x1ebAQIDBA==");
        assert_eq!(frames, Frame::PING);
        assert_eq!(take(&mut frames, 2, |_| false, &mut body), 1);
        assert_eq!(body, b"4hello\x1ebAQIDBA==\x1e2");
        assert!(frames.wire().is_empty());
        assert_eq!(take(&mut frames, 2, |_| false, &mut body), 0);
    }

    #[test]
    fn one_packet_of_text_is_a_body_as_it_is() {
        let text = Frame::text(&[b"4hello"]);
        let body = shared(&text).unwrap();
        assert_eq!(body, "4hello");
        assert!(text.wire().as_ptr_range().contains(&body.as_ptr()), "nothing was copied");
        let two: Vec<u8> = [text.wire().clone(), text.into_wire()].concat();
        for frames in [Frame::binary(b"4hello"), Frame::from_wire(two.into()), Frame::from_wire(Bytes::new())]
        {
            assert_eq!(shared(&frames), None, "{frames:?}");
        }
    }

    #[test]
    fn ends_where_it_is_good_to_end() {
        let check = |packets: &[&str], packets_max, expected: &[&str]| {
            let wire: Vec<u8> =
                packets.iter().flat_map(|text| Frame::text(&[text.as_bytes()]).into_wire()).collect();
            let mut frames = Frame::from_wire(wire.into());
            for expected in expected {
                let mut body = Vec::new();
                take(&mut frames, packets_max, |payload| payload == b"4!", &mut body);
                assert_eq!(String::from_utf8(body).unwrap(), *expected, "{packets:?}");
            }
            assert!(frames.wire().is_empty(), "{packets:?}");
        };
        check(&["4a", "4!", "4b", "4c", "4!", "4d"], 4, &["4a\x1e4!", "4b\x1e4c\x1e4!\x1e4d"]);
        check(&["4a", "4b", "4!", "4c"], 2, &["4a", "4b\x1e4!", "4c"]);
        check(&["4a", "4!"], 1, &["4a", "4!"]);
    }
}
