//! The HTTP API for publishers: the routes of the seed contract, and version 1 under `/v1`.
//!
//! The key, and what it allows, is checked before anything else is read, so that a stranger costs us nothing but the head of a
//! request.

mod idempotency;
mod in_time;
mod message;
mod seed;
pub(crate) mod sse;
mod v1;

use crate::admission::Admission;
use crate::auth::{Denied, KeyRing, Place, identify, is_key_in_query};
use crate::config::Config;
use crate::config::origins::Origins;
use crate::config::scope::Scope;
use crate::http::{Answer, Answering, Head, Request, Response};
use crate::identity::Identity;
use crate::live::Live;
use crate::reload::{Change, Part};
use crate::spread::Guest;
use crate::waiting::Readers;
use channelapi_core::broker::PublishRequest;
use channelapi_core::hub::Hub;
use channelapi_core::limits::HTTP_IDLE_TIMEOUT;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use std::net::IpAddr;
use std::sync::Arc;
use v1::Streams;

/// Answers publishers.
pub(crate) struct Api {
    hub: Arc<Hub>,
    /// Who judges the tokens of event streams.
    identity: Arc<Identity>,
    keys: KeyRing,
    /// Tells publishers for how long they may keep an idle connection: a little less than we do, so that they never send a
    /// publication into one that is being closed.
    keep_alive: HeaderValue,
    streams: Arc<Streams>,
}

/// A request to publish one message about which everything is good.
pub(crate) enum Publishing {
    /// To `/message/{channel}`.
    Message(PublishRequest),
    /// To `/v1/channels/{channel}/messages`.
    V1(v1::Publish),
}

/// The header of that name, which is older than the standard's own list.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

impl Api {
    /// An API that lets in whoever has one of `keys`. Pages of `origins` may read streams, which `admission` counts.
    pub(crate) fn new(
        hub: Arc<Hub>,
        identity: Arc<Identity>,
        keys: KeyRing,
        origins: Live<Origins>,
        admission: Arc<Admission>,
    ) -> Self {
        let timeout = HTTP_IDLE_TIMEOUT.as_secs().saturating_sub(5);
        let keep_alive = HeaderValue::try_from(format!("timeout={timeout}")).expect("it is a header value");
        let streams = Arc::new(Streams::new(hub.clone(), origins, admission));
        Self { hub, identity, keys, keep_alive, streams }
    }

    /// Whether a path is one of ours.
    pub(crate) fn answers(path: &str) -> bool {
        is_v1(path) || seed::Route::of(path).is_some()
    }

    /// Whether a path can be asked for with a token instead of a key.
    pub(crate) fn takes_tokens(path: &str) -> bool {
        v1::is_stream(path)
    }

    /// Answers a request to one of our paths, which counts for an address.
    pub(crate) async fn serve(&self, request: Request, address: Option<IpAddr>) -> Response {
        let mut response = if is_v1(request.uri().path()) {
            self.serve_v1(request, address).await
        } else {
            self.serve_seed(request).await
        };
        if !response.body().is_stream() {
            response.headers_mut().insert(KEEP_ALIVE, self.keep_alive.clone());
        }
        response
    }

    /// What a request asks for that is made all the time, if everything about it is good. Whatever is not is for [`Api::serve`], which also
    /// says what is wrong.
    pub(crate) fn recognize(&self, head: &Head<'_>, body: &[u8]) -> Option<Publishing> {
        if is_v1(head.path) {
            self.recognize_v1(head, body).map(Publishing::V1)
        } else {
            self.recognize_message(head, body).map(Publishing::Message)
        }
    }

    /// Does what was [recognized](Self::recognize). It has begun when this returns.
    pub(crate) fn publish(&self, publishing: Publishing) -> Answering<'_> {
        match publishing {
            Publishing::Message(request) => self.call_message(request),
            Publishing::V1(publish) => self.call_v1(publish),
        }
    }

    fn kept_alive(&self, answer: Answer) -> Answer {
        answer.with(KEEP_ALIVE, self.keep_alive.clone())
    }

    /// Whether a request may see what the server says of itself: with a key that may read everywhere.
    pub(crate) fn admit_reader(&self, head: &Parts) -> Result<(), Denied> {
        if is_key_in_query(head.uri.query()) {
            return Err(Denied::Query);
        }
        let keys = self.keys.keys();
        let key = identify(&keys, &head.headers, Place::AnyHeader, self.hub.clock())?;
        key.admit(Scope::Read, None)?;
        if key.is_limited() { Err(Denied::Channel) } else { Ok(()) }
    }

    /// What a reload must do here when the keys have changed.
    pub(crate) fn reloading(&self) -> Box<dyn Part> {
        Box::new(Passes(self.streams.clone()))
    }

    /// Ends the event streams of whoever is revoked, whenever something is, until it is dropped.
    pub(crate) async fn keep_revoked_out(&self) {
        self.streams.keep_revoked_out().await;
    }

    /// Those who read event streams.
    pub(crate) fn readers(&self) -> Arc<dyn Readers> {
        self.streams.clone()
    }

    /// Lets nobody open another event stream, and says who reads one. They come back elsewhere or later.
    pub(crate) fn begin_drain(&self) -> Vec<Arc<dyn Guest>> {
        self.streams.begin_drain()
    }
}

/// What is said to who sends a key in the query of a URL.
const IN_QUERY: &str = "A key in a URL ends up in logs and histories. Send it in the header Authorization, and replace this one: others \
                        may have read it.";

/// What is said to who sends a header with a key twice.
const SEVERAL: &str = "The request has several headers Authorization, or several X-API-Key: send one. Of several, who stands in front of the \
                       server may have looked at another one than it would.";

/// What is said to who has a weak key and calls the server by a public name.
const WEAK: &str = "The API key is publicly known or too short, so it counts only where the server is called by its address, as localhost, or \
                    by another name that nobody can register.";

/// The passes of the streams: those of keys that are gone end with them.
struct Passes(Arc<Streams>);

impl Part for Passes {
    fn options(&self, _: &Config) -> &'static [&'static str] {
        &[]
    }

    fn prepare(&self, _: &Config) -> anyhow::Result<Change> {
        let streams = self.0.clone();
        Ok(Box::new(move || streams.end_invalid()))
    }
}

fn is_v1(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_whole_segment() {
        for path in ["/v1", "/v1/", "/v1/channels/a/messages", "/message/a", "/channel"] {
            assert!(Api::answers(path), "{path}");
        }
        assert!(Api::takes_tokens("/v1/channels/a/stream"));
        for path in ["/message/a/stream", "/v1/stream", "/v1/channels/a/consumers/stream"] {
            assert!(!Api::takes_tokens(path), "{path}");
        }
        for path in ["/", "/v10", "/v1x/messages", "/V1/messages", "/channels/a"] {
            assert!(!Api::answers(path), "{path}");
        }
    }
}
