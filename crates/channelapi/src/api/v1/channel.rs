//! What there is to say of a channel.

use super::answer;
use super::json::Object;
use crate::http::Response;
use channelapi_core::hub::Hub;
use channelapi_core::model::ChannelName;
use hyper::StatusCode;

/// `GET /v1/channels/{c}`
pub(super) fn describe(hub: &Hub, channel: &ChannelName) -> Response {
    let policy = hub.broker.policy(channel);
    let standing = hub.broker.standing(channel);
    let (first, next) = standing.map_or((1, 1), |standing| (standing.first_offset, standing.next_offset));
    let object = Object::new().text("channel", channel.as_str());
    let object = match standing {
        Some(standing) => object.text("epoch", &format!("{:016x}", standing.epoch)),
        None => object.raw("epoch", b"null"),
    };
    let history = Object::new()
        .value("max_messages", policy.retention.messages)
        .value("max_age", policy.retention.age / 1000)
        .value("max_bytes", policy.retention.bytes);
    let object = object
        .value("first_offset", first)
        .value("next_offset", next)
        .value("messages", next - first)
        .value("subscribers", hub.subscribers(channel))
        .text("durability", policy.durability.as_str())
        .raw("history", &history.finish());
    answer(StatusCode::OK, object)
}
