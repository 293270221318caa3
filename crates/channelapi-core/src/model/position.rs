//! Where one channel stands: which history, which place in it, and a mark of what is there.

use std::fmt;
use std::str::FromStr;

/// A place in a channel's history. As text it is the publication's id: `<epoch>-<offset>-<tag>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The history. It changes whenever continuity cannot be proven.
    pub epoch: u64,
    /// The place in it, from 1 on, without holes.
    pub offset: u64,
    /// Derived from the publication at this place, so that another one under the same epoch and offset is noticed.
    pub tag: u32,
}

/// The longest text of a position: an epoch, an offset, a tag, and the dashes between them.
const TEXT_CHARS_MAX: usize = EPOCH_CHARS + 1 + 20 + 1 + TAG_CHARS;
const EPOCH_CHARS: usize = 16;
const TAG_CHARS: usize = 8;

impl Position {
    /// Its text.
    pub fn to_text(&self) -> String {
        let mut text = Vec::with_capacity(TEXT_CHARS_MAX);
        self.write(&mut text);
        String::from_utf8(text).expect("it is ASCII")
    }

    /// Appends its text. Every publisher gets one with its answer, so it is not left to the formatting machinery.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_epoch(out);
        out.push(b'-');
        write_decimal(self.offset, out);
        out.push(b'-');
        out.extend_from_slice(&hex::<TAG_CHARS>(self.tag.into()));
    }

    /// Appends the epoch, as it is in the text of a position.
    pub fn write_epoch(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&hex::<EPOCH_CHARS>(self.epoch));
    }

    /// Appends the offset, as it is in the text of a position.
    pub fn write_offset(&self, out: &mut Vec<u8>) {
        write_decimal(self.offset, out);
    }
}

/// The lowest digits of a number.
fn hex<const DIGITS: usize>(number: u64) -> [u8; DIGITS] {
    let mut text = [0; DIGITS];
    let mut rest = number;
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest & 0xF) as usize];
        rest >>= 4;
    }
    text
}

fn write_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// A text is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no message id")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut parts = text.split('-');
        let (Some(epoch), Some(offset), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PositionError);
        };
        let position = Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| PositionError)?,
            offset: offset.parse().map_err(|_| PositionError)?,
            tag: u32::from_str_radix(tag, 16).map_err(|_| PositionError)?,
        };
        // One position has one text: no signs, no other digits.
        if position.to_string() == text { Ok(position) } else { Err(PositionError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text_and_nothing_else_is_one() {
        let position = Position { epoch: 0x0123_4567_89AB_CDEF, offset: 42, tag: 7 };
        assert_eq!(position.to_string(), "0123456789abcdef-42-00000007");
        assert_eq!(position.to_string().parse(), Ok(position));
        let mut written = Vec::new();
        position.write_epoch(&mut written);
        position.write_offset(&mut written);
        assert_eq!(written, b"0123456789abcdef42");
        for (offset, tag) in [(0, 0), (9, 1), (10, u32::MAX), (u64::MAX, 0x0BCD_EF01)] {
            let position = Position { epoch: u64::MAX - offset, offset, tag };
            let expected = format!("{:016x}-{offset}-{tag:08x}", position.epoch);
            assert_eq!(position.to_text(), expected);
        }
        for text in [
            "",
            "1-2-3",
            "0123456789abcdef-42",
            "0123456789ABCDEF-42-00000007",
            "0123456789abcdef-+42-00000007",
            "0123456789abcdef-042-00000007",
            "0123456789abcdef-42-00000007-",
        ] {
            assert_eq!(text.parse::<Position>(), Err(PositionError), "{text}");
        }
    }
}
