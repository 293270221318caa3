//! Patterns of channel names, as policies are written for.
//!
//! The core takes every text for a pattern; here those are refused that cannot match any channel.

use channelapi_core::model::{ChannelName, Pattern};

use super::value::{Shape, Value};

/// A pattern of channel names that some channel can match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches every name that the other one matches.
    pub fn covers(&self, other: &Self) -> bool {
        // No name holds NUL, so only a star can take what the stars of the other one stand for.
        !other.0.is_empty() && Pattern::new(&self.0).matches(&other.0.replace('*', "\0"))
    }
}

impl Value for NamePattern {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "PATTERN";
    const ACCEPTS: &'static str = "the name of a channel, in which `*` stands for any run of characters";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the pattern is empty; write one, such as user-*, or * for all channels".to_owned());
        }
        // The stars may stand for nothing, or for something that what follows joins with.
        let shortest = ChannelName::parse(&text.replace('*', ""));
        match shortest.or_else(|why| ChannelName::parse(&text.replace('*', "頻")).map_err(|_| why)) {
            Err(why) if !text.chars().all(|character| character == '*') => {
                Err(format!("`{}` matches no channel: {why}", text.escape_debug()))
            }
            _ => Ok(Self(text.to_owned())),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    /// Matches nothing: it stands in for a pattern that is missing or wrong, which is a problem of its own.
    fn from_default(_: Option<&str>) -> Self {
        Self(String::new())
    }
}

/// Patterns of channel names, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPatterns(Vec<NamePattern>);

impl ChannelPatterns {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(NamePattern::as_str)
    }

    /// Whether there is one among them that matches every name.
    pub fn is_everything(&self) -> bool {
        self.iter().any(|pattern| !pattern.is_empty() && pattern.chars().all(|character| character == '*'))
    }
}

impl Value for ChannelPatterns {
    const SHAPE: Shape = Shape::Lines;
    const PLACEHOLDER: &'static str = "PATTERNS";
    const ACCEPTS: &'static str =
        "a list of names of channels, in which `*` stands for any run of characters";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(
                "the list holds nothing, or an empty pattern, and so no channel; write patterns, such as user-*, or leave it out for \
                 every channel"
                    .to_owned(),
            );
        }
        text.split('\n').map(NamePattern::parse).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> String {
        self.iter().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_no_channel_can_match_is_refused() {
        let long = "x".repeat(256);
        for (pattern, expected) in [
            (
                "user-*\u{1b}",
                r"`user-*\u{1b}` matches no channel: channel name holds the invisible character U+001B"
                    .to_owned(),
            ),
            (
                "a\u{200d}*",
                r"`a\u{200d}*` matches no channel: channel name holds the invisible character U+200D"
                    .to_owned(),
            ),
            (&*long, format!("`{long}` matches no channel: channel name is 256 bytes, the limit is 255")),
        ] {
            assert_eq!(NamePattern::parse(pattern), Err(expected));
        }
        for pattern in ["*", "**", "a", "*a*", "*\u{200d}a", &long[1..], &format!("{}*", &long[1..])] {
            assert_eq!(NamePattern::parse(pattern).map(|pattern| pattern.show()).as_deref(), Ok(pattern));
        }
    }

    #[test]
    fn a_pattern_covers_those_that_match_nothing_else() {
        let pattern = |text| NamePattern::parse(text).unwrap();
        for (wide, narrow) in [
            ("*", "a"),
            ("*", "a*b"),
            ("a*", "a"),
            ("a*c", "ab*c"),
            ("*b*", "a*b"),
            ("**", "*"),
            ("*", "**"),
            ("a", "a"),
        ] {
            assert!(pattern(wide).covers(&pattern(narrow)), "{wide} {narrow}");
        }
        for (one, other) in [
            ("a", "*"),
            ("a*b", "*"),
            ("a*", "*b"),
            ("a*b", "a*"),
            ("user-*", "users-*"),
            ("*a*", "*"),
            ("a*a", "a"),
        ] {
            assert!(!pattern(one).covers(&pattern(other)), "{one} {other}");
        }
        let missing = NamePattern::from_default(None);
        assert!(!pattern("*").covers(&missing) && !missing.covers(&pattern("*")), "a problem of its own");
    }
}
