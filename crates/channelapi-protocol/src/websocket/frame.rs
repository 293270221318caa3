//! Frames of a server: never masked, never fragmented, so their bytes are the same for every client.

use super::CloseCode;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
