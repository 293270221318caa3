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
    /// Its text. Every publisher gets one with its answer, so it is not left to the formatting machinery.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(TEXT_CHARS_MAX);
        push_hex(&mut text, self.epoch, EPOCH_CHARS);
        text.push('-');
        push_decimal(&mut text, self.offset);
        text.push('-');
        push_hex(&mut text, self.tag.into(), TAG_CHARS);
        text
    }

    /// The epoch in the text of a position.
    pub fn epoch_of(text: &str) -> &str {
        text.split_once('-').map_or(text, |(epoch, _)| epoch)
    }
}

/// The lowest digits of a number.
fn push_hex(text: &mut String, number: u64, digits: usize) {
    for digit in (0..digits).rev() {
        let nibble = (number >> (4 * digit)) & 0xF;
        text.push(char::from(b"0123456789abcdef"[nibble as usize]));
    }
}

fn push_decimal(text: &mut String, mut number: u64) {
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
    text.extend(digits[start..].iter().copied().map(char::from));
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
        assert_eq!(Position::epoch_of(&position.to_text()), "0123456789abcdef");
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
