//! The argument of `join_channel`: what a client wants to join, and from where on it wants to hear it.

use channelapi_core::broker::Since;
use channelapi_core::model::ConsumerName;
use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a client wants to join.
#[derive(Debug, PartialEq)]
pub(crate) struct JoinRequest {
    pub(crate) token: String,
    /// Which of the channels that the token opens, if it is a JWT and opens several.
    pub(crate) channel: Option<String>,
    /// Set if it comes through the explicit door.
    pub(crate) replay: Option<Result<Replay, String>>,
}

/// What it wants to hear first.
#[derive(Debug, PartialEq)]
pub(crate) struct Replay {
    pub(crate) since: Place,
    pub(crate) limit: Option<usize>,
    pub(crate) consumer: ConsumerName,
}

/// From where on.
#[derive(Debug, PartialEq)]
pub(crate) enum Place {
    Now,
    Unread,
    Since(Since),
    /// The client says something that is no place.
    Nowhere,
}

impl JoinRequest {
    /// Reads the argument of `join_channel`: an object with a token, or a string that holds one. `None` without a token.
    pub(crate) fn parse(argument: &str) -> Option<Self> {
        if !argument.starts_with('"') {
            return Self::parse_object(argument);
        }
        let object: String = serde_json::from_str(argument).ok()?;
        Self::parse_object(&object)
    }

    fn parse_object(object: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            token: Cow<'a, str>,
            #[serde(borrow, default)]
            channel: Option<&'a RawValue>,
            #[serde(borrow, default)]
            since: Option<&'a RawValue>,
            #[serde(borrow, default)]
            limit: Option<&'a RawValue>,
            #[serde(borrow, default)]
            consumer: Option<&'a RawValue>,
        }
        // An array of one string would pass for the struct.
        let object = object.trim_start();
        if !object.starts_with('{') {
            return None;
        }
        let Fields { token, channel, since, limit, consumer } = serde_json::from_str(object).ok()?;
        let is_explicit = since.is_some() || limit.is_some() || consumer.is_some();
        let replay = is_explicit.then(|| Replay::parse(since, limit, consumer));
        // What else the seed's clients may have sent there means nothing, as ever.
        let channel = channel.and_then(read);
        Some(Self { token: token.into_owned(), channel, replay })
    }
}

impl Replay {
    fn parse(
        since: Option<&RawValue>,
        limit: Option<&RawValue>,
        consumer: Option<&RawValue>,
    ) -> Result<Self, String> {
        let since = match since {
            None => Place::Now,
            Some(since) => Place::parse(since)?,
        };
        let limit = match limit {
            None => None,
            Some(limit) => Some(read(limit).ok_or("limit: it must be a whole number from 0 on")?),
        };
        let consumer = match consumer {
            None => ConsumerName::default(),
            Some(name) => {
                let name: String = read(name).ok_or("consumer: it must be a string")?;
                ConsumerName::parse(&name).map_err(|error| format!("consumer: {error}"))?
            }
        };
        Ok(Self { since, limit, consumer })
    }
}

impl Place {
    fn parse(since: &RawValue) -> Result<Self, String> {
        if let Some(offset) = read::<Number>(since) {
            let offset = offset.as_u64().ok_or("since: an offset is a whole number from 0 on")?;
            return Ok(Self::Since(Since::Offset(offset)));
        }
        let text: String = read(since).ok_or("since: it must be a number or a string")?;
        Ok(match &*text {
            "unread" => Self::Unread,
            text => text.parse().map_or(Self::Nowhere, Self::Since),
        })
    }
}

/// A value, if it is of that type.
fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_from_both_forms_and_no_other() {
        let check = |argument, expected: Option<&str>| {
            let request = JoinRequest::parse(argument);
            assert_eq!(request.as_ref().map(|request| &*request.token), expected, "{argument}");
            assert!(request.is_none_or(|request| request.replay.is_none()));
        };
        check(r#"{"token":"abc"}"#, Some("abc"));
        check(r#"{"x":1e400,"token":"a\u0062c","y":[{}]}"#, Some("abc"));
        check(r#""{\"token\":\"abc\"}""#, Some("abc"));
        check(r#""{ \"token\" : \"a\\u0062c\" }""#, Some("abc"));
        for argument in ["null", "1", "[]", "{}", r#""""#, r#""{""#, r#""abc""#, "[\"abc\"]"] {
            check(argument, None);
        }
        check(r#"{"token":["a"]}"#, None);
        check(r#"{"token":{"$gt":""}}"#, None);
        check(r#"{"token":null}"#, None);
        check(r#""\"{\\\"token\\\":\\\"abc\\\"}\"""#, None);
    }

    #[test]
    fn a_place_is_what_the_client_says_it_is() {
        let replay = |fields: &str| {
            JoinRequest::parse(&format!(r#"{{"token":"t",{fields}}}"#)).unwrap().replay.unwrap()
        };
        assert_eq!(replay(r#""since":7"#).unwrap().since, Place::Since(Since::Offset(7)));
        assert_eq!(replay(r#""since":"7""#).unwrap().since, Place::Since(Since::Offset(7)));
        assert_eq!(replay(r#""since":"all","limit":5"#).unwrap().limit, Some(5));
        assert_eq!(replay(r#""since":"unread","consumer":"phone""#).unwrap().since, Place::Unread);
        assert_eq!(replay(r#""consumer":"phone""#).unwrap().since, Place::Now);
        assert_eq!(replay(r#""since":"rubbish""#).unwrap().since, Place::Nowhere);
        for fields in [
            r#""since":-1"#,
            r#""since":1.5"#,
            r#""since":1e400"#,
            r#""since":"\ud83d""#,
            r#""since":{}"#,
            r#""since":{"$serde_json::private::RawValue":"7"}"#,
            r#""since":{"$serde_json::private::RawValue":"\"all\""}"#,
            r#""limit":"x""#,
            r#""limit":-1"#,
            r#""limit":{"$serde_json::private::RawValue":"7"}"#,
            r#""consumer":1"#,
            r#""consumer":{"$serde_json::private::RawValue":"\"phone\""}"#,
        ] {
            assert!(replay(fields).is_err(), "{fields}");
        }
    }

    /// Once, an object with JSON in a text was taken for what stood there.
    #[test]
    fn no_object_passes_for_the_value_in_its_text() {
        let dressed =
            |text: &str| format!(r#"{{"$serde_json::private::RawValue":{}}}"#, serde_json::Value::from(text));
        let channel = format!(r#"{{"token":"t","channel":{}}}"#, dressed(r#""a""#));
        assert_eq!(JoinRequest::parse(&channel).unwrap().channel, None);
        assert_eq!(JoinRequest::parse(&format!(r#"{{"token":{}}}"#, dressed(r#""t""#))), None);
        assert_eq!(JoinRequest::parse(&dressed(r#"{"token":"t"}"#)), None);
    }
}
