//! The argument of `ack`: what a client confirms.

use channelapi_core::hub::Mark;
use channelapi_core::model::{ChannelName, ConsumerName};
use serde::Deserialize;
use std::borrow::Cow;

/// What a client confirms: everything up to an offset or an id of a channel.
#[derive(Debug, PartialEq)]
pub(crate) struct Ack {
    pub(crate) channel: ChannelName,
    pub(crate) mark: Mark,
    pub(crate) consumer: ConsumerName,
}

/// How it is written.
const FORM: &str = "ack takes {channel, offset or id, consumer?}";

impl Ack {
    /// Reads the argument of `ack`, or says what is wrong with it.
    pub(crate) fn parse(argument: Option<&str>) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            channel: Cow<'a, str>,
            #[serde(default)]
            offset: Option<u64>,
            #[serde(borrow, default)]
            id: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            consumer: Option<Cow<'a, str>>,
        }
        let Fields { channel, offset, id, consumer } = argument
            .filter(|argument| argument.trim_start().starts_with('{'))
            .and_then(|argument| serde_json::from_str(argument).ok())
            .ok_or(FORM)?;
        let mark = match (offset, id) {
            (Some(offset), None) => Mark::Offset(offset),
            (None, Some(id)) => Mark::Id(id.parse().map_err(|_| "`id` is no message's id")?),
            _ => return Err(FORM.to_owned()),
        };
        let channel = ChannelName::parse(&channel).map_err(|error| error.to_string())?;
        let consumer = consumer.map_or(Ok(ConsumerName::default()), |name| ConsumerName::parse(&name));
        let consumer = consumer.map_err(|error| error.to_string())?;
        Ok(Self { channel, mark, consumer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use channelapi_core::model::Position;

    #[test]
    fn a_confirmation_names_a_channel_and_an_offset_or_an_id() {
        let ack = Ack::parse(Some(r#" {"offset":7,"channel":"a\u0062","more":[]}"#)).unwrap();
        let expected = |mark| Ack {
            channel: ChannelName::parse("ab").unwrap(),
            mark,
            consumer: ConsumerName::default(),
        };
        assert_eq!(ack, expected(Mark::Offset(7)));
        let by_id = r#"{"channel":"ab","id":"00000000000000ff-7-0000000a","offset":null}"#;
        let id = Position { epoch: 255, offset: 7, tag: 10 };
        assert_eq!(Ack::parse(Some(by_id)), Ok(expected(Mark::Id(id))));
        let named = Ack::parse(Some(r#"{"channel":"a","offset":0,"consumer":"phone"}"#)).unwrap();
        assert_eq!(named.consumer, ConsumerName::parse("phone").unwrap());
        assert!(Ack::parse(None).is_err());
        for argument in [
            "",
            "7",
            "{",
            "{}",
            r#"["a",7]"#,
            r#"{"channel":"a"}"#,
            r#"{"channel":"","offset":7}"#,
            r#"{"channel":7,"offset":7}"#,
            r#"{"channel":"a","offset":-1}"#,
            r#"{"channel":"a","offset":1.5}"#,
            r#"{"channel":"a","offset":"7"}"#,
            r#"{"channel":"a","offset":18446744073709551616}"#,
            r#"{"channel":"a","offset":7,"consumer":""}"#,
            r#"{"channel":"a","offset":null}"#,
            r#"{"channel":"a","offset":7,"id":"00000000000000ff-7-0000000a"}"#,
            r#"{"channel":"a","id":"00000000000000FF-7-0000000a"}"#,
            r#"{"channel":"a","id":"7"}"#,
            r#"{"channel":"a","id":7}"#,
        ] {
            assert!(Ack::parse(Some(argument)).is_err(), "{argument}");
        }
    }
}
