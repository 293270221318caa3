//! The name of a channel: opaque text, compared byte for byte.

use crate::limits::CHANNEL_NAME_BYTES_MAX;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A channel's name: 1 to 255 bytes of UTF-8 without control characters. It may hold `/`; it is never a path.
///
/// Two names are the same only if their bytes are: no case is folded, no Unicode form is normalized.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is no channel name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelNameError {
    /// There is no name.
    #[error("channel name is empty")]
    Empty,
    /// The name is over the limit.
    #[error("channel name is {0} bytes, the limit is {CHANNEL_NAME_BYTES_MAX}")]
    TooLong(usize),
    /// The name is not text.
    #[error("channel name is not UTF-8")]
    NotUtf8,
    /// The name holds a character that people cannot see but machines obey.
    #[error("channel name holds the invisible character U+{0:04X}")]
    Invisible(u32),
}

impl ChannelName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, ChannelNameError> {
        if name.is_empty() {
            return Err(ChannelNameError::Empty);
        }
        if name.len() > CHANNEL_NAME_BYTES_MAX {
            return Err(ChannelNameError::TooLong(name.len()));
        }
        let is_plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_plain && let Some(character) = name.chars().find(|&character| is_invisible(character)) {
            return Err(ChannelNameError::Invisible(character.into()));
        }
        Ok(Self(name.into()))
    }

    /// Checks a name that may not even be text.
    pub fn parse_bytes(name: &[u8]) -> Result<Self, ChannelNameError> {
        std::str::from_utf8(name).map_err(|_| ChannelNameError::NotUtf8).and_then(Self::parse)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Controls, and marks that reorder or hide text so that two names look the same. The joiners U+200C and U+200D stay: words
/// of several languages and many emoji are written with them.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// Names are looked up by their text: they are equal and hashed as it is.
impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_they_are() {
        for name in ["a", "user/42", "Ünïcode 頻道", "👨‍👩‍👧", "../../etc/passwd", "a b?&#%", &"x".repeat(255)]
        {
            assert_eq!(ChannelName::parse(name).unwrap().as_str(), name);
        }
        assert_ne!(ChannelName::parse("é"), ChannelName::parse("e\u{301}"));
    }

    #[test]
    fn what_nobody_can_see_is_refused() {
        let check = |name: &[u8], expected| assert_eq!(ChannelName::parse_bytes(name), Err(expected));
        check(b"", ChannelNameError::Empty);
        check(&[b'x'; 256], ChannelNameError::TooLong(256));
        check(b"\xC0\xAE", ChannelNameError::NotUtf8);
        check(b"a\r\nX: 1", ChannelNameError::Invisible(0x0D));
        check(b"\0", ChannelNameError::Invisible(0));
        check("a\u{202E}b".as_bytes(), ChannelNameError::Invisible(0x202E));
        check("a\u{200B}b".as_bytes(), ChannelNameError::Invisible(0x200B));
    }
}
