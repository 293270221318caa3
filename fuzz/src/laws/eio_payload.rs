//! The body of an Engine.IO polling request.

use channelapi_protocol::engineio::payload::{SEPARATOR, decode, take};
use channelapi_protocol::engineio::{Frame, Packet, PacketError};

/// Small enough for the fuzzer to reach it.
const PACKETS_MAX: usize = 16;

/// The input is a body.
///
/// - None of its packets is read if there are more than the limit; at most one error, and nothing after it.
/// - The packets together carry no more bytes than the body.
/// - Packets written as frames into a body, one by one or joined and taken in portions, are the same when read again.
pub fn eio_payload(data: &[u8]) -> bool {
    let Ok(body) = std::str::from_utf8(data) else { return false };
    let read: Vec<_> = decode(body, PACKETS_MAX).collect();
    let packets: Vec<Packet<'_>> = read.iter().map_while(|packet| packet.clone().ok()).collect();
    assert!(packets.len() + 1 >= read.len(), "something follows an error: {read:?}");
    let parts = data.iter().filter(|byte| **byte == SEPARATOR).count() + 1;
    let too_many = [Err(PacketError::TooMany)];
    assert_eq!(read == too_many, parts > PACKETS_MAX, "{parts} parts: {read:?}");
    if packets.len() == read.len() {
        assert_eq!(packets.len(), parts, "a packet was left out or made up");
    }
    let carried: usize = packets.iter().map(carried_bytes).sum();
    assert!(carried <= body.len(), "{carried} bytes out of {}", body.len());

    let mut frames: Vec<Frame> = packets.iter().map(frame).collect();
    let mut joined = Frame::from_wire(frames.iter().flat_map(|frame| frame.wire().to_vec()).collect());
    let mut one_by_one = Vec::new();
    for frame in &mut frames {
        assert_eq!(take(frame, PACKETS_MAX, |_| false, &mut one_by_one), 1);
    }
    let mut in_portions = Vec::new();
    let mut taken = 0;
    for portion in 1..=PACKETS_MAX {
        taken += take(&mut joined, portion, |_| false, &mut in_portions);
    }
    assert!(taken == packets.len() && joined.wire().is_empty());
    assert_eq!(in_portions, one_by_one);
    if !packets.is_empty() {
        let written = String::from_utf8(in_portions).expect("a body made of text and base64 is text");
        let again: Result<Vec<_>, _> = decode(&written, PACKETS_MAX).collect();
        assert_eq!(again, Ok(packets.clone()));
    }
    packets.len() == read.len()
}

fn carried_bytes(packet: &Packet<'_>) -> usize {
    match packet {
        Packet::Ping(text) | Packet::Pong(text) | Packet::Text(text) => text.len(),
        Packet::Binary(bytes) => bytes.len(),
        Packet::Close | Packet::Upgrade | Packet::Noop => 0,
    }
}

fn frame(packet: &Packet<'_>) -> Frame {
    match packet {
        Packet::Close => Frame::CLOSE,
        Packet::Ping(text) => Frame::text(&[b"2", text.as_bytes()]),
        Packet::Pong(text) => Frame::text(&[b"3", text.as_bytes()]),
        Packet::Text(text) => Frame::text(&[b"4", text.as_bytes()]),
        Packet::Binary(bytes) => Frame::binary(bytes),
        Packet::Upgrade => Frame::text(&[b"5"]),
        Packet::Noop => Frame::NOOP,
    }
}
