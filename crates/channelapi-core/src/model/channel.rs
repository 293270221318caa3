//! The name of a channel: opaque text, compared byte for byte.

use crate::limits::CHANNEL_NAME_BYTES_MAX;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A channel's name: 1 to 255 bytes of UTF-8 without characters that nobody sees. It may hold `/`; it is never a path.
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
        check_length(name)?;
        let is_plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        match if is_plain { None } else { hidden_in(name) } {
            Some(character) => Err(ChannelNameError::Invisible(character.into())),
            None => Ok(Self(name.into())),
        }
    }

    /// A name as it may have been stored. What is a name has become less over time, and what a version once took stays where it is
    /// kept, and goes to whoever is in that channel.
    pub(crate) fn stored(name: &str) -> Result<Self, ChannelNameError> {
        check_length(name)?;
        match name.chars().find(|character| character.is_control()) {
            Some(control) => Err(ChannelNameError::Invisible(control.into())),
            None => Ok(Self(name.into())),
        }
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

fn check_length(name: &str) -> Result<(), ChannelNameError> {
    match name.len() {
        0 => Err(ChannelNameError::Empty),
        1..=CHANNEL_NAME_BYTES_MAX => Ok(()),
        bytes => Err(ChannelNameError::TooLong(bytes)),
    }
}

/// The first character of a name that hides in it. Joiners, and what chooses between text and emoji, are what words of several
/// languages and many emoji are written with: they hide only at the beginning, and behind ASCII, which joins with nothing.
fn hidden_in(name: &str) -> Option<char> {
    let mut before = ' ';
    name.chars().find(|&character| {
        let joins =
            matches!(character, '\u{200C}' | '\u{200D}' | '\u{FE0E}' | '\u{FE0F}') && !before.is_ascii();
        before = character;
        is_invisible(character) && !joins
    })
}

/// Controls, what breaks lines, and what Unicode calls `Default_Ignorable_Code_Point`: marks that reorder, join, choose or do nothing,
/// and places that are kept for more of them (`DerivedCoreProperties.txt` of Unicode 16.0). Besides, the blanks and annotations that are
/// drawn as nothing and are not among these.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{2800}' | '\u{FFF9}'..='\u{FFFB}')
        || matches!(
            character,
            '\u{AD}'
                | '\u{34F}'
                | '\u{61C}'
                | '\u{115F}'..='\u{1160}'
                | '\u{17B4}'..='\u{17B5}'
                | '\u{180B}'..='\u{180F}'
                | '\u{200B}'..='\u{200F}'
                | '\u{202A}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{3164}'
                | '\u{FE00}'..='\u{FE0F}'
                | '\u{FEFF}'
                | '\u{FFA0}'
                | '\u{FFF0}'..='\u{FFF8}'
                | '\u{1BCA0}'..='\u{1BCA3}'
                | '\u{1D173}'..='\u{1D17A}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
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
        let ignorable = [
            0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x180B, 0x180F, 0x200B, 0x200E, 0x202A, 0x2060,
            0x2065, 0x206F, 0x3164, 0xFE00, 0xFE0D, 0xFEFF, 0xFFA0, 0xFFF0, 0x1BCA0, 0x1D173, 0xE0001,
            0xE0020, 0xE007F, 0xE01EF, 0xE0FFF,
        ];
        for code in ignorable.into_iter().chain([0x85, 0x2028, 0x2029, 0x2800, 0xFFF9, 0xFFFB]) {
            let hidden = char::from_u32(code).unwrap();
            for name in [format!("a{hidden}b"), format!("頻{hidden}"), hidden.to_string()] {
                check(name.as_bytes(), ChannelNameError::Invisible(code));
            }
        }
        // The neighbours of what is refused are seen, or are spaces.
        for code in
            [0xA0, 0xAE, 0x61B, 0x61D, 0x1161, 0x180A, 0x200A, 0x2010, 0x202F, 0x2070, 0x2801, 0xFE10, 0xFFFC]
        {
            let name = format!("a{}", char::from_u32(code).unwrap());
            assert_eq!(ChannelName::parse(&name).map(|name| name.to_string()), Ok(name));
        }
    }

    #[test]
    fn joiners_join_and_do_not_hide() {
        for name in ["می\u{200C}خواهم", "क्\u{200D}ष", "❤\u{FE0F}\u{200D}🔥", "user-👩\u{200D}🚀", "☎\u{FE0E}"]
        {
            assert_eq!(ChannelName::parse(name).unwrap().as_str(), name);
        }
        for joiner in ['\u{200C}', '\u{200D}', '\u{FE0E}', '\u{FE0F}'] {
            for name in [
                format!("{joiner}"),
                format!("user{joiner}-1"),
                format!("頻1{joiner}"),
                format!("頻-{joiner}道"),
            ] {
                assert_eq!(
                    ChannelName::parse(&name),
                    Err(ChannelNameError::Invisible(joiner.into())),
                    "{name:?}"
                );
            }
        }
    }

    #[test]
    fn what_was_a_name_once_is_one_where_it_is_stored() {
        for name in ["a\u{61C}b", "a\u{200D}", "\u{E0001}", "\u{3164}", "a\u{AD}", "頻道", "a"] {
            assert_eq!(ChannelName::stored(name).unwrap().as_str(), name);
        }
        for name in ["", "a\0", "\u{85}", &"x".repeat(256)] {
            assert_eq!(ChannelName::stored(name), ChannelName::parse(name), "no version took it");
            assert!(ChannelName::stored(name).is_err());
        }
    }
}
