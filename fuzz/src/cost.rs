//! What the largest input that a parser is given may cost: more than a moment is an attack on everybody else.
//!
//! These are the shapes that are slow wherever something is looked at again for each byte, bracket or separator. They take
//! milliseconds; with a cost that grows with the square they would take minutes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use channelapi_protocol::engineio::{Request, payload};
use channelapi_protocol::socketio::{Attachments, Packet};
use channelapi_protocol::websocket::{Decoder, Limits};

use crate::api::is_query;
use crate::laws;
use crate::server::{data_of, rewritten_pid};

/// The largest message of a client.
const CLIENT_BYTES: usize = 64 * 1024;
/// The largest body of a publisher.
const PUBLISHER_BYTES: usize = 1024 * 1024;
/// The largest path and query of a request.
const TARGET_BYTES: usize = 8 * 1024;
/// The largest JWKS.
const JWKS_BYTES: usize = 256 * 1024;
/// Claims of the largest JWT, with its header and its signature.
const CLAIMS_BYTES: usize = 6000;
/// Even where nothing is optimized and the machine is busy.
const TIME_MAX: Duration = Duration::from_secs(5);

/// `unit` so often that it fills `bytes`, between a beginning and an end.
fn filled(begin: &str, unit: &str, end: &str, bytes: usize) -> String {
    let room = bytes - begin.len() - end.len();
    format!("{begin}{}{end}", unit.repeat(room / unit.len()))
}

fn takes_a_moment(what: &str, parse: impl FnOnce()) {
    let began = Instant::now();
    parse();
    let took = began.elapsed();
    assert!(took < TIME_MAX, "{what} takes {took:?}");
}

