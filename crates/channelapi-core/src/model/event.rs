//! The name of the event that a publication arrives as.

use crate::limits::EVENT_NAME_BYTES_MAX;
use std::fmt;
use std::sync::Arc;

/// The name of an event: `message` unless the publisher chose another.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EventName(Option<Arc<str>>);

/// Why a text is no name for an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventNameError {
    /// There is no name.
    #[error("the event's name is empty")]
    Empty,
    /// The name is over the limit.
    #[error("the event's name is {0} bytes, the limit is {EVENT_NAME_BYTES_MAX}")]
    TooLong(usize),
    /// The name holds a control character.
    #[error("the event's name holds the control character U+{0:04X}")]
    Control(u32),
    /// Clients or this server use the name for something else.
    #[error("the event's name `{0}` is reserved")]
    Reserved(String),
}

/// What an event is called unless somebody says otherwise.
const MESSAGE: &str = "message";

/// Names that stock clients refuse or act upon, and those of this server's own events.
const RESERVED: [&str; 13] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "error",
    "clientevent",
    "checkpoint",
    "gap",
    "join_channel",
    "ack",
    "auth",
];

impl EventName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, EventNameError> {
        if name.is_empty() {
            return Err(EventNameError::Empty);
        }
        if name.len() > EVENT_NAME_BYTES_MAX {
            return Err(EventNameError::TooLong(name.len()));
        }
        if let Some(control) = name.chars().find(|character| character.is_control()) {
            return Err(EventNameError::Control(control.into()));
        }
        if RESERVED.contains(&name) {
            return Err(EventNameError::Reserved(name.to_owned()));
        }
        Ok(Self((name != MESSAGE).then(|| name.into())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(MESSAGE)
    }

    /// Whether it is `message`.
    pub fn is_message(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_the_usual_one_costs_nothing() {
        assert_eq!(EventName::parse("message").unwrap(), EventName::default());
        assert_eq!(EventName::parse("order placed").unwrap().as_str(), "order placed");
        assert!(!EventName::parse("Message").unwrap().is_message());
        let check = |name: &str, expected| assert_eq!(EventName::parse(name), Err(expected));
        check("", EventNameError::Empty);
        check(&"x".repeat(65), EventNameError::TooLong(65));
        check("a\nb", EventNameError::Control(0x0A));
        check("checkpoint", EventNameError::Reserved("checkpoint".into()));
    }
}
