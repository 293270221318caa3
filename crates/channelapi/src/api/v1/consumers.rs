//! Consumers of a channel: who has confirmed what.

use super::fields::{Fields, invalid, wrong_type};
use super::json::Object;
use super::problem::{Code, Problem, sentence};
use super::{answer, time, utf8};
use crate::http::Response;
use bytes::Bytes;
use channelapi_core::hub::{AckError, Consumer, Held, Hub, Mark};
use channelapi_core::model::{ChannelName, ConsumerName};
use hyper::StatusCode;

/// `GET /v1/channels/{c}/consumers`
pub(super) async fn list(hub: &Hub, channel: &ChannelName) -> Result<Response, Problem> {
    let consumers = hub.consumers.list(channel).await.map_err(|error| Problem::unavailable(&error))?;
    let object = |Consumer { name, held, acked_at }: &Consumer| {
        let object = described(Object::new(), name, *held).text("acked_at", &time::rfc3339(*acked_at));
        object.finish()
    };
    let object =
        Object::new().text("channel", channel.as_str()).array("consumers", consumers.iter().map(object));
    Ok(answer(StatusCode::OK, object))
}

/// `GET /v1/channels/{c}/consumers/{name}`
pub(super) async fn show(hub: &Hub, channel: &ChannelName, name: &ConsumerName) -> Result<Response, Problem> {
    let held = hub.consumers.position(channel, name).await.map_err(|error| Problem::unavailable(&error))?;
    Ok(standing(channel, name, held))
}

/// `PUT /v1/channels/{c}/consumers/{name}`
pub(super) async fn set(
    hub: &Hub,
    channel: &ChannelName,
    name: &ConsumerName,
    body: &Bytes,
) -> Result<Response, Problem> {
    let mut fields = Fields::parse(utf8(body)?)?;
    let offset = fields.take_as("offset", "a whole number from 0 on")?;
    let mark = match (offset, fields.take_text("id")?) {
        (Some(offset), None) => Mark::Offset(offset),
        (None, Some(id)) => Mark::Id(id.parse().map_err(|_| wrong_type("id", "the id of a message"))?),
        (None, None) => return Err(fields.missing("offset` or `id", &[])),
        (Some(_), Some(_)) => return Err(invalid("The body must have either `offset` or `id`.")),
    };
    fields.finish()?;
    let held = hub.consumers.ack(channel, name, mark).await.map_err(|error| match &error {
        AckError::Ahead { .. } => Problem::new(Code::Ahead, sentence(&error)),
        AckError::Epoch => Problem::new(Code::Epoch, sentence(&error)),
        AckError::Diverged => Problem::new(Code::Diverged, sentence(&error)),
        AckError::TooManyConsumers => Problem::new(Code::TooManyConsumers, sentence(&error)),
        AckError::State(_) => Problem::unavailable(&error),
    })?;
    Ok(standing(channel, name, held))
}

/// `DELETE /v1/channels/{c}/consumers/{name}`
pub(super) async fn remove(
    hub: &Hub,
    channel: &ChannelName,
    name: &ConsumerName,
) -> Result<Response, Problem> {
    let was_there =
        hub.consumers.remove(channel, name).await.map_err(|error| Problem::unavailable(&error))?;
    let object = Object::new()
        .text("channel", channel.as_str())
        .text("consumer", name.as_str())
        .value("removed", was_there);
    Ok(answer(StatusCode::OK, object))
}

fn standing(channel: &ChannelName, name: &ConsumerName, held: Held) -> Response {
    answer(StatusCode::OK, described(Object::new().text("channel", channel.as_str()), name, held))
}

fn described(object: Object, name: &ConsumerName, Held { offset, unread }: Held) -> Object {
    object.text("consumer", name.as_str()).value("offset", offset).value("unread", unread)
}
