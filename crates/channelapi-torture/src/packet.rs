//! Socket.IO packets as far as a client of one server meets them, and the data that publishers and clients agree on.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::history::{ChannelId, MessageId};

/// Once in how many messages data is a bare string.
const BARE_RARITY: u64 = 5;
/// Once in how many messages data is long, and how long.
const LONG_RARITY: u64 = 50;
const LONG: RangeInclusive<u64> = 1_000..=20_000;
/// What it is filled with: some of it is escaped in JSON, and some takes more than one byte.
const LETTERS: [char; 16] =
    ['a', 'b', 'c', 'd', 'e', 'f', 'g', '0', '1', '2', ' ', '/', '"', '\\', 'é', '😀'];
/// Characters of data that are shown when something is wrong with it.
const SHOWN: usize = 200;

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

/// What is published: as a bare string, which a stock client takes for a cursor if it comes last, or as an object. The name
/// decides about every byte, so that whoever gets it knows what it has to be.
pub(crate) fn data(id: MessageId, channel: ChannelId) -> Value {
    let text = format!("{id} c{}", channel.0);
    let mut choices = Choices::new((u64::from(id.publisher) << 32) | u64::from(id.number), "data");
    if choices.one_in(BARE_RARITY) {
        return text.into();
    }
    let length = if choices.one_in(LONG_RARITY) { choices.number(LONG) } else { 0 };
    let padding: String = (0..length).filter_map(|_| choices.pick(&LETTERS)).collect();
    json!({ "is": text, "padding": padding })
}

/// Which message data is; an error unless it is all of what was published under that name, and nothing else.
pub(crate) fn parse_data(received: &Value) -> Result<(MessageId, ChannelId)> {
    let shown = || received.to_string().chars().take(SHOWN).collect::<String>();
    let (id, channel) = name_of(received).with_context(|| format!("nobody published {}", shown()))?;
    ensure!(*received == data(id, channel), "{id} is not what was published: {}", shown());
    Ok((id, channel))
}

fn name_of(data: &Value) -> Option<(MessageId, ChannelId)> {
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

    const CHANNEL: ChannelId = ChannelId(4);

    fn ids() -> impl Iterator<Item = MessageId> {
        (0..1_000).map(|number| MessageId { publisher: 2, number })
    }

    #[test]
    fn data_tells_who_published_it_where() {
        for id in ids() {
            assert_eq!(parse_data(&data(id, CHANNEL)).unwrap(), (id, CHANNEL));
        }
        for other in [json!(null), json!("x"), json!({"is": "m1.2"}), json!([1])] {
            assert!(parse_data(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn data_that_is_not_as_it_was_published_is_seen() {
        let (mut bare, mut long) = (0, 0);
        for id in ids() {
            let whole = data(id, CHANNEL);
            let Some(padding) = whole["padding"].as_str() else {
                bare += 1;
                assert!(parse_data(&json!({ "is": whole, "padding": "" })).is_err(), "{id} is an object");
                continue;
            };
            let check = |padding: &str| {
                let other = json!({ "is": whole["is"], "padding": padding });
                assert!(parse_data(&other).is_err(), "{id} with {} bytes", padding.len());
            };
            check(&format!("{padding}a"));
            if let Some(last) = padding.chars().next_back() {
                long += 1;
                check(&padding[..padding.len() - last.len_utf8()]);
                check(&padding.replacen(['a', 'b'], "c", 1));
            }
            assert!(parse_data(&json!({ "is": whole["is"] })).is_err(), "{id} without padding");
        }
        assert!(bare > 100 && long > 5, "{bare} bare, {long} long");
    }
}
