//! Gathers the binary messages that belong to one packet.

use super::{Packet, ParseError};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A binary packet that waits for its attachments.
#[derive(Debug)]
pub struct Attachments {
    text: String,
    expected: usize,
    bytes_left: usize,
    received: Vec<Vec<u8>>,
}

/// Why attachments were refused; each of them ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// Together they are larger than one message may be.
    #[error("the attachments are too big")]
    TooBig,
    /// A placeholder names an attachment that does not exist.
    #[error("a placeholder names no attachment")]
    Placeholder,
}

impl Attachments {
    /// Starts to wait. `text` is the packet's own text, of which `packet` was parsed; `bytes_max` is for all of them together.
    pub fn new(text: &str, packet: &Packet<'_>, bytes_max: usize) -> Result<Self, AttachmentError> {
        if !placeholders_are_below(packet.attachments, packet.data) {
            return Err(AttachmentError::Placeholder);
        }
        Ok(Self {
            text: text.to_owned(),
            expected: packet.attachments,
            bytes_left: bytes_max,
            received: Vec::new(),
        })
    }

    /// Takes one binary message.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), AttachmentError> {
        self.bytes_left = self.bytes_left.checked_sub(bytes.len()).ok_or(AttachmentError::TooBig)?;
        self.received.push(bytes.to_vec());
        Ok(())
    }

    /// Bytes of memory held for what has arrived.
    pub fn held_bytes(&self) -> usize {
        self.received.iter().map(Vec::capacity).sum::<usize>().saturating_add(self.text.capacity())
    }

    /// Whether all have arrived.
    pub fn is_complete(&self) -> bool {
        self.received.len() >= self.expected
    }

    /// The packet they belong to.
    pub fn packet(&self) -> Result<Packet<'_>, ParseError> {
        Packet::parse(&self.text, self.expected)
    }

    /// What has arrived, in order.
    pub fn received(&self) -> &[Vec<u8>] {
        &self.received
    }
}

/// Whether each `{"_placeholder":true,"num":N}` anywhere in `json` has a whole N below `count`. The nesting was limited before.
fn placeholders_are_below(count: usize, json: &str) -> bool {
    match json.trim_start().bytes().next() {
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(json).is_ok_and(|elements| {
            elements.iter().all(|element| placeholders_are_below(count, element.get()))
        }),
        Some(b'{') => {
            let Ok(object) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(json) else {
                return false;
            };
            if object.get("_placeholder").is_some_and(|value| value.get() == "true") {
                let number = object.get("num").and_then(|number| number.get().parse::<usize>().ok());
                return number.is_some_and(|number| number < count);
            }
            object.values().all(|value| placeholders_are_below(count, value.get()))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"52-["m",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;

    #[test]
    fn a_packet_is_complete_with_its_last_attachment() {
        let packet = Packet::parse(TEXT, 10).unwrap();
        let mut attachments = Attachments::new(TEXT, &packet, 10).unwrap();
        attachments.push(&[1, 2]).unwrap();
        assert!(!attachments.is_complete());
        attachments.push(&[3]).unwrap();
        assert!(attachments.is_complete());
        assert_eq!(attachments.packet(), Ok(packet));
        assert_eq!(attachments.received(), [vec![1, 2], vec![3]]);
    }

    #[test]
    fn all_together_are_limited() {
        let packet = Packet::parse(TEXT, 10).unwrap();
        let mut attachments = Attachments::new(TEXT, &packet, 10).unwrap();
        attachments.push(&[0; 6]).unwrap();
        assert_eq!(attachments.push(&[0; 5]), Err(AttachmentError::TooBig));
    }

    #[test]
    fn placeholders_must_name_an_attachment() {
        for number in [r#""splice""#, "-1", "99", "0.5", "1", "null"] {
            let text = format!(r#"51-["m",{{"a":[{{"_placeholder":true,"num":{number}}}]}}]"#);
            let packet = Packet::parse(&text, 10).unwrap();
            assert_eq!(
                Attachments::new(&text, &packet, 10).err(),
                Some(AttachmentError::Placeholder),
                "{number}"
            );
        }
    }
}
