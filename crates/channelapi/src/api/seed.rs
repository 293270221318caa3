//! The two routes of the seed contract, byte for byte.

use super::in_time::{TooLate, in_time};
use super::message::{self, DEPTH_MAX, MessageError};
use super::{Api, IN_QUERY, SEVERAL, WEAK, idempotency};
use crate::auth::{Denied, Place, identify, is_key_in_query};
use crate::config::scope::Scope;
use crate::http::{self, Answer, Answering, BodyError, Head, Headers as _, Received, Request, Response};
use crate::metrics::RequestRefused;
use crate::receiving::Sender;
use bytes::Bytes;
use channelapi_core::broker::{PublishError, PublishRequest, Published};
use channelapi_core::limits::{API_BODY_BYTES_MAX, DATA_BYTES_MAX};
use channelapi_core::model::{ChannelName, EventName};
use hyper::body::Body as _;
use hyper::header::{ALLOW, CONTENT_ENCODING, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use tracing::{debug, error};

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/channel/{channel}`: the channel's token.
    Channel(&'a str),
    /// `/message/{channel}`: publish.
    Message(&'a str),
}

impl<'a> Route<'a> {
    /// Reads a path. The channel's name is everything behind the route, slashes included, still percent-encoded.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let name_behind = |route| {
            let rest = path.strip_prefix(route)?;
            if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
        };
        name_behind("/channel").map(Self::Channel).or_else(|| name_behind("/message").map(Self::Message))
    }
}

/// What an admitted request is to do.
enum Action {
    Token(ChannelName),
    Publish(Publish, Sender),
}

/// What the head of a request to publish says.
struct Publish {
    channel: ChannelName,
    idempotency_key: Option<Box<str>>,
}

impl Publish {
    fn into_request(self, data: Bytes) -> PublishRequest {
        let Self { channel, idempotency_key } = self;
        PublishRequest { channel, event: EventName::default(), data, expires_at: 0, idempotency_key }
    }
}

/// An answer that says what went wrong.
struct Refusal {
    status: StatusCode,
    message: String,
    /// What it counts as, where the status does not say it.
    reason: Option<RequestRefused>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), reason: None }
    }

    fn because(self, reason: RequestRefused) -> Self {
        Self { reason: Some(reason), ..self }
    }

    fn count(&self) {
        let reason = self.reason.unwrap_or(match self.status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => RequestRefused::NotFound,
            StatusCode::PAYLOAD_TOO_LARGE => RequestRefused::TooLarge,
            StatusCode::REQUEST_TIMEOUT => RequestRefused::Timeout,
            StatusCode::INSUFFICIENT_STORAGE => RequestRefused::StorageFull,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => RequestRefused::Unavailable,
            _ => RequestRefused::Invalid,
        });
        reason.count();
    }

    /// Counts it, and says why.
    fn answer(self) -> Answer {
        self.count();
        let message = serde_json::Value::from(self.message);
        let body = format!(r#"{{"success": false, "message": {message}}}"#);
        let answer = Answer::fresh(self.status, http::JSON, body);
        let extra = match self.status {
            StatusCode::METHOD_NOT_ALLOWED => Some((ALLOW, "POST")),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Some((RETRY_AFTER, "1")),
            _ => None,
        };
        match extra {
            Some((name, value)) => answer.with(name, HeaderValue::from_static(value)),
            None => answer,
        }
    }
}

/// Whoever has no key learns nothing; whoever has one learns what it lacks.
impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let (status, message) = match denied {
            Denied::NoKey | Denied::WrongKey => {
                (StatusCode::FORBIDDEN, "The Authorization header does not carry the API key.".to_owned())
            }
            Denied::Expired => (StatusCode::FORBIDDEN, "The API key has expired.".to_owned()),
            Denied::WeakKey => (StatusCode::FORBIDDEN, WEAK.to_owned()),
            Denied::Scope(scope) => {
                (StatusCode::FORBIDDEN, format!("The API key does not have the scope `{scope}`."))
            }
            Denied::Channel => (StatusCode::FORBIDDEN, "The API key is not for this channel.".to_owned()),
            Denied::Query => (StatusCode::BAD_REQUEST, IN_QUERY.to_owned()),
            Denied::Several => (StatusCode::BAD_REQUEST, SEVERAL.to_owned()),
        };
        Self { status, message, reason: Some(denied.reason()) }
    }
}

impl Api {
    /// Answers a request to one of [`Route`]'s paths.
    pub(super) async fn serve_seed(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let answer = match self.admit(&head) {
            Ok(Action::Token(channel)) => self.channel_token(&channel).await,
            Ok(Action::Publish(publish, sender)) => {
                self.read_and_store(publish, sender, &head.headers, body).await
            }
            Err(refusal) => {
                http::refuse_body(&head.headers, body, API_BODY_BYTES_MAX).await;
                Err(refusal)
            }
        };
        answer.unwrap_or_else(|refusal| refusal.answer().into())
    }

    /// What a request to publish is, if everything about it is good.
    pub(super) fn recognize_message(&self, head: &Head<'_>, body: &[u8]) -> Option<PublishRequest> {
        let Some(Route::Message(name)) = Route::of(head.path) else { return None };
        if head.method != Method::POST.as_str() || head.query.is_some() || head.has(&CONTENT_ENCODING) {
            return None;
        }
        let keys = self.keys.keys();
        let key = identify(&keys, head, Place::Authorization, self.hub.clock()).ok()?;
        let channel = channel(name).ok()?;
        key.admit(Scope::Publish, Some(&channel)).ok()?;
        let idempotency_key = idempotency::key_of(head).ok()?;
        let data = message::data_in(body).ok().filter(|data| data.len() <= DATA_BYTES_MAX)?;
        let publish = Publish { channel, idempotency_key };
        let request = publish.into_request(Bytes::copy_from_slice(data));
        // The last, because it counts.
        self.hub.gate.admit_key(key.name(), 1, self.hub.clock()).ok()?;
        Some(request)
    }

    /// Publishes what was [recognized](Self::recognize_message).
    pub(super) fn call_message(&self, request: PublishRequest) -> Answering<'_> {
        let mut publishing = in_time(self.hub.publish(request));
        Box::pin(async move {
            let published = (&mut publishing).await;
            self.kept_alive(answer_to(published).unwrap_or_else(Refusal::answer))
        })
    }

    /// Judges a request by its head alone.
    fn admit(&self, head: &Parts) -> Result<Action, Refusal> {
        if head.method != Method::POST {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Use POST."));
        }
        if is_key_in_query(head.uri.query()) {
            return Err(Denied::Query.into());
        }
        let keys = self.keys.keys();
        let key = identify(&keys, &head.headers, Place::Authorization, self.hub.clock())?;
        match Route::of(head.uri.path()) {
            Some(Route::Channel(name)) => {
                key.admit(Scope::Tokens, None)?;
                let channel = channel(name)?;
                key.admit(Scope::Tokens, Some(&channel))?;
                Ok(Action::Token(channel))
            }
            Some(Route::Message(name)) => {
                key.admit(Scope::Publish, None)?;
                if head.headers.contains_key(CONTENT_ENCODING) {
                    let message = "Send the body without a Content-Encoding.";
                    return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
                }
                let channel = channel(name)?;
                key.admit(Scope::Publish, Some(&channel))?;
                let idempotency_key = idempotency::key_of(&head.headers)
                    .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
                if self.hub.gate.admit_key(key.name(), 1, self.hub.clock()).is_err() {
                    let message = "More is published with the API key than may be. Try again later.";
                    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, message);
                    return Err(refusal.because(RequestRefused::KeyRate));
                }
                Ok(Action::Publish(Publish { channel, idempotency_key }, key.sender()))
            }
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "There is nothing here.")),
        }
    }

    async fn channel_token(&self, channel: &ChannelName) -> Result<Response, Refusal> {
        match self.hub.tokens.get_or_create(channel).await {
            Ok(token) => Ok(http::json(
                StatusCode::OK,
                format!(r#"{{"success": true, "token": "{}"}}"#, token.reveal()),
            )),
            Err(error) => {
                error!(%error, "a token could not be made");
                let message = "The token could not be stored. Try again; the server's log says why.";
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message))
            }
        }
    }

    async fn read_and_store(
        &self,
        publish: Publish,
        sender: Sender,
        headers: &HeaderMap,
        body: Received,
    ) -> Result<Response, Refusal> {
        if body.size_hint().lower() > API_BODY_BYTES_MAX as u64 {
            http::refuse_body(headers, body, 4 * API_BODY_BYTES_MAX).await;
            return Err(body_refusal(BodyError::TooLarge));
        }
        let body = http::read_body(body, API_BODY_BYTES_MAX, sender).await.map_err(body_refusal)?;
        self.store(publish, &body).await.map(Response::from)
    }

    /// Stores what a body holds.
    async fn store(&self, publish: Publish, body: &Bytes) -> Result<Answer, Refusal> {
        let data = message::data_in(body).map_err(|error| match error {
            MessageError::Format => {
                // The original's own words, which clients may have been written against.
                Refusal::new(StatusCode::BAD_REQUEST, "Body is in incorrect format. Key 'message' not found.")
            }
            MessageError::TooDeep => Refusal::new(
                StatusCode::BAD_REQUEST,
                format!("The message is nested deeper than {DEPTH_MAX} levels."),
            ),
            MessageError::Checkpoint => Refusal::new(
                StatusCode::BAD_REQUEST,
                "The message has the form of a cursor, which clients would take for their place. Put it into an object.",
            ),
        })?;
        if data.len() > DATA_BYTES_MAX {
            let message = format!("The message is {} bytes, the limit is {DATA_BYTES_MAX}.", data.len());
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let request = publish.into_request(message::shared(data, body));
        answer_to(in_time(self.hub.publish(request)).await)
    }
}

/// What a publisher is told.
fn answer_to(published: Result<Result<Published, PublishError>, TooLate>) -> Result<Answer, Refusal> {
    let published = published.map_err(|late| {
        let message = format!("{late} The message may or may not be stored.");
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, message)
    })?;
    match published {
        Ok(_) => {
            let body = Bytes::from_static(br#"{"success": true}"#);
            Ok(Answer::fresh(StatusCode::OK, http::JSON, body))
        }
        Err(PublishError::KeyReused) => {
            let message = "The idempotency key belongs to another message of this channel.";
            Err(Refusal::new(StatusCode::CONFLICT, message).because(RequestRefused::Conflict))
        }
        Err(PublishError::TooFast | PublishError::TooMany(_)) => {
            let message = "The channel gets more messages than it may. Try again later.";
            Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, message).because(RequestRefused::ChannelRate))
        }
        Err(PublishError::Overloaded | PublishError::Congested) => {
            let message = "The server has too much to do; the message was not stored. Try again.";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).because(RequestRefused::Overloaded))
        }
        Err(PublishError::ShortOfMemory) => {
            let message = "The server is short of memory; the message was not stored. Try again.";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).because(RequestRefused::Memory))
        }
        Err(PublishError::TooManyChannels) => {
            let message = "The server has no memory for more channels; the message was not stored.";
            Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, message).because(RequestRefused::Channels))
        }
        Err(PublishError::StorageFull) => {
            let message = "The server's disk is full; the message was not stored.";
            Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, message))
        }
        // It may be found after a restart: neither yes nor no would be true.
        Err(error @ (PublishError::InDoubt | PublishError::Stopped)) => {
            error!(%error, "a message may not have been stored");
            let message = "The disk failed while the message was being stored; it may or may not be stored.";
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, message))
        }
        Err(error) => {
            debug!(%error, "a message could not be stored");
            let message = "The message could not be stored. Try again; the server's log says why.";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message))
        }
    }
}

fn channel(encoded: &str) -> Result<ChannelName, Refusal> {
    let name: Cow<'_, [u8]> = percent_decode_str(encoded).into();
    ChannelName::parse_bytes(&name).map_err(|error| {
        let text = error.to_string();
        let mut letters = text.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        Refusal::new(
            StatusCode::BAD_REQUEST,
            first.into_iter().chain(letters).chain(['.']).collect::<String>(),
        )
    })
}

fn body_refusal(error: BodyError) -> Refusal {
    match error {
        BodyError::TooLarge => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is larger than {API_BODY_BYTES_MAX} bytes."),
        ),
        BodyError::TooSlow => Refusal::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."),
        BodyError::Broken => Refusal::new(StatusCode::BAD_REQUEST, "The body could not be read."),
        BodyError::NoRoom => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many large bodies are on their way. Try again.",
        )
        .because(RequestRefused::Overloaded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_everything_behind_its_route() {
        let check = |path, expected| assert_eq!(Route::of(path), expected, "{path}");
        check("/channel/a", Some(Route::Channel("a")));
        check("/message/a/b//c/", Some(Route::Message("a/b//c/")));
        check("/channel/..%2f..", Some(Route::Channel("..%2f..")));
        check("/channel/", Some(Route::Channel("")));
        check("/channel", Some(Route::Channel("")));
        check("/channels/a", None);
        check("/message_box", None);
        check("/", None);
    }

    #[test]
    fn names_are_decoded_to_exactly_their_bytes() {
        let check = |encoded, expected: Result<&str, &str>| match (channel(encoded), expected) {
            (Ok(name), Ok(expected)) => assert_eq!(name.as_str(), expected),
            (Err(refusal), Err(text)) => assert!(refusal.message.contains(text), "{}", refusal.message),
            (result, _) => panic!(
                "{encoded}: {}",
                result.map_or_else(|refusal| refusal.message, |name| name.to_string())
            ),
        };
        check("user%2F42", Ok("user/42"));
        check("a+b%20c", Ok("a+b c"));
        check("%E9%A0%BB%E9%81%93", Ok("頻道"));
        check("..%2f..%2fetc%2fpasswd", Ok("../../etc/passwd"));
        check("100%", Ok("100%"));
        check("", Err("Channel name is empty."));
        check("%00", Err("U+0000"));
        check("%0d%0aX:1", Err("U+000D"));
        check("%c0%ae", Err("not UTF-8"));
        check("%ff", Err("not UTF-8"));
    }
}
