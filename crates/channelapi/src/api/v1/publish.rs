//! Publishing one message: what a publisher may say of it, and what it is answered.

use super::super::in_time::{TooLate, in_time};
use super::super::message::{DEPTH_MAX, is_checkpoint, shared};
use super::fields::Fields;
use super::json::Object;
use super::problem::{Code, Problem};
use super::{short_answer, time, utf8};
use crate::http::Answer;
use bytes::Bytes;
use channelapi_core::broker::{PublishError, PublishRequest, Published};
use channelapi_core::clock::millis_of;
use channelapi_core::hub::Hub;
use channelapi_core::limits::DATA_BYTES_MAX;
use channelapi_core::model::{ChannelName, Cursor, EventName};
use channelapi_protocol::socketio::is_deeper_than;
use hyper::StatusCode;
use serde_json::value::RawValue;
use std::pin::pin;

/// A message on its way to one channel or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) event: EventName,
    pub(super) data: Bytes,
    /// Milliseconds since 1970; 0 is never.
    pub(super) expires_at: u64,
    /// Whether it is for who is there, and kept nowhere.
    pub(super) is_volatile: bool,
}

/// What a body asks for, which is no object with anything else. `own` makes the data a message's own, and `now` tells the time, if it matters.
pub(super) fn draft(
    body: &str,
    own: impl FnOnce(&str) -> Bytes,
    now: impl FnOnce() -> u64,
) -> Result<Draft, Problem> {
    let mut fields = Fields::parse(body)?;
    let draft = Draft::take(&mut fields, own, now)?;
    fields.finish()?;
    Ok(draft)
}

/// `POST /v1/channels/{c}/messages`
pub(super) async fn publish(
    hub: &Hub,
    channel: ChannelName,
    key: Option<Box<str>>,
    body: &Bytes,
) -> Result<Answer, Problem> {
    let draft = draft(utf8(body)?, |data| shared(data.as_bytes(), body), || hub.clock().unix_millis())?;
    if draft.is_volatile {
        send(hub, channel.clone(), draft).await?;
        return Ok(answer_to_sent(&channel));
    }
    let request = draft.into_request(channel.clone(), key);
    answer_to(&channel, in_time(hub.publish(request)).await)
}

/// What a publisher is told whose message was to be stored.
pub(super) fn answer_to(
    channel: &ChannelName,
    published: Result<Result<Published, PublishError>, TooLate>,
) -> Result<Answer, Problem> {
    let published = published??;
    let object = Object::new().text("channel", channel.as_str());
    let cursor = published.cursor.encode();
    let object = stored(object, &published).plain("cursor", Cursor::text(&cursor));
    Ok(short_answer(status_of(&published), object))
}

/// What a publisher is told whose message was sent to who is there.
pub(super) fn answer_to_sent(channel: &ChannelName) -> Answer {
    let object = Object::new().text("channel", channel.as_str()).plain("durability", "none");
    short_answer(StatusCode::OK, object)
}

/// Hands messages to the log, next to each other. The log does not lose what it was handed when a publisher hangs up, or is told that it took too
/// long: then nobody but the log knows what came of it.
pub(super) async fn store(
    hub: &Hub,
    requests: Vec<PublishRequest>,
) -> Result<Vec<Result<Published, PublishError>>, Problem> {
    Ok(in_time(pin!(hub.publish_all(requests))).await?)
}

/// Sends a message to who is there. Unless too much waits already, it is sent when this returns.
pub(super) fn send(
    hub: &Hub,
    channel: ChannelName,
    draft: Draft,
) -> impl Future<Output = Result<(), Problem>> + Send {
    let sending = hub.publish_volatile(channel, draft.event, draft.data);
    async { Ok(sending.await?) }
}

/// 201 for a new message, 200 for one that was there.
pub(super) fn status_of(published: &Published) -> StatusCode {
    if published.is_duplicate { StatusCode::OK } else { StatusCode::CREATED }
}

