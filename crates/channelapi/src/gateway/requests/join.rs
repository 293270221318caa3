//! The argument of `join_channel`: what a client wants to join, and from where on it wants to hear it.

use channelapi_core::broker::Since;
use channelapi_core::model::ConsumerName;
use serde::Deserialize;
use serde_json::Value;
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
        let channel = channel.and_then(|channel| value(channel).as_str().map(str::to_owned));
        Some(Self { token: token.into_owned(), channel, replay })
    }
}

impl Replay {
    fn parse(
        since: Option<&RawValue>,
        limit: Option<&RawValue>,
        consumer: Option<&RawValue>,
    ) -> Result<Self, String> {
        let since = match since.map(value) {
            None => Place::Now,
            Some(Value::Number(offset)) => {
                let offset = offset.as_u64().ok_or("since: an offset is a whole number from 0 on")?;
                Place::Since(Since::Offset(offset))
            }
            Some(Value::String(text)) if text == "unread" => Place::Unread,
            Some(Value::String(text)) => text.parse().map_or(Place::Nowhere, Place::Since),
            Some(_) => return Err("since: it must be a number or a string".into()),
        };
        let limit = match limit.map(value) {
            None => None,
            Some(limit) => {
                let limit = limit.as_u64().and_then(|limit| usize::try_from(limit).ok());
                Some(limit.ok_or("limit: it must be a whole number from 0 on")?)
            }
        };
        let consumer = match consumer.map(value) {
            None => ConsumerName::default(),
            Some(Value::String(name)) => {
                ConsumerName::parse(&name).map_err(|error| format!("consumer: {error}"))?
            }
            Some(_) => return Err("consumer: it must be a string".into()),
        };
        Ok(Self { since, limit, consumer })
    }
}

/// A value that is JSON already.
fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
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
        for fields in [r#""since":-1"#, r#""since":{}"#, r#""limit":"x""#, r#""consumer":1"#] {
            assert!(replay(fields).is_err(), "{fields}");
        }
    }
}
