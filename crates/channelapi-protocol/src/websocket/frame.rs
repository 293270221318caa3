//! Frames of a server: never masked, never fragmented, so their bytes are the same for every client.
//!
//! The client's half is here too, for our own: it reads such frames and masks what it sends.

use super::code::CloseCode;
use super::error::DecodeError;
use super::mask;

/// The kind of a frame (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next part of a fragmented message.
    Continuation = 0x0,
    /// UTF-8 text.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// The last frame of a direction.
    Close = 0x8,
    /// A sign of life that asks for an answer.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xA,
}

impl Opcode {
    /// Reads the low four bits of a frame's first byte; `None` for the reserved ones.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    /// Control frames are short, never fragmented, and may stand between the fragments of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The longest header of an unmasked frame.
pub const HEADER_BYTES_MAX: usize = 10;

/// The bit of a frame's second byte that says that a mask follows the length.
const MASKED: u8 = 0x80;

/// The longest payload of a control frame.
pub const CONTROL_BYTES_MAX: usize = 125;

/// Appends the header of an unmasked, unfragmented frame with a payload of `length` bytes.
pub fn write_header(opcode: Opcode, length: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    if let Ok(short @ 0..=125) = u8::try_from(length) {
        out.push(short);
    } else if let Ok(medium) = u16::try_from(length) {
        out.push(126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

/// A whole frame whose payload is made of `parts`, one after the other.
pub fn encode(opcode: Opcode, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
    let mut out = Vec::with_capacity(length.saturating_add(HEADER_BYTES_MAX));
    write_header(opcode, length, &mut out);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// The same frame as a client sends it, masked with `key`.
pub fn encode_masked(opcode: Opcode, parts: &[&[u8]], key: [u8; 4]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
    let mut out = Vec::with_capacity(length.saturating_add(HEADER_BYTES_MAX).saturating_add(key.len()));
    write_header(opcode, length, &mut out);
    if let Some(second) = out.get_mut(1) {
        *second |= MASKED;
    }
    out.extend_from_slice(&key);
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    mask(out.get_mut(start..).unwrap_or_default(), key);
    out
}

/// A close frame. The reason is cut to fit into a control frame, at a character's border.
pub fn encode_close(code: CloseCode, reason: &str) -> Vec<u8> {
    let longest = CONTROL_BYTES_MAX.saturating_sub(size_of::<u16>());
    let reason = reason.get(..reason.floor_char_boundary(longest)).unwrap_or_default();
    encode(Opcode::Close, &[&code.0.to_be_bytes(), reason.as_bytes()])
}

/// Where the payload of an unmasked frame begins and how long it is, read from its first bytes.
pub fn payload_span(frame: &[u8]) -> Option<(usize, usize)> {
    let &[_, short, ref rest @ ..] = frame else { return None };
    match short {
        127 => Some((10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?)),
        126 => Some((4, usize::from(u16::from_be_bytes(*rest.first_chunk()?)))),
        short => Some((2, usize::from(short))),
    }
}

/// A frame of a server that has arrived as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// Its kind.
    pub opcode: Opcode,
    /// What it carries.
    pub payload: &'a [u8],
    /// Its bytes, those of the header among them.
    pub bytes: usize,
}

/// Reads the frame of a server at the beginning of `bytes`; `None` if not all of it is there.
///
/// It takes what [`encode`] writes and nothing else. A frame is judged by its header, before its payload has come.
pub fn decode(bytes: &[u8], payload_bytes_max: usize) -> Result<Option<Received<'_>>, DecodeError> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    if first & 0xF0 != 0x80 {
        return Err(DecodeError::Protocol("a frame of a server is a fragment, or has a reserved bit set"));
    }
    let Some(opcode) = Opcode::from_bits(first & 0x0F) else {
        return Err(DecodeError::Protocol("the opcode is reserved"));
    };
    if second & MASKED != 0 {
        return Err(DecodeError::Protocol("a frame of a server is masked"));
    }
    let Some((start, length)) = payload_span(bytes) else { return Ok(None) };
    let shortest = match length {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => HEADER_BYTES_MAX,
    };
    if start != shortest {
        return Err(DecodeError::Protocol("a length is not in its shortest form"));
    }
    if opcode.is_control() && length > CONTROL_BYTES_MAX {
        return Err(DecodeError::Protocol("a control frame is longer than 125 bytes"));
    }
    if length > payload_bytes_max {
        return Err(DecodeError::TooBig);
    }
    let end = start.saturating_add(length);
    Ok(bytes.get(start..end).map(|payload| Received { opcode, payload, bytes: end }))
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, Limits, Message};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_uses_the_shortest_length() {
        for (length, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xFF, 0xFF]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_header(Opcode::Text, length, &mut out);
            assert_eq!(out, header, "length {length}");
            assert_eq!(payload_span(&out), Some((header.len(), length)));
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = encode_close(CloseCode(4001), &"é".repeat(100));
        assert_eq!(frame[1], 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }

    #[test]
    fn what_no_server_of_ours_sends_is_refused() {
        for (bytes, reason) in [
            (&[0x01, 0x01, b'a'][..], "a fragment"),
            (&[0xC1, 0x00], "a reserved bit"),
            (&[0x83, 0x00], "reserved"),
            (&[0x81, 0x80, 0, 0, 0, 0], "is masked"),
            (&[0x81, 126, 0, 125], "shortest form"),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], "shortest form"),
            (&[0x89, 126, 0, 126], "125 bytes"),
        ] {
            let error = decode(bytes, 1 << 20).unwrap_err().to_string();
            assert!(error.contains(reason), "{bytes:02x?}: {error}");
        }
        let long = [0x81, 127, 0, 0, 0, 0, 0, 0x10, 0, 1];
        assert_eq!(decode(&long, 1 << 20), Err(DecodeError::TooBig), "before its payload has come");
    }

    proptest! {
        #[test]
        fn a_client_reads_what_a_server_sends_once_it_is_there(
            length in prop_oneof![0..300_usize, 65_530..65_540_usize],
            is_binary: bool,
            behind: Vec<u8>,
            place in any::<prop::sample::Index>(),
        ) {
            let opcode = if is_binary { Opcode::Binary } else { Opcode::Text };
            let payload = vec![b'x'; length];
            let (head, tail) = payload.split_at(length / 3);
            let mut bytes = encode(opcode, &[head, tail]);
            let whole = bytes.len();
            prop_assert_eq!(decode(&bytes[..place.index(whole)], length), Ok(None));
            bytes.extend(behind);
            prop_assert_eq!(decode(&bytes, length), Ok(Some(Received { opcode, payload: &payload, bytes: whole })));
            let is_too_long = length > 0 && decode(&bytes, length - 1) == Err(DecodeError::TooBig);
            prop_assert!(length == 0 || is_too_long);
        }

        #[test]
        fn a_server_reads_what_a_client_sends(
            length in prop_oneof![0..300_usize, 65_530..65_540_usize],
            key: [u8; 4],
        ) {
            let payload = "y".repeat(length);
            let (head, tail) = payload.split_at(length / 3);
            let mut frame = encode_masked(Opcode::Text, &[head.as_bytes(), tail.as_bytes()], key);
            let (mut decoder, mut at) = (Decoder::new(Limits { message_bytes: length, fragments: 1 }), 0);
            prop_assert_eq!(decoder.next(&mut frame, &mut at), Ok(Some(Message::Text(&payload))));
            prop_assert_eq!(at, frame.len());
        }
    }
}
