//! Publishing many messages at once: one to many channels, a list, or a line each. Every item has its own result.
//!
//! Invariants:
//! - The items of one channel are stored next to each other, and none of them if one is not valid or the channel would get too many.
//! - Volatile items leave behind all that are stored.
//! - Only what cannot be read at all, so that nobody knows which channels it is about, is refused as a whole.

use super::super::idempotency;
use super::super::message::shared;
use super::fields::{Fields, invalid, wrong_type};
use super::json::Object;
use super::problem::{Code, Problem};
use super::publish::{Draft, status_of, store, stored};
use super::{answer, utf8};
use crate::auth::{Denied, Key};
use crate::http::Response;
use bytes::Bytes;
use channelapi_core::broker::{PublishError, PublishRequest, Published};
use channelapi_core::hub::Hub;
use channelapi_core::limits::{BATCH_CHUNK_BYTES, BATCH_ITEMS_MAX};
use channelapi_core::model::ChannelName;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::value::RawValue;
use std::collections::HashSet;

/// One message to one channel, as it was sent.
struct Item {
    /// What the publisher calls the channel, if it says.
    name: Option<String>,
    channel: Result<ChannelName, Problem>,
    message: Result<Message, Problem>,
}

struct Message {
    draft: Draft,
    key: Option<Box<str>>,
}

/// What came of an item.
enum Outcome {
    Stored(Published),
    /// It was volatile.
    Sent,
    Refused(Problem),
}

/// `POST /v1/messages`
pub(super) async fn publish(
    hub: &Hub,
    key: Option<&Key>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Problem> {
    let batch = Batch { body, now: hub.clock().unix_millis(), key: idempotency::key_of(headers)? };
    let mut items = if is_lines(headers) { batch.lines()? } else { batch.object()? };
    if let Some(key) = key
        && let Err(error) = hub.gate.admit_key(key.name(), items.len(), hub.clock())
    {
        return Err(Problem::of_key(&error));
    }
    keep_out(&mut items, |channel| key.is_some_and(|key| key.reaches(channel)));
    let names: Vec<_> = items.iter().map(|item| item.name.clone()).collect();
    let outcomes = carry_out(hub, settle(items)).await;
    for outcome in &outcomes {
        if let Outcome::Refused(problem) = outcome {
            problem.count();
        }
    }
    let is_failed = |outcome: &&Outcome| matches!(outcome, Outcome::Refused(_));
    let is_stored = |outcome: &&Outcome| matches!(outcome, Outcome::Stored(_));
    let object = Object::new()
        .value("stored", outcomes.iter().filter(is_stored).count())
        .value("failed", outcomes.iter().filter(is_failed).count());
    let results = names.iter().zip(&outcomes).map(|(name, outcome)| result(name.as_deref(), outcome));
    Ok(answer(StatusCode::OK, object.array("results", results)))
}

/// A body and what holds for all that is in it.
struct Batch<'a> {
    body: &'a Bytes,
    now: u64,
    key: Option<Box<str>>,
}

