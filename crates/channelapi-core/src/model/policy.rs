//! What is kept of which channels, and how safely.

use super::ChannelName;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// How safely a publication is kept before its publisher is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It survives a power cut.
    Fsync,
    /// It survives the end of the process; a power cut may take the last moments.
    Relaxed,
    /// It lives as long as the process.
    Memory,
}

impl Durability {
    /// Its name in answers and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Relaxed => "relaxed",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of a channel is kept. Whatever is over one of the limits is given up, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Publications.
    pub messages: usize,
    /// Milliseconds since they were published.
    pub age: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

/// The settings of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How safely its publications are kept.
    pub durability: Durability,
    /// How many of them.
    pub retention: Retention,
    /// How many of the newest a client gets that joins without saying where it stands.
    pub replay_on_join: usize,
}

/// The settings of all channels: the first pattern that matches decides.
#[derive(Debug, Clone)]
pub struct Policies {
    patterns: Vec<(Pattern, Policy)>,
    otherwise: Policy,
}

impl Policies {
    /// Settings by pattern, and those of the channels that match none.
    pub fn new(patterns: Vec<(Pattern, Policy)>, otherwise: Policy) -> Self {
        Self { patterns, otherwise }
    }

    /// The settings of a channel.
    pub fn of(&self, channel: &ChannelName) -> Policy {
        let found = self.patterns.iter().find(|(pattern, _)| pattern.matches(channel.as_str()));
        found.map_or(self.otherwise, |(_, policy)| *policy)
    }

    /// A mark of which channels are kept in memory only: two configurations with the same one agree on every channel. 0 if none is.
    pub fn memory_layout(&self) -> u64 {
        let is_in_memory = |policy: &Policy| policy.durability == Durability::Memory;
        let otherwise = is_in_memory(&self.otherwise);
        // Which one matches behind the last pattern for memory is all the same, unless what matches none is kept there, too.
        let last = self.patterns.iter().rposition(|(_, policy)| is_in_memory(policy));
        let deciding = if otherwise { self.patterns.len() } else { last.map_or(0, |last| last + 1) };
        if deciding == 0 && !otherwise {
            return 0;
        }
        let mut hash = Sha256::new();
        for (pattern, policy) in &self.patterns[..deciding] {
            hash.update(pattern.0.as_bytes());
            hash.update([0, u8::from(is_in_memory(policy))]);
        }
        hash.update([u8::from(otherwise)]);
        u64::from_le_bytes(*hash.finalize().first_chunk().expect("a hash is longer")).max(1)
    }
}

/// A pattern of channel names: `*` stands for any run of characters, everything else for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// A pattern. Every text is one.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether a name matches. Takes time in proportion to the lengths of both, multiplied at worst.
    pub fn matches(&self, name: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('*') else {
            return *self.0 == *name;
        };
        let Some(mut name) = name.strip_prefix(start) else {
            return false;
        };
        let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
        // The first place is as good as any later one, because stars take whatever comes.
        for part in middle.split('*').filter(|part| !part.is_empty()) {
            let Some(found) = name.find(part) else {
                return false;
            };
            name = &name[found + part.len()..];
        }
        name.ends_with(end)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        let check = |pattern, name, expected| {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} {name}");
        };
        check("user-*", "user-42", true);
        check("user-*", "user-", true);
        check("user-*", "users-42", false);
        check("*", "anything", true);
        check("a", "a", true);
        check("a", "ab", false);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "abc", true);
        check("a*b*c", "acb", false);
        check("a*a", "a", false);
        check("*-42", "user-42", true);
        check("a*bc*c", "abc", false);
    }

    #[test]
    fn the_first_match_decides() {
        let policy = |replay_on_join| Policy {
            durability: Durability::Fsync,
            retention: Retention { messages: 1, age: 1, bytes: 1 },
            replay_on_join,
        };
        let policies = Policies::new(
            vec![(Pattern::new("user-*"), policy(1)), (Pattern::new("*-42"), policy(2))],
            policy(3),
        );
        let check = |name, expected| {
            assert_eq!(policies.of(&ChannelName::parse(name).unwrap()).replay_on_join, expected, "{name}");
        };
        check("user-42", 1);
        check("order-42", 2);
        check("order-43", 3);
    }

    #[test]
    fn only_what_decides_what_is_kept_in_memory_is_marked() {
        let layout = |patterns: &[(&str, Durability)], otherwise| {
            let policy = |durability, replay_on_join| Policy {
                durability,
                retention: Retention { messages: 1, age: 1, bytes: 1 },
                replay_on_join,
            };
            let pattern = |(place, (text, durability)): (usize, &(&str, Durability))| {
                (Pattern::new(text), policy(*durability, place))
            };
            let patterns = patterns.iter().enumerate().map(pattern).collect();
            Policies::new(patterns, policy(otherwise, 0)).memory_layout()
        };
        let (fsync, relaxed, memory) = (Durability::Fsync, Durability::Relaxed, Durability::Memory);
        assert_eq!(layout(&[], fsync), 0);
        assert_eq!(layout(&[("orders-*", fsync), ("typing-*", relaxed)], relaxed), 0);
        let one = layout(&[("typing-*", memory)], fsync);
        assert_ne!(one, 0);
        assert_eq!(layout(&[("typing-*", memory), ("orders-*", fsync)], relaxed), one, "behind it");
        let different = [
            one,
            layout(&[("typing-*", memory), ("live-*", memory)], fsync),
            layout(&[("typing-1", fsync), ("typing-*", memory)], fsync),
            layout(&[], memory),
            layout(&[("typing-*", memory)], memory),
            layout(&[("orders-*", fsync)], memory),
            layout(&[("orders-*", fsync), ("inbox-*", fsync)], memory),
        ];
        let apart: std::collections::BTreeSet<_> = different.iter().collect();
        assert_eq!(apart.len(), different.len());
        assert_eq!(layout(&[("typing-1", relaxed), ("typing-*", memory)], fsync), different[2]);
    }
}