/// What a publisher is told of a message that is stored.
pub(super) fn stored(object: Object, published: &Published) -> Object {
    let Published { position, durability, is_duplicate, .. } = published;
    object.members(|out| {
        out.extend_from_slice(br#""id":""#);
        position.write(out);
        out.extend_from_slice(br#"","epoch":""#);
        position.write_epoch(out);
        out.extend_from_slice(br#"","offset":"#);
        position.write_offset(out);
        out.extend_from_slice(br#","durability":""#);
        out.extend_from_slice(durability.as_str().as_bytes());
        out.extend_from_slice(if *is_duplicate {
            br#"","duplicate":true"#
        } else {
            br#"","duplicate":false"#
        });
    })
}

impl Draft {
    /// Its fields, and the one that goes with them in a batch.
    pub(super) const FIELDS: &[&str] = &["data", "event", "ttl", "volatile", "idempotency_key"];

    /// Takes what belongs to a message out of an object. `own` makes the data its own, and `now` tells the time, if it matters.
    pub(super) fn take(
        fields: &mut Fields<'_>,
        own: impl FnOnce(&str) -> Bytes,
        now: impl FnOnce() -> u64,
    ) -> Result<Self, Problem> {
        let data = fields.take("data").ok_or_else(|| fields.missing("data", Self::FIELDS))?;
        let data = own(checked(data)?);
        let event = match fields.take_text("event")? {
            Some(name) => EventName::parse(&name)?,
            None => EventName::default(),
        };
        if is_checkpoint(&event, &data) {
            let detail = "Clients would take what the event ends with for the place where they stand.";
            return Err(Problem::new(Code::ReservedData, detail));
        }
        let ttl = fields.take("ttl").map(time::ttl).transpose()?;
        let expires_at = ttl.map_or(0, |ttl| now().saturating_add(millis_of(ttl)));
        let is_volatile = fields.take_as("volatile", "true or false")?.unwrap_or(false);
        Ok(Self { event, data, expires_at, is_volatile })
    }

    pub(super) fn into_request(
        self,
        channel: ChannelName,
        idempotency_key: Option<Box<str>>,
    ) -> PublishRequest {
        let Self { event, data, expires_at, .. } = self;
        PublishRequest { channel, event, data, expires_at, idempotency_key }
    }
}

/// The data of a message, byte for byte.
fn checked(raw: &RawValue) -> Result<&str, Problem> {
    let data = raw.get();
    if data.len() > DATA_BYTES_MAX {
        let detail = format!("The data is {} bytes, the limit is {DATA_BYTES_MAX}.", data.len());
        return Err(Problem::new(Code::TooLarge, detail));
    }
    if is_deeper_than(DEPTH_MAX, data) {
        let detail = format!("The data is nested deeper than {DEPTH_MAX} levels.");
        return Err(super::fields::invalid(detail));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use channelapi_core::model::{CURSOR_BYTES, Cursor, Durability, Position};

    fn draft(text: &str) -> Result<Draft, Code> {
        let body = Bytes::from(text.to_owned());
        let shared = super::draft(utf8(&body).unwrap(), |data| shared(data.as_bytes(), &body), || 1000);
        let copied = super::draft(text, |data| Bytes::copy_from_slice(data.as_bytes()), || 1000);
        assert_eq!(shared, copied);
        shared.map_err(|problem| problem.code)
    }

    #[test]
    fn data_is_taken_as_it_was_written() {
        let spaces = " ".repeat(1000);
        for data in [r#"{"b" : 1e400,"a":[1, 2]}"#, r#""\u00e9\ud800""#, "null", "12345678901234567890123"] {
            assert_eq!(draft(&format!(r#"{{"data":{data}}}"#)).unwrap().data, data);
            assert_eq!(draft(&format!(r#"{{"data":{spaces}{data}{spaces}}}"#)).unwrap().data, data);
        }
    }

    #[test]
    fn a_message_is_what_its_fields_say() {
        let usual = draft(r#"{"data":1}"#).unwrap();
        assert_eq!((usual.event.as_str(), usual.expires_at, usual.is_volatile), ("message", 0, false));
        let other = draft(r#"{"data":1,"event":"order.paid","ttl":"2s","volatile":true}"#).unwrap();
        assert_eq!((other.event.as_str(), other.expires_at, other.is_volatile), ("order.paid", 3000, true));
    }

    #[test]
    fn a_wrong_field_is_named_by_its_code() {
        let check = |body: &str, expected| assert_eq!(draft(body), Err(expected), "{body}");
        check("{}", Code::InvalidBody);
        check(r#"{"data":1,"event":"gap"}"#, Code::ReservedEvent);
        let cursor = Cursor::from_bytes([2; CURSOR_BYTES]);
        check(&format!(r#"{{"data":"{cursor}"}}"#), Code::ReservedData);
        check(&format!(r#"{{"event":"{cursor}","data":null}}"#), Code::ReservedData);
        check(r#"{"data":1,"event":""}"#, Code::InvalidEvent);
        check(r#"{"data":1,"event":null}"#, Code::InvalidBody);
        check(r#"{"data":1,"ttl":"soon"}"#, Code::InvalidTtl);
        check(r#"{"data":1,"volatile":"yes"}"#, Code::InvalidBody);
        check(r#"{"data":1,"tags":[]}"#, Code::UnknownField);
        check(&format!(r#"{{"data":"{}"}}"#, "x".repeat(DATA_BYTES_MAX)), Code::TooLarge);
        check(
            &format!(r#"{{"data":{}{}}}"#, "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1)),
            Code::InvalidBody,
        );
    }

    #[test]
    fn a_publisher_is_told_where_its_message_is() {
        let mut published = Published {
            position: Position { epoch: 0xAB, offset: 1_234, tag: 0xC },
            cursor: Cursor::from_bytes([2; CURSOR_BYTES]),
            durability: Durability::Fsync,
            is_duplicate: false,
        };
        let expected = r#"{"id":"00000000000000ab-1234-0000000c","epoch":"00000000000000ab","offset":1234,"durability":"fsync","duplicate":false}"#;
        assert_eq!(stored(Object::new(), &published).finish(), expected.as_bytes());
        published.is_duplicate = true;
        let expected = expected.replace("{\"id", "{\"status\":200,\"id").replace("false", "true");
        assert_eq!(stored(Object::new().value("status", 200), &published).finish(), expected.as_bytes());
    }
}