impl Batch<'_> {
    /// `{"channels": […], "data": …}` or `{"messages": […]}`.
    fn object(&self) -> Result<Vec<Item>, Problem> {
        let mut fields = Fields::parse(utf8(self.body)?)?;
        let items = match (fields.take("channels"), fields.take("messages")) {
            (Some(channels), None) => self.channels(channels, &mut fields)?,
            (None, Some(messages)) => self.messages(messages)?,
            _ => return Err(invalid("The body must have either `channels` and `data`, or `messages`.")),
        };
        fields.finish()?;
        Ok(items)
    }

    fn channels(&self, channels: &RawValue, fields: &mut Fields<'_>) -> Result<Vec<Item>, Problem> {
        let names: Vec<String> = serde_json::from_str(channels.get())
            .map_err(|_| wrong_type("channels", "an array of strings"))?;
        check_size(names.len())?;
        let mut known = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !known.insert(name.as_str())) {
            return Err(invalid(format!("`channels` has `{}` twice.", twice.escape_debug())));
        }
        let draft = Draft::take(fields, |data| shared(data.as_bytes(), self.body), || self.now)?;
        let item = |name: String| Item {
            channel: ChannelName::parse(&name).map_err(Into::into),
            message: Ok(Message { draft: draft.clone(), key: self.key.clone() }),
            name: Some(name),
        };
        Ok(names.into_iter().map(item).collect())
    }

    fn messages(&self, messages: &RawValue) -> Result<Vec<Item>, Problem> {
        let messages: Vec<&RawValue> = serde_json::from_str(messages.get())
            .map_err(|_| wrong_type("messages", "an array of objects"))?;
        check_size(messages.len())?;
        let objects = messages.iter().enumerate().map(|(index, message)| {
            let fields = Fields::parse(message.get());
            let fields = fields.map_err(|_| {
                invalid(format!("`messages[{index}]` must be an object whose keys are there once."))
            })?;
            Ok(self.item(index, fields))
        });
        objects.collect()
    }

    fn lines(&self) -> Result<Vec<Item>, Problem> {
        let lines = utf8(self.body)?.lines().enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
        let lines: Vec<_> = lines.take(BATCH_ITEMS_MAX + 1).collect();
        check_size(lines.len())?;
        let objects = lines
            .iter()
            .enumerate()
            .map(|(index, (number, line))| Ok(self.item(index, Fields::parse_line(number + 1, line)?)));
        objects.collect()
    }

    /// A message that says itself where it goes.
    fn item(&self, index: usize, mut fields: Fields<'_>) -> Item {
        let name = fields.take_text("channel");
        let name = name.and_then(|name| name.ok_or_else(|| fields.missing("channel", Draft::FIELDS)));
        let (name, channel) = match name {
            Ok(name) => (Some(name.to_string()), ChannelName::parse(&name).map_err(Into::into)),
            Err(problem) => (None, Err(problem)),
        };
        Item { name, channel, message: self.message(index, fields) }
    }

    fn message(&self, index: usize, mut fields: Fields<'_>) -> Result<Message, Problem> {
        let draft = Draft::take(&mut fields, |data| shared(data.as_bytes(), self.body), || self.now)?;
        let key = match (fields.take_text("idempotency_key")?, &self.key) {
            (Some(own), _) => Some(idempotency::checked(own.as_bytes())?),
            // It may be a little longer than a publisher's own: the log takes more.
            (None, Some(key)) => Some(format!("{key}/{index}").into()),
            (None, None) => None,
        };
        fields.finish()?;
        Ok(Message { draft, key })
    }
}

fn check_size(count: usize) -> Result<(), Problem> {
    match count {
        0 => Err(invalid("The batch has no items.")),
        1..=BATCH_ITEMS_MAX => Ok(()),
        _ => Err(Problem::new(Code::BatchSize, format!("The batch has more than {BATCH_ITEMS_MAX} items."))),
    }
}

