//! The argument of `ack`: what a client confirms.

use channelapi_core::model::{ChannelName, ConsumerName};
use serde::Deserialize;
use std::borrow::Cow;

/// What a client confirms: everything up to an offset of a channel.
#[derive(Debug, PartialEq)]
pub(crate) struct Ack {
    pub(crate) channel: ChannelName,
    pub(crate) offset: u64,
    pub(crate) consumer: ConsumerName,
}

impl Ack {
    /// Reads the argument of `ack`, or says what is wrong with it.
    pub(crate) fn parse(argument: Option<&str>) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            channel: Cow<'a, str>,
            offset: u64,
            #[serde(borrow, default)]
            consumer: Option<Cow<'a, str>>,
        }
        let Fields { channel, offset, consumer } = argument
            .filter(|argument| argument.trim_start().starts_with('{'))
            .and_then(|argument| serde_json::from_str(argument).ok())
            .ok_or("ack takes {channel, offset, consumer?}")?;
        let channel = ChannelName::parse(&channel).map_err(|error| error.to_string())?;
        let consumer = consumer.map_or(Ok(ConsumerName::default()), |name| ConsumerName::parse(&name));
        let consumer = consumer.map_err(|error| error.to_string())?;
        Ok(Self { channel, offset, consumer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_names_a_channel_and_an_offset() {
        let ack = Ack::parse(Some(r#" {"offset":7,"channel":"a\u0062","more":[]}"#)).unwrap();
        let expected =
            Ack { channel: ChannelName::parse("ab").unwrap(), offset: 7, consumer: ConsumerName::default() };
        assert_eq!(ack, expected);
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
        ] {
            assert!(Ack::parse(Some(argument)).is_err(), "{argument}");
        }
    }
}
