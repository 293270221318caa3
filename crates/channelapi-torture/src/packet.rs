//! Socket.IO packets as far as a client of one server meets them, and the data that publishers and clients agree on.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::history::{ChannelId, MessageId};

#[derive(Debug, PartialEq)]
pub(crate) enum Packet {
    Connected {
        pid: Option<String>,
    },
    /// The server sends the client away for good.
    SentAway,
    Refused(Value),
    /// Name and arguments.
    Event(Vec<Value>),
    Ack {
        id: u64,
        arguments: Vec<Value>,
    },
}

impl Packet {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let unusable = || format!("the server sent {text:?}");
        let rest = text.get(1..).with_context(unusable)?;
        Ok(match &text[..1] {
            "0" => {
                let answer: Value = serde_json::from_str(rest).with_context(unusable)?;
                Self::Connected { pid: answer["pid"].as_str().map(str::to_owned) }
            }
            "1" => Self::SentAway,
            "2" => Self::Event(serde_json::from_str(rest).with_context(unusable)?),
            "3" => {
                let start = rest.find('[').with_context(unusable)?;
                let id = rest[..start].parse().with_context(unusable)?;
                Self::Ack { id, arguments: serde_json::from_str(&rest[start..]).with_context(unusable)? }
            }
            "4" => Self::Refused(serde_json::from_str(rest).with_context(unusable)?),
            _ => bail!(unusable()),
        })
    }
}

/// What is published: as a bare string, which a stock client takes for a cursor if it comes last, or as an object.
pub(crate) fn data(id: MessageId, channel: ChannelId, bare: bool, padding: usize) -> Value {
    let text = format!("{id} c{}", channel.0);
    if bare { text.into() } else { json!({ "is": text, "padding": "x".repeat(padding) }) }
}

pub(crate) fn parse_data(data: &Value) -> Option<(MessageId, ChannelId)> {
    let text = data.as_str().or_else(|| data["is"].as_str())?;
    let (id, channel) = text.split_once(' ')?;
    Some((MessageId::parse(id)?, ChannelId(channel.strip_prefix('c')?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart() {
        let check = |text: &str, expected: Packet| assert_eq!(Packet::parse(text).unwrap(), expected);
        check(r#"0{"sid":"a"}"#, Packet::Connected { pid: None });
        check(r#"0{"sid":"a","pid":"b"}"#, Packet::Connected { pid: Some("b".to_owned()) });
        check("1", Packet::SentAway);
        check(r#"2["message",1]"#, Packet::Event(vec!["message".into(), 1.into()]));
        check(r#"312[{"a":1}]"#, Packet::Ack { id: 12, arguments: vec![json!({"a": 1})] });
        check(r#"4{"message":"no"}"#, Packet::Refused(json!({"message": "no"})));
        for text in ["", "0", "2{}", "3[]", "9", "é"] {
            assert!(Packet::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn data_tells_who_published_it_where() {
        let (id, channel) = (MessageId { publisher: 2, number: 3 }, ChannelId(4));
        for bare in [false, true] {
            assert_eq!(parse_data(&data(id, channel, bare, 10)), Some((id, channel)));
        }
        for other in [json!(null), json!("x"), json!({"is": "m1.2"}), json!([1])] {
            assert_eq!(parse_data(&other), None, "{other}");
        }
    }
}