fn is_lines(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    [&b"application/x-ndjson"[..], b"application/ndjson", b"application/jsonl"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
}

/// Refuses the items of channels that the key is not for.
fn keep_out(items: &mut [Item], is_reached: impl Fn(&ChannelName) -> bool) {
    for item in items {
        if item.channel.as_ref().is_ok_and(|channel| !is_reached(channel)) {
            item.channel = Err(Denied::Channel.into());
        }
    }
}

/// Decides about the items: those of a channel that has a wrong one are refused with it.
fn settle(items: Vec<Item>) -> Vec<Result<(ChannelName, Message), Problem>> {
    let spoilt = items.iter().filter(|item| item.message.is_err());
    let spoilt: HashSet<ChannelName> = spoilt.filter_map(|item| item.channel.clone().ok()).collect();
    let decide = |item: Item| {
        let (channel, message) = (item.channel?, item.message?);
        if spoilt.contains(&channel) {
            return Err(Problem::new(Code::BatchRefused, "Another item of this channel is not valid."));
        }
        Ok((channel, message))
    };
    items.into_iter().map(decide).collect()
}

/// Publishes what is to be published, and tells what came of each item.
async fn carry_out(hub: &Hub, items: Vec<Result<(ChannelName, Message), Problem>>) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = Vec::new();
    outcomes.resize_with(items.len(), || None);
    let (mut to_store, mut to_send) = (Vec::new(), Vec::new());
    for (index, item) in items.into_iter().enumerate() {
        match item {
            Err(problem) => outcomes[index] = Some(Outcome::Refused(problem)),
            Ok((channel, Message { draft, .. })) if draft.is_volatile => {
                to_send.push((index, (channel, draft.event, draft.data)));
            }
            Ok((channel, Message { draft, key })) => to_store.push((index, draft.into_request(channel, key))),
        }
    }
    for chunk in chunks(to_store) {
        let (places, requests): (Vec<_>, Vec<_>) = chunk.into_iter().unzip();
        match store(hub, requests).await {
            Ok(results) => {
                // The next chunk would wait as long for the same room.
                let has_waited = results.contains(&Err(PublishError::Congested));
                for (index, result) in places.into_iter().zip(results) {
                    outcomes[index] =
                        Some(result.map_or_else(|error| Outcome::Refused(error.into()), Outcome::Stored));
                }
                if has_waited {
                    break;
                }
            }
            Err(problem) => {
                for index in places {
                    outcomes[index] = Some(Outcome::Refused(problem.clone()));
                }
                break;
            }
        }
    }
    let (places, publications): (Vec<_>, Vec<_>) = to_send.into_iter().unzip();
    for (index, sent) in places.into_iter().zip(hub.publish_all_volatile(publications).await) {
        outcomes[index] = Some(sent.map_or_else(|error| Outcome::Refused(error.into()), |()| Outcome::Sent));
    }
    let not_tried =
        || Outcome::Refused(Problem::new(Code::Unavailable, "Not tried: what came before took too long."));
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(not_tried)).collect()
}

/// Divides what is too much for the log at once. Only one message to many channels can be, and there each item has a channel of its
/// own: nothing that belongs together is divided.
fn chunks(requests: Vec<(usize, PublishRequest)>) -> Vec<Vec<(usize, PublishRequest)>> {
    let mut chunks: Vec<Vec<_>> = Vec::new();
    let mut room = 0;
    for (index, request) in requests {
        let bytes = request.data.len();
        match chunks.last_mut() {
            Some(chunk) if bytes <= room => chunk.push((index, request)),
            _ => {
                chunks.push(vec![(index, request)]);
                room = BATCH_CHUNK_BYTES;
            }
        }
        room = room.saturating_sub(bytes);
    }
    chunks
}

