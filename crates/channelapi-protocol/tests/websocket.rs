//! The decoder against the rules of RFC 6455, against every way to cut its input, and against tungstenite.

#![allow(clippy::unwrap_used, clippy::large_stack_arrays, reason = "a test may stop where it stands")]

use channelapi_protocol::websocket::{self, CloseCode, DecodeError, Decoder, Limits, Message};
use proptest::prelude::*;
use std::io::{self, Cursor, Read, Write};
use tungstenite::protocol::{Role, WebSocketConfig};

const LIMITS: Limits = Limits { message_bytes: 70_000, fragments: 8 };

/// A message that owns its bytes, to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes.into()),
            Message::Ping(bytes) => Self::Ping(bytes.into()),
            Message::Pong(bytes) => Self::Pong(bytes.into()),
            Message::Close(frame) => Self::Close(frame.map(|frame| (frame.code.0, frame.reason.into()))),
        }
    }
}

/// A frame of a client. `length` overrides the announced length's form: 7, 16 or 64 bits.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..=65_535 => {
            out.push(0xFE);
            out.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            out.push(0xFF);
            out.extend((long as u64).to_be_bytes());
        }
    }
    let key = [0x1A, 0x2B, 0x3C, 0x4D];
    out.extend(key);
    let mut payload = payload.to_vec();
    websocket::mask(&mut payload, key);
    out.extend(payload);
    out
}

/// Everything `bytes` decode to when they arrive in pieces of the given sizes (the last size repeats).
fn decode(bytes: &[u8], sizes: &[usize]) -> (Vec<Owned>, Option<DecodeError>) {
    let mut decoder = Decoder::new(LIMITS);
    let mut messages = Vec::new();
    let mut rest = bytes;
    let mut sizes = sizes.iter().copied();
    let mut size = usize::MAX;
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size).max(1);
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            match decoder.next(&mut piece, &mut at) {
                Ok(Some(message)) => {
                    let message = Owned::from(message);
                    let is_close = matches!(message, Owned::Close(_));
                    messages.push(message);
                    if is_close {
                        return (messages, None);
                    }
                }
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert_eq!(at, piece.len(), "`None` means that all input was taken");
        assert!(decoder.held_bytes() <= 2 * bytes.len() + 64, "memory follows the bytes received");
    }
    (messages, None)
}

#[test]
fn a_message_ends_as_the_rfc_says() {
    let check = |name: &str, bytes: &[u8], expected: Result<Owned, u16>| {
        for sizes in [&[usize::MAX][..], &[1], &[3, 7, 1, 50]] {
            let (messages, error) = decode(bytes, sizes);
            match &expected {
                Ok(message) => assert_eq!((&messages[..], error), (&[message.clone()][..], None), "{name}"),
                Err(code) => assert_eq!(error.map(|error| error.close_code().0), Some(*code), "{name}"),
            }
        }
    };
    let text = |text: &str| Ok(Owned::Text(text.into()));
    check("text", &frame(0x81, "héllo".as_bytes()), text("héllo"));
    check("empty text", &frame(0x81, b""), text(""));
    check("long text", &frame(0x81, &[b'x'; 69_000]), text(&"x".repeat(69_000)));
    check("binary", &frame(0x82, &[0; 200]), Ok(Owned::Binary(vec![0; 200])));
    check("fragments", &[frame(0x01, b"he"), frame(0x00, b"l"), frame(0x80, b"lo")].concat(), text("hello"));
    check("ping", &frame(0x89, &[1; 125]), Ok(Owned::Ping(vec![1; 125])));
    check("pong", &frame(0x8A, b""), Ok(Owned::Pong(vec![])));
    check("close", &frame(0x88, b""), Ok(Owned::Close(None)));
    check("close with code", &frame(0x88, b"\x03\xe8bye"), Ok(Owned::Close(Some((1000, "bye".into())))));

    check("unmasked", &[0x81, 0x01, b'x'], Err(1002));
    check("reserved bit", &frame(0xC1, b"x"), Err(1002));
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check("reserved opcode", &frame(0x80 | opcode, b""), Err(1002));
    }
    check("fragmented ping", &frame(0x09, b""), Err(1002));
    check("long ping", &frame(0x89, &[0; 126]), Err(1002));
    check("continuation of nothing", &frame(0x80, b"x"), Err(1002));
    check("message in a message", &[frame(0x01, b"a"), frame(0x81, b"b")].concat(), Err(1002));
    check("close with one byte", &frame(0x88, b"x"), Err(1002));
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        check("close code", &frame(0x88, &code.to_be_bytes()), Err(1002));
    }
    check("close reason", &frame(0x88, b"\x03\xe8\xc3\x28"), Err(1007));
    check("no UTF-8", &frame(0x81, b"\xc3\x28"), Err(1007));
    check(
        "no UTF-8 over two fragments",
        &[frame(0x01, b"\xe2\x82"), frame(0x80, b"\x28")].concat(),
        Err(1007),
    );
    check("16 bits for a short length", &[0x81, 0xFE, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0], Err(1002));
    check("too long", &frame(0x82, &[0; 70_001]), Err(1009));
    check("too long in sum", &[frame(0x02, &[0; 60_000]), frame(0x80, &[0; 10_001])].concat(), Err(1009));
    check("too many fragments", &[frame(0x02, b""), frame(0x00, b"x").repeat(8)].concat(), Err(1009));
}

