//! Who reads a channel: the name under which a client's progress is kept.

use crate::limits::CONSUMER_NAME_BYTES_MAX;
use std::fmt;
use std::sync::Arc;

/// The name of a consumer of a channel: `default` unless the client chose another. Connections that use the same name share one
/// position.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerName(Arc<str>);

/// Why a text is no name for a consumer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerNameError {
    /// There is no name.
    #[error("the consumer's name is empty")]
    Empty,
    /// The name is over the limit.
    #[error("the consumer's name is {0} bytes, the limit is {CONSUMER_NAME_BYTES_MAX}")]
    TooLong(usize),
    /// The name holds a control character.
    #[error("the consumer's name holds the control character U+{0:04X}")]
    Control(u32),
}

impl ConsumerName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, ConsumerNameError> {
        if name.is_empty() {
            return Err(ConsumerNameError::Empty);
        }
        if name.len() > CONSUMER_NAME_BYTES_MAX {
            return Err(ConsumerNameError::TooLong(name.len()));
        }
        if let Some(control) = name.chars().find(|character| character.is_control()) {
            return Err(ConsumerNameError::Control(control.into()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ConsumerName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_there_is_a_usual_one() {
        assert_eq!(ConsumerName::parse("default").unwrap(), ConsumerName::default());
        for name in ["phone", "Ünïcode 頻道/2", &"x".repeat(128)] {
            assert_eq!(ConsumerName::parse(name).unwrap().as_str(), name);
        }
        let check = |name: &str, expected| assert_eq!(ConsumerName::parse(name), Err(expected));
        check("", ConsumerNameError::Empty);
        check(&"x".repeat(129), ConsumerNameError::TooLong(129));
        check("a\0", ConsumerNameError::Control(0));
    }
}
