//! How version 1 says no: a problem document (RFC 9457) with a code that programs can rely on.

mod code;

pub(super) use code::Code;

use super::super::idempotency::KeyError;
use super::super::in_time::TooLate;
use super::json::Object;
use crate::http::Answer;
use channelapi_core::broker::PublishError;
use channelapi_core::model::{ChannelNameError, ConsumerNameError, EventNameError};
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use std::fmt::Display;
use tracing::{debug, error};

/// Why a request, or an item of a batch, was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: Code,
    /// What is wrong with this request.
    pub(super) detail: String,
    /// What to do, if that is not the same for all with this code.
    hint: Option<&'static str>,
    /// The methods that the path has, if it was the method.
    allow: Option<&'static str>,
    /// Whether the same request will be refused again, although others with this code may go well later.
    is_lasting: bool,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), hint: None, allow: None, is_lasting: false }
    }

    /// Something that a path names is not there. `hint` says why that may be.
    pub(super) fn not_found(detail: &str, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..Self::new(Code::NotFound, detail) }
    }

    /// The path has other methods.
    pub(super) fn method(allow: &'static str) -> Self {
        let detail = format!("Here is {allow}.");
        Self { allow: Some(allow), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    /// More comes with an API key than may.
    pub(super) fn of_key(error: &PublishError) -> Self {
        match error {
            PublishError::TooMany(most) => Self::too_many(Code::KeyTooFast, "the API key", *most),
            _ => Self::new(Code::KeyTooFast, "More comes with the API key than may; none of it was stored."),
        }
    }

    /// These are more than may ever come at once.
    fn too_many(code: Code, of: &str, most: u64) -> Self {
        Self {
            hint: Some("Nothing was stored. Send no more than that at once, and the others later."),
            is_lasting: true,
            ..Self::new(code, format!("These are more messages than {of} may have at once, which is {most}."))
        }
    }

    /// The seconds after which the same request may go well, if it passes by itself.
    pub(super) fn retry_after(&self) -> Option<&'static str> {
        self.code.retry_after().filter(|_| !self.is_lasting)
    }

    /// Counts it.
    pub(super) fn count(&self) {
        if let Some(reason) = self.code.reason() {
            reason.count();
        }
    }

    /// Something of ours failed.
    pub(super) fn unavailable(error: &impl Display) -> Self {
        error!(%error, "a request could not be served");
        Self::new(Code::Unavailable, "Something in the server failed. Try again.")
    }

    /// Counts it, and says what it is to the request of that id.
    pub(super) fn answer(self, request_id: &HeaderValue) -> Answer {
        self.count();
        self.into_answer(request_id.to_str().expect("it is ASCII"))
    }

    fn into_answer(self, request_id: &str) -> Answer {
        let retry_after = self.retry_after();
        let Self { code, detail, hint, allow, .. } = self;
        let mut document = Object::new()
            .text("type", &format!("urn:channelapi:problem:{}", code.name()))
            .text("title", code.title())
            .value("status", code.status().as_u16())
            .text("detail", &detail)
            .text("code", code.name())
            .text("hint", hint.unwrap_or_else(|| code.hint()))
            .text("request_id", request_id);
        if code == Code::Indeterminate {
            document = document.value("indeterminate", true);
        }
        let mut answer = Answer::fresh(code.status(), "application/problem+json", document.finish());
        if let Some(allow) = allow {
            answer = answer.with(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = retry_after {
            answer = answer.with(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        answer
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::StorageFull => Self::new(Code::StorageFull, "The message was not stored."),
            PublishError::TooManyChannels => {
                Self::new(Code::TooManyChannels, "The channel is not known, and nothing was stored.")
            }
            PublishError::KeyReused => {
                Self::new(Code::KeyReused, "In this channel, the key belongs to another event or other data.")
            }
            PublishError::BatchRefused => {
                Self::new(Code::BatchRefused, "Another item of this channel was refused.")
            }
            PublishError::Overloaded | PublishError::Congested => {
                Self::new(Code::Overloaded, "Too much waits for the disk or for subscribers.")
            }
            PublishError::ShortOfMemory => Self::new(Code::ShortOfMemory, "The message was not stored."),
            PublishError::TooFast => Self::new(Code::TooFast, "The channel gets more messages than it may."),
            PublishError::TooMany(most) => Self::too_many(Code::TooFast, "the channel", most),
            PublishError::NotStored(_) | PublishError::Fenced => {
                // The log is told once, by who could not store it.
                debug!(%error, "a message could not be stored");
                Self::new(Code::Unavailable, "The message was not stored.")
            }
            // It may be found after a restart: neither yes nor no would be true.
            PublishError::InDoubt => {
                error!(%error, "a message may not have been stored");
                Self::new(Code::Indeterminate, "The disk failed while the message was being stored.")
            }
            // Whoever stopped may have stored it before.
            PublishError::Stopped => Self::new(
                Code::Indeterminate,
                "The server stopped before it could say what came of the message.",
            ),
        }
    }
}

impl From<TooLate> for Problem {
    fn from(late: TooLate) -> Self {
        Self::new(Code::Indeterminate, late.to_string())
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        Self::new(Code::InvalidKey, error.to_string())
    }
}

impl From<ChannelNameError> for Problem {
    fn from(error: ChannelNameError) -> Self {
        Self::new(Code::InvalidChannel, sentence(&error))
    }
}

impl From<ConsumerNameError> for Problem {
    fn from(error: ConsumerNameError) -> Self {
        Self::new(Code::InvalidConsumer, sentence(&error))
    }
}

impl From<EventNameError> for Problem {
    fn from(error: EventNameError) -> Self {
        let code = match error {
            EventNameError::Reserved(_) => Code::ReservedEvent,
            _ => Code::InvalidEvent,
        };
        Self::new(code, sentence(&error))
    }
}

/// The text of an error as a sentence.
pub(super) fn sentence(error: &impl Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Response;
    use http_body_util::BodyExt as _;
    use hyper::StatusCode;
    use hyper::header::CONTENT_TYPE;
    use serde_json::Value;

    #[tokio::test]
    async fn a_document_says_all_there_is_to_say() {
        let document = |problem: Problem| async {
            let response = Response::from(problem.into_answer("id-1"));
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (head, serde_json::from_slice::<Value>(&body).unwrap())
        };
        let (head, body) = document(Problem::method("GET, POST")).await;
        assert_eq!(
            (head.status.as_u16(), &head.headers[ALLOW]),
            (405, &HeaderValue::from_static("GET, POST"))
        );
        assert_eq!(head.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(body["type"], "urn:channelapi:problem:method_not_allowed");
        assert_eq!((&body["status"], &body["request_id"]), (&405.into(), &"id-1".into()));
        assert_eq!(body["indeterminate"], Value::Null);

        let (_, body) = document(Problem::new(Code::NotFound, "No route.")).await;
        assert_eq!(body["hint"], "docs/http-api.md lists the routes.");
        let (_, body) = document(Problem::not_found("No token.", "Look elsewhere.")).await;
        assert_eq!((&body["code"], &body["hint"]), (&"not_found".into(), &"Look elsewhere.".into()));

        let (head, body) = document(PublishError::Fenced.into()).await;
        assert_eq!((head.status.as_u16(), &head.headers[RETRY_AFTER]), (503, &HeaderValue::from_static("1")));
        assert_eq!(body["code"], "unavailable");
        let (head, _) = document(PublishError::InDoubt.into()).await;
        assert_eq!(head.status, StatusCode::GATEWAY_TIMEOUT);
        let (head, body) = document(PublishError::Stopped.into()).await;
        assert_eq!((head.status.as_u16(), &body["indeterminate"]), (504, &true.into()));
        let (head, body) = document(PublishError::StorageFull.into()).await;
        assert_eq!((head.status.as_u16(), &body["code"]), (507, &"storage_full".into()));
    }

    #[test]
    fn an_error_becomes_a_sentence() {
        assert_eq!(sentence(&EventNameError::Empty), "The event's name is empty.");
    }
}