#[test]
fn a_ping_may_stand_between_fragments() {
    let bytes = [frame(0x01, b"a"), frame(0x89, b"p"), frame(0x80, b"b"), frame(0x81, b"c")].concat();
    let expected = [Owned::Ping(b"p".into()), Owned::Text("ab".into()), Owned::Text("c".into())];
    assert_eq!(decode(&bytes, &[usize::MAX]).0, expected);
    assert_eq!(decode(&bytes, &[1]).0, expected);
}

#[test]
fn a_huge_length_is_refused_from_its_header_alone() {
    let mut decoder = Decoder::new(LIMITS);
    let mut header = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    assert_eq!(decoder.next(&mut header, &mut 0), Err(DecodeError::TooBig));
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn an_idle_decoder_holds_no_memory() {
    let mut decoder = Decoder::new(LIMITS);
    for piece in frame(0x81, &[b'x'; 5_000]).chunks_mut(700) {
        let mut at = 0;
        while decoder.next(piece, &mut at).unwrap().is_some() {}
    }
    assert_eq!(decoder.next(&mut [], &mut 0), Ok(None));
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn kept_bytes_come_before_the_next_input() {
    let bytes = [frame(0x81, b"a"), frame(0x81, b"b"), frame(0x81, b"c")].concat();
    let mut decoder = Decoder::new(LIMITS);
    let (first, last) = bytes.split_at(bytes.len() - 4);
    decoder.keep(first);
    let mut last = last.to_vec();
    let mut at = 0;
    let mut texts = Vec::new();
    while let Some(message) = decoder.next(&mut last, &mut at).unwrap() {
        texts.push(Owned::from(message));
    }
    assert_eq!(texts, ["a", "b", "c"].map(|text| Owned::Text(text.into())));
}

/// A client's frames, mostly right, sometimes not.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[a-zé€😀]{0,20}".prop_map(String::into_bytes),
        (120_usize..140, any::<u8>()).prop_map(|(length, byte)| vec![byte % 128; length]),
        Just(vec![b'z'; 66_000]),
    ];
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A]),
        1 => Just(0x88),
        1 => any::<u8>(),
    ];
    let good = (first, payload).prop_map(|(first, payload)| frame(first, &payload));
    let piece = prop_oneof![20 => good, 1 => prop::collection::vec(any::<u8>(), 0..20)];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Gives tungstenite the bytes, and swallows what it answers.
struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of the same bytes: its messages, and whether it found something wrong.
fn tungstenite_decodes(bytes: &[u8]) -> (Vec<Owned>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMITS.message_bytes))
        .max_frame_size(Some(LIMITS.message_bytes));
    let wire = Wire(Cursor::new(bytes.to_vec()));
    let mut socket = tungstenite::WebSocket::from_raw_socket(wire, Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Text(text)) => messages.push(Owned::Text(text.as_str().into())),
            Ok(tungstenite::Message::Binary(bytes)) => messages.push(Owned::Binary(bytes.to_vec())),
            Ok(tungstenite::Message::Ping(bytes)) => messages.push(Owned::Ping(bytes.to_vec())),
            Ok(tungstenite::Message::Pong(bytes)) => messages.push(Owned::Pong(bytes.to_vec())),
            Ok(tungstenite::Message::Close(frame)) => {
                let frame = frame.map(|frame| (u16::from(frame.code), frame.reason.as_str().to_owned()));
                messages.push(Owned::Close(frame));
                return (messages, false);
            }
            Ok(tungstenite::Message::Frame(_)) => unreachable!("only sent, never read"),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (messages, false);
            }
            Err(_) => return (messages, true),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn cutting_the_input_changes_nothing(
        bytes in frames(),
        sizes in prop::collection::vec(1_usize..300, 1..8),
    ) {
        prop_assert_eq!(decode(&bytes, &sizes), decode(&bytes, &[usize::MAX]));
    }

    /// We may refuse more (fragment counts, lengths that are not in their shortest form, close codes, and a text at its end
    /// where tungstenite stops at its first wrong byte), never read something else, and never take what it refuses.
    #[test]
    fn agrees_with_tungstenite(bytes in frames()) {
        let (ours, our_error) = decode(&bytes, &[usize::MAX]);
        let (theirs, their_error) = tungstenite_decodes(&bytes);
        let both = ours.len().min(theirs.len());
        prop_assert_eq!(&ours[..both], &theirs[..both]);
        prop_assert!(our_error.is_some() || ours.len() >= theirs.len(), "{ours:?} against {theirs:?}");
        if their_error {
            prop_assert!(our_error.is_some() || ends_in_unfinished_text(&bytes));
        } else {
            prop_assert!(theirs.len() >= ours.len(), "{ours:?} against {theirs:?}");
        }
    }
}

/// Whether the bytes end inside a text message, whose UTF-8 we judge when it is whole.
fn ends_in_unfinished_text(bytes: &[u8]) -> bool {
    let mut decoder = Decoder::new(LIMITS);
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Ok(Some(_)) = decoder.next(&mut bytes, &mut at) {}
    decoder.is_mid_message()
}

#[test]
fn a_server_frame_is_read_by_tungstenite() {
    let frame = websocket::frame::encode_close(CloseCode(4001), "drain");
    let bytes =
        [websocket::frame::encode(websocket::frame::Opcode::Text, &[b"4", "é".as_bytes()]), frame].concat();
    let mut client = tungstenite::WebSocket::from_raw_socket(Wire(Cursor::new(bytes)), Role::Client, None);
    assert_eq!(client.read().unwrap(), tungstenite::Message::Text("4é".into()));
    let tungstenite::Message::Close(Some(close)) = client.read().unwrap() else { panic!("no close frame") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4001, "drain"));
}