#[test]
fn no_packet_takes_long() {
    let nested = filled(r#"2["x","#, "[1],", "1]", CLIENT_BYTES);
    let placeholders = filled(r#"510-["x","#, r#"{"_placeholder":true,"num":9},"#, "1]", CLIENT_BYTES);
    let deep = format!("[{}1{}],", "[".repeat(29), "]".repeat(29));
    for text in [
        nested,
        placeholders,
        filled(r#"510-["x","#, &deep, "1]", CLIENT_BYTES),
        filled(r#"510-["x",{"#, r#""a":1,"#, r#""b":1}]"#, CLIENT_BYTES),
        filled("2[\"", "\\u0061", "\"]", CLIENT_BYTES),
        filled("2", "9", "[\"x\"]", CLIENT_BYTES),
        filled("5", "9", "-[\"x\"]", CLIENT_BYTES),
        filled("0/", "x", ",{}", CLIENT_BYTES),
        filled("2[\"x\"", " ", "]", CLIENT_BYTES),
    ] {
        takes_a_moment(&text[..20], || {
            if let Ok(packet) = Packet::parse(&text, 10) {
                _ = Attachments::new(&text, &packet, CLIENT_BYTES);
            }
        });
    }
}

#[test]
fn no_polling_request_takes_long() {
    for unit in ["3\x1e", "\x1e", "bAAAA\x1e", "4x"] {
        let body = filled("", unit, "3", CLIENT_BYTES);
        takes_a_moment(unit, || _ = payload::decode(&body, 256).count());
    }
    for unit in ["&", "sid=a&", "x=&", "=", "%"] {
        let query = filled("EIO=4&transport=polling&", unit, "x", 16 * 1024);
        takes_a_moment(unit, || _ = Request::parse(&query).is_ok());
    }
}

/// Each name is another one, as many as find room. One such query takes a moment in any case: these are what a second brings.
#[test]
fn no_query_of_the_api_takes_long() {
    let names: String = (0..TARGET_BYTES).map(|number| format!("{number:x}&")).collect();
    takes_a_moment("names", || {
        for _ in 0..1000 {
            _ = is_query(&names[..TARGET_BYTES]);
        }
    });
    for unit in ["&", "=", "%", "+", "%61", "a=%20"] {
        let query = filled("a=", unit, "x", TARGET_BYTES);
        takes_a_moment(unit, || _ = is_query(&query));
    }
}

#[test]
fn no_stream_of_frames_takes_long() {
    let limits = Limits { message_bytes: CLIENT_BYTES, fragments: 64 };
    let head = [0x81, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let large = [&head[..], &[b'x'; CLIENT_BYTES]].concat();
    let small = [0x81, 0x80, 0, 0, 0, 0].repeat(CLIENT_BYTES / 6);
    for (what, bytes) in [("one frame", large), ("many frames", small)] {
        for piece in [1, 7, 4096] {
            takes_a_moment(&format!("{what} in pieces of {piece}"), || {
                let mut decoder = Decoder::new(limits);
                for piece in bytes.chunks(piece) {
                    let (mut piece, mut at) = (piece.to_vec(), 0);
                    while let Ok(Some(_)) = decoder.next(&mut piece, &mut at) {}
                }
            });
        }
        takes_a_moment(&format!("{what}, kept for later again and again"), || {
            let mut decoder = Decoder::new(limits);
            decoder.keep(&bytes);
            for _ in 0..2000 {
                _ = decoder.next(&mut [], &mut 0);
                decoder.keep(b"");
            }
        });
    }
}

#[test]
fn no_body_of_a_publisher_takes_long() {
    for (begin, unit, end) in [
        (r#"{"message":["#, "[],", "1]}"),
        ("{", r#""message":1,"#, r#""message":2}"#),
        ("{", r#""\u006dessage":1,"#, r#""message":2}"#),
        (r#"{"message":""#, "\\ud800", r#""}"#),
        ("", " ", r#"{"message":1}"#),
    ] {
        let body = Bytes::from(filled(begin, unit, end, PUBLISHER_BYTES));
        takes_a_moment(begin, || assert!(data_of(&body).is_some(), "{begin}{unit}{end}"));
    }
    takes_a_moment("a pid", || assert_eq!(rewritten_pid(&"A".repeat(CLIENT_BYTES)), None));
}

#[test]
fn no_jwt_takes_long() {
    for (begin, unit, end) in [
        ("{", r#""a":1,"#, r#""b":1}"#),
        (r#"{"channels":["#, r#""a","#, r#""b"]}"#),
        (r#"{"aud":["#, r#""a","#, r#""push"]}"#),
        (r#"{"iss":""#, "\\u0061", r#""}"#),
        ("", "[", ""),
        ("", " ", "{}"),
    ] {
        let claims = filled(begin, unit, end, CLAIMS_BYTES);
        let signed = [br#"{"alg":"HS256"}"#, &b"\n"[..], claims.as_bytes()].concat();
        takes_a_moment(begin, || assert!(!laws::jwt_claims(&signed), "{claims}"));
    }
    for unit in [".", "e30.", "A"] {
        let text = filled("", unit, "e30", CLIENT_BYTES);
        takes_a_moment(unit, || assert!(!laws::jwt(text.as_bytes())));
    }
}

#[test]
fn no_jwks_takes_long() {
    for (begin, unit, end) in [
        (r#"{"keys":["#, "[],", "1]}"),
        (r#"{"keys":["#, r#"{"kty":"RSA"},"#, "1]}"),
        (r#"{"keys":[{"kty":"RSA","e":"AQAB","n":""#, "A", r#""}]}"#),
        ("{", r#""a":1,"#, r#""keys":[]}"#),
    ] {
        let text = filled(begin, unit, end, JWKS_BYTES);
        takes_a_moment(begin, || assert!(!laws::jwks(text.as_bytes()), "{begin}"));
    }
    // A modulus that is taken as it is, and the largest that there is room for.
    let large = filled(r#"{"keys":[{"kty":"RSA","kid":"1","e":"AQAB","n":""#, "_", r#""}]}"#, JWKS_BYTES);
    takes_a_moment("a large modulus", || _ = laws::jwks(large.as_bytes()));
}
