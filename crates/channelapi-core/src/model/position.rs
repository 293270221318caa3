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

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{:08x}", self.epoch, self.offset, self.tag)
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
