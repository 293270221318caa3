//! Where a client stands over all channels of this server's log, as text of a constant size.
//!
//! ```text
//! ca1. | base64url of: 21 bytes that the broker can read
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;

/// A place in the order in which this server stores publications. What it says only the broker can read that gave it out: a client that
/// could would know how much is published in channels that are none of its business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor([u8; CURSOR_BYTES]);

/// Where a client stands, as it is told, and as it says when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// It has everything up to here of the channels it is in.
    pub cursor: Cursor,
    /// It was in other channels, too, which it has left since. Of those the cursor says nothing.
    pub has_left: bool,
}

/// A text does not have the form of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not have the form of a cursor")]
pub struct CursorError;

/// What every cursor begins with; the digit is its format.
const PREFIX: &str = "ca1.";

/// What a checkpoint begins with whose client has left a channel.
const LEFT_PREFIX: &str = "cl1.";

/// The digits of base64url (RFC 4648 §5).
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters of a cursor.
pub const CURSOR_CHARS: usize = PREFIX.len() + CURSOR_BYTES.div_ceil(3) * 4;

/// Bytes of a cursor that is no text.
pub const CURSOR_BYTES: usize = 21;

impl Cursor {
    /// What is in it.
    pub fn to_bytes(self) -> [u8; CURSOR_BYTES] {
        self.0
    }

    /// The cursor with this in it.
    pub fn from_bytes(bytes: [u8; CURSOR_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its text.
    pub fn encode(&self) -> [u8; CURSOR_CHARS] {
        self.encode_behind(PREFIX)
    }

    fn encode_behind(&self, prefix: &str) -> [u8; CURSOR_CHARS] {
        let mut text = [0; CURSOR_CHARS];
        text[..PREFIX.len()].copy_from_slice(prefix.as_bytes());
        // Every publisher gets one with its answer: three bytes are four characters, and nothing is left over.
        let (triples, []) = self.0.as_chunks::<3>() else { unreachable!("21 bytes are 7 times 3") };
        let (quads, _) = text[PREFIX.len()..].as_chunks_mut::<4>();
        for (quad, [high, middle, low]) in quads.iter_mut().zip(triples) {
            let bits = u32::from_be_bytes([0, *high, *middle, *low]);
            *quad = [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 0x3F) as usize]);
        }
        text
    }

    fn decode(text: &str) -> Result<Self, CursorError> {
        let mut bytes = [0; CURSOR_BYTES];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(CURSOR_BYTES) => Ok(Self(bytes)),
            _ => Err(CursorError),
        }
    }
}

impl Cursor {
    /// What [`Cursor::encode`] made, as text.
    pub fn text(encoded: &[u8; CURSOR_CHARS]) -> &str {
        std::str::from_utf8(encoded).expect("it is ASCII")
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::text(&self.encode()))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        Self::decode(text.strip_prefix(PREFIX).ok_or(CursorError)?)
    }
}

impl Checkpoint {
    /// Its text.
    pub fn encode(&self) -> [u8; CURSOR_CHARS] {
        self.cursor.encode_behind(if self.has_left { LEFT_PREFIX } else { PREFIX })
    }
}

impl FromStr for Checkpoint {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        match text.strip_prefix(LEFT_PREFIX) {
            Some(cursor) => Ok(Self { cursor: Cursor::decode(cursor)?, has_left: true }),
            None => Ok(Self { cursor: text.parse()?, has_left: false }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(bytes: [u8; CURSOR_BYTES]) {
            let cursor = Cursor(bytes);
            let text = cursor.to_string();
            prop_assert_eq!(text.len(), 32);
            prop_assert_eq!(text.parse(), Ok(cursor));
        }

        #[test]
        fn a_checkpoint_says_whether_a_channel_was_left(bytes: [u8; CURSOR_BYTES], has_left: bool) {
            let checkpoint = Checkpoint { cursor: Cursor(bytes), has_left };
            let text = String::from_utf8(checkpoint.encode().to_vec()).unwrap();
            prop_assert_eq!(text.parse(), Ok(checkpoint));
            prop_assert_eq!(text.parse(), if has_left { Err(CursorError) } else { Ok(checkpoint.cursor) });
        }

        #[test]
        fn other_text_is_no_cursor(text in ".{0,40}") {
            prop_assert_eq!(text.parse::<Cursor>(), Err(CursorError));
            prop_assert_eq!(text.parse::<Checkpoint>(), Err(CursorError));
        }
    }
}
