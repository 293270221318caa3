//! Tokens of channels: given, replaced and taken away.

use super::fields::{Fields, wrong_type};
use super::json::Object;
use super::problem::{Code, Problem};
use super::{answer, time, utf8};
use crate::auth::{Denied, Key};
use crate::http::Response;
use bytes::Bytes;
use channelapi_core::hub::{EndedToken, Hub, IssuedToken, TokenError};
use channelapi_core::limits::{TOKEN_LIFETIME_MAX, TOKEN_LIFETIME_MIN};
use channelapi_core::model::ChannelName;
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// What a backend wants of a channel's token.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    is_rotation: bool,
    ttl: Option<Duration>,
}

/// `POST /v1/channels/{c}/tokens`
pub(super) async fn issue(hub: &Hub, channel: &ChannelName, body: &Bytes) -> Result<Response, Problem> {
    let Wish { is_rotation, ttl } = Wish::parse(body)?;
    let issued = if is_rotation {
        hub.tokens.rotate(channel, ttl).await
    } else {
        hub.tokens.get_or_create_for(channel, ttl).await
    };
    let IssuedToken { token, expires_at } = issued.map_err(|error| Problem::unavailable(&error))?;
    let object = Object::new()
        .text("channel", channel.as_str())
        .text("token", token.reveal())
        .text("expires_at", &time::rfc3339(expires_at));
    Ok(answer(StatusCode::OK, object))
}

/// `DELETE /v1/channels/{c}/tokens`
pub(super) async fn revoke(hub: &Arc<Hub>, channel: ChannelName) -> Result<Response, Problem> {
    let node = hub.clone();
    // A task of its own: whoever asked may hang up, and the clients must go all the same.
    let task = tokio::spawn(async move {
        let was_there = node.tokens.revoke(&channel).await?;
        // Also without a token: an earlier request may have ended half-way, or the token may have died of age.
        let disconnected = node.disconnect_channel(&channel).await;
        Ok::<_, TokenError>((channel, was_there, disconnected))
    });
    let (channel, was_there, disconnected) = finished(task.await)?;
    Ok(revoked(&channel, was_there, disconnected))
}

/// `DELETE /v1/tokens/{t}`
pub(super) async fn revoke_token(
    hub: &Arc<Hub>,
    key: Option<&Key>,
    token: String,
) -> Result<Response, Problem> {
    // A key for some channels must not reach another through its token. A token never goes to another channel.
    if key.is_none_or(Key::is_limited) {
        let channel = hub.tokens.channel_of(&token).await.map_err(|error| Problem::unavailable(&error))?;
        let channel = channel.ok_or_else(unknown)?;
        if !key.is_some_and(|key| key.reaches(&channel)) {
            return Err(Denied::Channel.into());
        }
    }
    let node = hub.clone();
    let task = tokio::spawn(async move {
        let Some(EndedToken { channel, has_lived }) = node.tokens.revoke_token(&token).await? else {
            return Ok(None);
        };
        // Also if it had died of age: whoever came in with it may still be there.
        let disconnected = node.disconnect_channel(&channel).await;
        Ok::<_, TokenError>(Some((channel, has_lived, disconnected)))
    });
    let (channel, has_lived, disconnected) = finished(task.await)?.ok_or_else(unknown)?;
    Ok(revoked(&channel, has_lived, disconnected))
}

fn unknown() -> Problem {
    let hint = "One that was replaced, or is dead for more than a day, is unknown: DELETE /v1/channels/<channel>/tokens sends whoever came in with it away.";
    Problem::not_found("No channel has this token.", hint)
}

fn finished<T>(result: Result<Result<T, TokenError>, tokio::task::JoinError>) -> Result<T, Problem> {
    let result = result.map_err(|panic| Problem::unavailable(&panic))?;
    result.map_err(|error| Problem::unavailable(&error))
}

fn revoked(channel: &ChannelName, was_there: bool, disconnected: usize) -> Response {
    let object = Object::new()
        .text("channel", channel.as_str())
        .value("revoked", was_there)
        .value("disconnected", disconnected);
    answer(StatusCode::OK, object)
}

impl Wish {
    /// Reads a body. None at all is no wish.
    fn parse(body: &Bytes) -> Result<Self, Problem> {
        let text = utf8(body)?;
        if text.trim_ascii().is_empty() {
            return Ok(Self { is_rotation: false, ttl: None });
        }
        let mut fields = Fields::parse(text)?;
        let is_rotation = match fields.take_text("mode")?.as_deref() {
            None | Some("get_or_create") => false,
            Some("rotate") => true,
            Some(_) => return Err(wrong_type("mode", "\"get_or_create\" or \"rotate\"")),
        };
        let ttl = fields.take("ttl").map(time::ttl).transpose()?;
        if ttl.is_some_and(|ttl| !(TOKEN_LIFETIME_MIN..=TOKEN_LIFETIME_MAX).contains(&ttl)) {
            let days = TOKEN_LIFETIME_MAX.as_secs() / 86_400;
            return Err(Problem::new(
                Code::InvalidTtl,
                format!("`ttl` of a token must be 1 second to {days} days."),
            ));
        }
        fields.finish()?;
        Ok(Self { is_rotation, ttl })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_may_be_empty_and_is_never_guessed() {
        let parse = |body: &'static str| {
            Wish::parse(&Bytes::from_static(body.as_bytes())).map_err(|problem| problem.code)
        };
        for body in ["", " \n", "{}", r#"{"mode":"get_or_create"}"#] {
            assert_eq!(parse(body), Ok(Wish { is_rotation: false, ttl: None }), "{body}");
        }
        let hour = Some(Duration::from_hours(1));
        assert_eq!(parse(r#"{"mode":"rotate","ttl":"1h"}"#), Ok(Wish { is_rotation: true, ttl: hour }));
        for body in ["nonsense", "[]", r#"{"mode":"other"}"#, r#"{"mode":7}"#] {
            assert_eq!(parse(body), Err(Code::InvalidBody), "{body}");
        }
        for body in [r#"{"ttl":"soon"}"#, r#"{"ttl":0.5}"#, r#"{"ttl":"4000d"}"#] {
            assert_eq!(parse(body), Err(Code::InvalidTtl), "{body}");
        }
        assert_eq!(parse(r#"{"tll":"1h"}"#), Err(Code::UnknownField));
    }
}
