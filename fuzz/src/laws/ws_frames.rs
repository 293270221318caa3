//! WebSocket frames of a client, and of a server.

use channelapi_protocol::websocket::frame::{self, Opcode, encode, encode_masked};
use channelapi_protocol::websocket::{CloseCode, DecodeError, Decoder, Limits, Message};

/// Small enough for the fuzzer to reach them.
const LIMITS: Limits = Limits { message_bytes: 1000, fragments: 8 };
/// A stream up to this length is cut at every place; a longer one at some.
const CUT_EVERYWHERE_BYTES: usize = 200;

/// A message that has outlived the decoder's buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Data(Opcode, Vec<u8>),
    Close(Option<(CloseCode, String)>),
}

type Outcome = (Vec<Owned>, Option<DecodeError>);

/// The first byte decides where the others, a stream of frames, are cut.
///
/// - However the stream is cut, it gives the same messages and the same error.
/// - No message is over the limits, and the decoder holds memory for what it received, and none when idle.
/// - What was decoded, encoded again (whole, or in fragments with a ping between them), gives the same.
/// - Read as the frames of a server, each that is found is the one that a server writes.
pub fn ws_frames(data: &[u8]) -> bool {
    let Some((&cut, stream)) = data.split_first() else { return false };
    let whole = decode(stream.chunks(stream.len().max(1)));
    assert_limits(&whole.0);
    assert_server_frames(stream);

    assert_eq!(decode(stream.chunks(1)), whole, "byte by byte");
    assert_eq!(decode(stream.chunks(usize::from(cut).max(2))), whole, "in pieces of {cut}");
    let step = if stream.len() <= CUT_EVERYWHERE_BYTES { 1 } else { stream.len() / 16 };
    for place in (usize::from(cut) % step..stream.len()).step_by(step) {
        let (head, tail) = stream.split_at(place);
        assert_eq!(decode([head, tail].into_iter()), whole, "cut at {place}");
    }

    let (messages, error) = whole;
    let again: Vec<u8> = messages.iter().flat_map(|message| client_frames(message, cut, false)).collect();
    assert_eq!(decode([again.as_slice()].into_iter()), (messages.clone(), None), "encoded again");
    for message in &messages {
        let frames = client_frames(message, cut, true);
        let (received, error) = decode([frames.as_slice()].into_iter());
        assert_eq!((received.last(), error), (Some(message), None), "in fragments");
    }
    error.is_none()
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::new(LIMITS);
    let mut messages = Vec::new();
    let mut received = 0;
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut at = 0;
        received += piece.len();
        loop {
            match decoder.next(&mut piece, &mut at) {
                Ok(Some(message)) => messages.push(Owned::from(message)),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
            if matches!(messages.last(), Some(Owned::Close(_))) {
                return (messages, None);
            }
        }
        assert_eq!(at, piece.len(), "`None` means that the whole input was taken");
        // A growing vector may own twice what it holds.
        let held = decoder.held_bytes();
        assert!(held <= 2 * received + 16, "{held} bytes held for {received} received");
        assert!(held <= 4 * LIMITS.message_bytes + 64, "{held} bytes held, whatever was received");
        assert!(decoder.is_mid_message() || held == 0, "{held} bytes held while idle");
    }
    (messages, None)
}

fn assert_limits(messages: &[Owned]) {
    for message in messages {
        match message {
            Owned::Data(opcode, bytes) => {
                let most = if opcode.is_control() { 125 } else { LIMITS.message_bytes };
                assert!(bytes.len() <= most, "{opcode:?} of {} bytes", bytes.len());
            }
            Owned::Close(Some((code, reason))) => assert!(code.may_be_sent() && reason.len() <= 123),
            Owned::Close(None) => {}
        }
    }
}

fn assert_server_frames(mut stream: &[u8]) {
    while let Ok(Some(found)) = frame::decode(stream, LIMITS.message_bytes) {
        let (frame, rest) = stream.split_at(found.bytes);
        assert_eq!(encode(found.opcode, &[found.payload]), frame, "written again");
        stream = rest;
    }
}

/// A message as a client would send it, with the mask made of one byte.
fn client_frames(message: &Owned, key: u8, in_fragments: bool) -> Vec<u8> {
    let key = [key, key.rotate_left(3), !key, 7];
    match message {
        Owned::Data(opcode, bytes) if in_fragments && !opcode.is_control() => {
            let (head, tail) = bytes.split_at(bytes.len() / 3);
            let mut first = encode_masked(*opcode, &[head], key);
            first[0] &= 0x7F; // Not the last one.
            let ping = encode_masked(Opcode::Ping, &[b"between"], key);
            let last = encode_masked(Opcode::Continuation, &[tail], key);
            [first, ping, last].concat()
        }
        Owned::Data(opcode, bytes) => encode_masked(*opcode, &[bytes], key),
        Owned::Close(None) => encode_masked(Opcode::Close, &[], key),
        Owned::Close(Some((code, reason))) => {
            encode_masked(Opcode::Close, &[&code.0.to_be_bytes(), reason.as_bytes()], key)
        }
    }
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Data(Opcode::Text, text.into()),
            Message::Binary(bytes) => Self::Data(Opcode::Binary, bytes.to_vec()),
            Message::Ping(bytes) => Self::Data(Opcode::Ping, bytes.to_vec()),
            Message::Pong(bytes) => Self::Data(Opcode::Pong, bytes.to_vec()),
            Message::Close(frame) => Self::Close(frame.map(|frame| (frame.code, frame.reason.to_owned()))),
        }
    }
}