/// What the publisher is told of an item.
fn result(name: Option<&str>, outcome: &Outcome) -> Vec<u8> {
    let object = match name {
        Some(name) => Object::new().text("channel", name),
        None => Object::new().raw("channel", b"null"),
    };
    let object = match outcome {
        Outcome::Stored(published) => {
            stored(object.value("status", status_of(published).as_u16()), published)
        }
        Outcome::Sent => object.value("status", 200).text("durability", "none"),
        Outcome::Refused(problem) => {
            let Problem { code, detail, .. } = problem;
            let object = object
                .value("status", code.status().as_u16())
                .text("code", code.name())
                .text("detail", detail);
            let object = match problem.retry_after() {
                Some(seconds) => object.value("retry_after", seconds),
                None => object,
            };
            if *code == Code::Indeterminate { object.value("indeterminate", true) } else { object }
        }
    };
    object.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use channelapi_core::limits::{API_BODY_BYTES_MAX, DATA_BYTES_MAX};
    use channelapi_core::model::EventName;

    type Decided = Vec<Result<(ChannelName, Message), Problem>>;

    fn decide(body: &str, key: Option<&str>, is_lines: bool) -> Result<Decided, Code> {
        let body = Bytes::from(body.to_owned());
        let batch = Batch { body: &body, now: 0, key: key.map(Into::into) };
        let items = if is_lines { batch.lines() } else { batch.object() };
        items.map(settle).map_err(|problem| problem.code)
    }

    fn codes(decided: &Decided) -> Vec<Option<Code>> {
        decided.iter().map(|item| item.as_ref().err().map(|problem| problem.code)).collect()
    }

    #[test]
    fn one_wrong_item_spoils_its_channel_and_no_other() {
        let body = r#"{"messages":[{"channel":"a","data":1},{"channel":"b","data":1},{"channel":"a","data":2,"event":"gap"},
            {"channel":"","data":1},{"data":1},{"channel":"b","data":[1, 2]},{"channel":"a","data":3,"x":1}]}"#;
        let decided = decide(body, None, false).unwrap();
        let refused = Some(Code::BatchRefused);
        let expected = [
            refused,
            None,
            Some(Code::ReservedEvent),
            Some(Code::InvalidChannel),
            Some(Code::InvalidBody),
            None,
            Some(Code::UnknownField),
        ];
        assert_eq!(codes(&decided), expected);
        assert_eq!(decided[5].as_ref().unwrap().1.draft.data, "[1, 2]");
    }

    #[test]
    fn items_of_channels_that_the_key_is_not_for_are_refused_alone() {
        let body = Bytes::from_static(
            br#"{"messages":[{"channel":"a","data":1},{"channel":"b","data":1},{"channel":"b","x":1},{"channel":"","data":1}]}"#,
        );
        let mut items = Batch { body: &body, now: 0, key: None }.object().unwrap();
        keep_out(&mut items, |channel| channel.as_str() == "a");
        let expected =
            [None, Some(Code::ChannelNotAllowed), Some(Code::ChannelNotAllowed), Some(Code::InvalidChannel)];
        assert_eq!(codes(&settle(items)), expected);
    }

    #[test]
    fn keys_are_made_of_the_requests_own() {
        let keys = |body, is_lines| -> Vec<_> {
            let decided = decide(body, Some("K"), is_lines).unwrap();
            decided.into_iter().map(|item| item.unwrap().1.key.unwrap().into_string()).collect()
        };
        assert_eq!(keys(r#"{"channels":["a","b"],"data":1}"#, false), ["K", "K"]);
        assert_eq!(
            keys(
                r#"{"messages":[{"channel":"a","data":1,"idempotency_key":"own"},{"channel":"a","data":1}]}"#,
                false
            ),
            ["own", "K/1"]
        );
        assert_eq!(
            keys("{\"channel\":\"a\",\"data\":1}\r\n\n{\"channel\":\"a\",\"data\":1}", true),
            ["K/0", "K/1"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_as_a_whole() {
        let check = |body: &str, is_lines, expected| {
            assert_eq!(decide(body, None, is_lines).map(|items| codes(&items)), Err(expected), "{body}");
        };
        for body in
            ["", "{}", "[]", r#"{"channels":"a","data":1}"#, r#"{"channels":["a"]}"#, r#"{"messages":[1]}"#]
        {
            check(body, false, Code::InvalidBody);
        }
        check(r#"{"channels":["a","a"],"data":1}"#, false, Code::InvalidBody);
        check(r#"{"channels":["a"],"messages":[],"data":1}"#, false, Code::InvalidBody);
        check(r#"{"messages":[{"channel":"a","data":1}],"data":1}"#, false, Code::UnknownField);
        check(r#"{"messages":[]}"#, false, Code::InvalidBody);
        check("\n \n", true, Code::InvalidBody);
        check(&"{\"channel\":\"a\",\"data\":1}\n".repeat(1001), true, Code::BatchSize);
        check("{\"channel\":\"a\",\"data\":1}\n{\"channel\":\"a\",\"data\":", true, Code::InvalidBody);
    }

    #[test]
    fn only_one_message_to_many_channels_is_divided() {
        let request = |bytes| PublishRequest {
            channel: ChannelName::parse("a").unwrap(),
            event: EventName::default(),
            data: vec![b'1'; bytes].into(),
            expires_at: 0,
            idempotency_key: None,
        };
        let sizes = |count, bytes| -> Vec<_> {
            let requests = (0..count).map(|index| (index, request(bytes))).collect();
            chunks(requests).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(1000, API_BODY_BYTES_MAX / 1000), [1000]);
        assert_eq!(sizes(20, DATA_BYTES_MAX), [16, 4]);
        assert_eq!(sizes(0, 1), [0; 0]);
    }
}
