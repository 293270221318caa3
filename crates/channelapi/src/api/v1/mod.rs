//! Version 1 of the HTTP API: which path and method is what, who may ask, and the name of each request.

mod batch;
mod body;
mod channel;
mod consumers;
mod denied;
mod fields;
mod history;
mod json;
mod problem;
mod publish;
mod query;
mod request_id;
mod revocations;
mod segment;
mod since;
mod stream;
mod time;
mod tokens;

pub(super) use stream::Streams;

use super::in_time::in_time;
use super::{Api, idempotency};
use crate::auth::{Denied, Key, Pass, Place, brings_key, identify, is_key_in_query};
use crate::config::scope::Scope;
use crate::http::{self, Answer, Answering, Head, Headers as _, Received, Request, Response};
use crate::receiving::Sender;
use body::utf8;
use bytes::Bytes;
use channelapi_core::limits::API_DISCARD_BYTES_MAX;
use channelapi_core::model::{ChannelName, ConsumerName};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use problem::{Code, Problem};
use publish::Draft;
use query::Query;
use request_id::{REQUEST_ID, RequestId};
use segment::{channel, consumer, text};
use std::net::IpAddr;
use std::sync::Arc;
use stream::{Opener, StreamGrant};

/// Segments of the longest path that means something, behind `/v1`.
const SEGMENTS_MAX: usize = 4;

/// What an admitted request is to do.
enum Call {
    Publish(ChannelName),
    PublishBatch,
    History(ChannelName),
    Message(ChannelName, String),
    Purge(ChannelName),
    Channel(ChannelName),
    Stream(ChannelName),
    IssueToken(ChannelName),
    RevokeTokens(ChannelName),
    RevokeToken(String),
    Disconnect(ChannelName),
    Revoke,
    Revocations,
    Forgive(String),
    Consumers(ChannelName),
    Consumer(ChannelName, ConsumerName),
    SetConsumer(ChannelName, ConsumerName),
    RemoveConsumer(ChannelName, ConsumerName),
}

/// A request to publish one message about which everything is good.
pub(crate) struct Publish {
    channel: ChannelName,
    idempotency_key: Option<Box<str>>,
    draft: Draft,
    request_id: RequestId,
}

/// What a request was admitted with, as far as that matters later.
struct Admitted {
    key: Option<Arc<Key>>,
    sender: Sender,
    grant: Option<StreamGrant>,
    /// The address that it counts for.
    address: Option<IpAddr>,
}

impl Call {
    /// Reads a path, which begins behind `/v1`, and a method.
    fn of(path: &str, method: &Method) -> Result<Self, Problem> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut segments = [""; SEGMENTS_MAX + 1];
        let mut count = 0;
        for (place, segment) in segments.iter_mut().zip(path.split('/')) {
            *place = segment;
            count += 1;
        }
        let segments = &segments[..count];
        // Who asks for a head alone is answered as who asks for all, and the body is left out. A stream would have no end.
        let has_end = !matches!(segments, ["channels", _, "stream"]);
        let method = if *method == Method::HEAD && has_end { &Method::GET } else { method };
        let call = match (segments, method.as_str()) {
            ([.., ""], _) => return Err(no_route(&[])),
            (["messages"], "POST") => Self::PublishBatch,
            (["tokens", token], "DELETE") => Self::RevokeToken(text(token)),
            (["revocations"], "POST") => Self::Revoke,
            (["revocations"], "GET") => Self::Revocations,
            (["revocations", id], "DELETE") => Self::Forgive(text(id)),
            (["channels", name], "GET") => Self::Channel(channel(name)?),
            (["channels", name, "messages"], "POST") => Self::Publish(channel(name)?),
            (["channels", name, "messages"], "GET") => Self::History(channel(name)?),
            (["channels", name, "messages"], "DELETE") => Self::Purge(channel(name)?),
            (["channels", name, "messages", id], "GET") => Self::Message(channel(name)?, text(id)),
            (["channels", name, "tokens"], "POST") => Self::IssueToken(channel(name)?),
            (["channels", name, "tokens"], "DELETE") => Self::RevokeTokens(channel(name)?),
            (["channels", name, "disconnect"], "POST") => Self::Disconnect(channel(name)?),
            (["channels", name, "stream"], "GET") => Self::Stream(channel(name)?),
            (["channels", name, "consumers"], "GET") => Self::Consumers(channel(name)?),
            (["channels", name, "consumers", who], "GET") => Self::Consumer(channel(name)?, consumer(who)?),
            (["channels", name, "consumers", who], "PUT") => {
                Self::SetConsumer(channel(name)?, consumer(who)?)
            }
            (["channels", name, "consumers", who], "DELETE") => {
                Self::RemoveConsumer(channel(name)?, consumer(who)?)
            }
            _ => return Err(no_route(segments)),
        };
        Ok(call)
    }

    /// What a key must allow for it.
    fn scope(&self) -> Scope {
        match self {
            Self::Publish(_) | Self::PublishBatch => Scope::Publish,
            Self::History(_)
            | Self::Message(..)
            | Self::Channel(_)
            | Self::Stream(_)
            | Self::Consumers(_)
            | Self::Consumer(..) => Scope::Read,
            Self::IssueToken(_) | Self::RevokeTokens(_) | Self::RevokeToken(_) => Scope::Tokens,
            Self::Purge(_)
            | Self::Disconnect(_)
            | Self::Revoke
            | Self::Revocations
            | Self::Forgive(_)
            | Self::SetConsumer(..)
            | Self::RemoveConsumer(..) => Scope::Admin,
        }
    }

    /// The channel that it is about. `None` if that is found out on the way: then the key goes along.
    fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::PublishBatch
            | Self::RevokeToken(_)
            | Self::Revoke
            | Self::Revocations
            | Self::Forgive(_) => None,
            Self::Publish(channel)
            | Self::History(channel)
            | Self::Message(channel, _)
            | Self::Purge(channel)
            | Self::Channel(channel)
            | Self::Stream(channel)
            | Self::IssueToken(channel)
            | Self::RevokeTokens(channel)
            | Self::Disconnect(channel)
            | Self::Consumers(channel)
            | Self::Consumer(channel, _)
            | Self::SetConsumer(channel, _)
            | Self::RemoveConsumer(channel, _) => Some(channel),
        }
    }

    fn has_body(&self) -> bool {
        matches!(
            self,
            Self::Publish(_)
                | Self::PublishBatch
                | Self::IssueToken(_)
                | Self::Revoke
                | Self::SetConsumer(..)
        )
    }

    /// Whether its query means something, which whoever answers it finds out.
    fn has_query(&self) -> bool {
        matches!(self, Self::History(_) | Self::Stream(_) | Self::Revocations)
    }
}

/// The channel's segment in the path of [`Call::Publish`], which is asked for more often than all others.
fn published_to(path: &str) -> Option<&str> {
    let segment = path.strip_prefix("/v1/channels/")?.strip_suffix("/messages")?;
    (!segment.as_bytes().contains(&b'/')).then_some(segment)
}

/// Whether it is the path of [`Call::Stream`], for some channel.
pub(super) fn is_stream(path: &str) -> bool {
    let segment = path.strip_prefix("/v1/channels/").and_then(|rest| rest.strip_suffix("/stream"));
    segment.is_some_and(|segment| !segment.contains('/'))
}

/// Why a path and a method are no call.
fn no_route(segments: &[&str]) -> Problem {
    match segments {
        ["messages"] | ["channels", _, "disconnect"] => Problem::method("POST"),
        ["tokens" | "revocations", _] => Problem::method("DELETE"),
        ["revocations"] => Problem::method("GET, HEAD, POST"),
        ["channels", _, "stream"] => Problem::method("GET"),
        ["channels", _] | ["channels", _, "consumers"] | ["channels", _, "messages", _] => {
            Problem::method("GET, HEAD")
        }
        ["channels", _, "messages"] => Problem::method("GET, HEAD, POST, DELETE"),
        ["channels", _, "tokens"] => Problem::method("POST, DELETE"),
        ["channels", _, "consumers", _] => Problem::method("GET, HEAD, PUT, DELETE"),
        _ => Problem::new(Code::NotFound, "There is no such route in /v1."),
    }
}

impl Api {
    /// Answers a request to a path of version 1.
    pub(super) async fn serve_v1(&self, request: Request, address: Option<IpAddr>) -> Response {
        let (head, body) = request.into_parts();
        let request_id = RequestId::of(head.headers.first(&REQUEST_ID)).into_value();
        let answer = if head.method == Method::OPTIONS && is_stream(head.uri.path()) {
            // A browser asks before it sends, without a key or token.
            self.streams.preflight(&head.headers)
        } else {
            match self.admit_v1(&head, address).await {
                Ok((call, admitted)) => self.call(call, admitted, &head, body).await,
                Err(problem) => {
                    http::refuse_body(&head.headers, body, API_DISCARD_BYTES_MAX).await;
                    Err(problem)
                }
            }
        };
        let mut response = answer.unwrap_or_else(|problem| match head.uri.path() {
            path if Self::takes_tokens(path) => self.streams.refusal(problem, &head.headers, &request_id),
            _ => problem.answer(&request_id).into(),
        });
        response.headers_mut().insert(REQUEST_ID, request_id);
        response
    }

    /// Answers whoever wants a stream and has tried too many tokens, unheard. Counts it.
    pub(crate) fn refuse_attempts(&self, head: &HeaderMap) -> Response {
        self.refuse_stream(head, Problem::new(Code::TooManyAttempts, "This address has to wait."))
    }

    /// Answers whoever wants a stream while memory is short, unheard. Counts it.
    pub(crate) fn refuse_for_memory(&self, head: &HeaderMap) -> Response {
        self.refuse_stream(head, Problem::new(Code::ShortOfMemory, "No stream is opened."))
    }

    /// The answer to a request for a stream that is refused for something else than what it says.
    fn refuse_stream(&self, head: &HeaderMap, problem: Problem) -> Response {
        let request_id = RequestId::of(head.first(&REQUEST_ID)).into_value();
        let mut response = self.streams.refusal(problem, head, &request_id);
        response.headers_mut().insert(REQUEST_ID, request_id);
        response
    }

    /// What a request to publish is, if everything about it is good.
    pub(super) fn recognize_v1(&self, head: &Head<'_>, body: &[u8]) -> Option<Publish> {
        if head.method != Method::POST.as_str() || head.query.is_some() || head.has(&CONTENT_ENCODING) {
            return None;
        }
        let channel = channel(published_to(head.path)?).ok()?;
        let clock = self.hub.clock();
        let keys = self.keys.keys();
        let key = identify(&keys, head, Place::AnyHeader, clock).ok()?;
        key.admit(Scope::Publish, Some(&channel)).ok()?;
        let idempotency_key = idempotency::key_of(head).ok()?;
        let own = |data: &str| Bytes::copy_from_slice(data.as_bytes());
        let draft = publish::draft(std::str::from_utf8(body).ok()?, own, || clock.unix_millis()).ok()?;
        let request_id = RequestId::of(head.first(&REQUEST_ID));
        let publish = Publish { channel, idempotency_key, draft, request_id };
        // The last, because it counts.
        self.hub.gate.admit_key(key.name(), 1, clock).ok()?;
        Some(publish)
    }

    /// Publishes what was [recognized](Self::recognize_v1).
    pub(super) fn call_v1(&self, publish: Publish) -> Answering<'_> {
        let Publish { channel, idempotency_key, draft, request_id } = publish;
        if draft.is_volatile {
            let sending = publish::send(&self.hub, channel.clone(), draft);
            return Box::pin(async move {
                let sent = sending.await.map(|()| publish::answer_to_sent(&channel));
                self.named(sent, request_id)
            });
        }
        let request = draft.into_request(channel.clone(), idempotency_key);
        let mut publishing = in_time(self.hub.publish(request));
        Box::pin(async move {
            let published = (&mut publishing).await;
            self.named(publish::answer_to(&channel, published), request_id)
        })
    }

    /// An answer with the request's name, on a connection that is kept.
    fn named(&self, answer: Result<Answer, Problem>, request_id: RequestId) -> Answer {
        let request_id = request_id.into_value();
        let answer = answer.unwrap_or_else(|problem| problem.answer(&request_id));
        self.kept_alive(answer.with(REQUEST_ID, request_id))
    }

    /// Judges a request by its head alone. What it was admitted with comes along for a call that outlives the judgement.
    async fn admit_v1(&self, head: &Parts, address: Option<IpAddr>) -> Result<(Call, Admitted), Problem> {
        let path = head.uri.path().strip_prefix("/v1").unwrap_or_default();
        let call = Call::of(path, &head.method);
        if is_key_in_query(head.uri.query()) {
            return Err(Denied::Query.into());
        }
        let is_any_page = matches!(call, Ok(Call::Stream(_))) && self.streams.is_any_page(&head.headers);
        let judged = match self.admit_key(&call, &head.headers) {
            Err(Denied::Several) => Err(Denied::Several),
            _ if is_any_page => Err(Denied::NoKey),
            judged => judged,
        };
        let admitted = match judged {
            Ok((key, sender)) => Admitted { key, sender, grant: None, address },
            // Whatever else it carries, who stood in front of the server may have let in somebody else.
            Err(denied @ Denied::Several) => return Err(denied.into()),
            // A stranger learns nothing of what there is.
            Err(denied) => {
                let opened = match &call {
                    Ok(Call::Stream(channel)) => {
                        stream::opened_by_token(&self.hub, &self.identity, channel, head).await?
                    }
                    _ => None,
                };
                let Some(grant) = opened else {
                    if is_any_page && brings_key(&head.headers) {
                        return Err(stream::key_of_page());
                    }
                    // Of strangers the code does not tell whether they have a key.
                    if matches!(denied, Denied::NoKey | Denied::WrongKey) {
                        denied.reason().count();
                    }
                    return Err(denied.into());
                };
                Admitted { key: None, sender: Sender::Stranger, grant: Some(grant), address }
            }
        };
        let call = call?;
        if !call.has_query() {
            Query::parse(head.uri.query().unwrap_or_default())?.finish()?;
        }
        if call.has_body() && head.headers.contains_key(CONTENT_ENCODING) {
            return Err(Problem::new(Code::Encoding, "The request has a Content-Encoding."));
        }
        if let (Call::Publish(_), Some(key)) = (&call, &admitted.key)
            && let Err(error) = self.hub.gate.admit_key(key.name(), 1, self.hub.clock())
        {
            return Err(Problem::of_key(&error));
        }
        Ok((call, admitted))
    }

    /// Judges the key of a request, which comes along if it is needed later. Whether there is such a call at all is only for who has one.
    fn admit_key(
        &self,
        call: &Result<Call, Problem>,
        headers: &HeaderMap,
    ) -> Result<(Option<Arc<Key>>, Sender), Denied> {
        let keys = self.keys.keys();
        let key = identify(&keys, headers, Place::AnyHeader, self.hub.clock())?;
        let Ok(call) = call else { return Ok((None, Sender::Stranger)) };
        key.admit(call.scope(), call.channel())?;
        // A revocation may concern every channel: it is for keys that have them all.
        if matches!(call, Call::Revoke | Call::Revocations | Call::Forgive(_)) && key.is_limited() {
            return Err(Denied::Channel);
        }
        let is_needed = match call {
            Call::PublishBatch | Call::RevokeToken(_) | Call::Stream(_) => true,
            Call::Publish(_) => self.hub.gate.has_key_rate(),
            _ => false,
        };
        Ok((is_needed.then(|| key.clone()), key.sender()))
    }

    async fn call(
        &self,
        call: Call,
        admitted: Admitted,
        head: &Parts,
        body: Received,
    ) -> Result<Response, Problem> {
        let Admitted { key, sender, grant, address } = admitted;
        let hub = &self.hub;
        let query = head.uri.query().unwrap_or_default();
        let headers = &head.headers;
        let body = if call.has_body() {
            body::read(headers, body, sender).await?
        } else {
            body::none(headers, body, sender).await?
        };
        match call {
            Call::Publish(channel) => {
                let key = idempotency::key_of(headers)?;
                publish::publish(hub, channel, key, &body).await.map(Response::from)
            }
            Call::PublishBatch => batch::publish(hub, key.as_deref(), headers, &body).await,
            Call::History(channel) => history::page(hub, channel, query).await,
            Call::Message(channel, id) => history::message(hub, channel, &id).await,
            Call::Purge(channel) => history::purge(hub, channel).await,
            Call::Channel(channel) => Ok(channel::describe(hub, &channel)),
            Call::Stream(channel) => {
                let pass = key.map(|key| Pass::new(self.keys.clone(), key, Scope::Read, channel.clone()));
                let opener = Opener { pass: pass.map(Arc::new), grant, address };
                stream::open(&self.streams, &self.identity, channel, opener, headers, query).await
            }
            Call::IssueToken(channel) => tokens::issue(hub, &channel, &body).await,
            Call::RevokeTokens(channel) => tokens::revoke(hub, channel).await,
            Call::RevokeToken(token) => tokens::revoke_token(hub, key.as_deref(), token).await,
            Call::Disconnect(channel) => revocations::disconnect(hub, channel).await,
            Call::Revoke => revocations::revoke(hub, &self.identity, &body).await,
            Call::Revocations => revocations::list(hub, query).await,
            Call::Forgive(id) => revocations::forgive(hub, &id).await,
            Call::Consumers(channel) => consumers::list(hub, &channel).await,
            Call::Consumer(channel, name) => consumers::show(hub, &channel, &name).await,
            Call::SetConsumer(channel, name) => consumers::set(hub, &channel, &name, &body).await,
            Call::RemoveConsumer(channel, name) => consumers::remove(hub, &channel, &name).await,
        }
    }
}

/// An answer with a JSON object.
fn answer(status: StatusCode, object: json::Object) -> Response {
    short_answer(status, object).into()
}

/// The same for who makes it a response later, if at all.
fn short_answer(status: StatusCode, object: json::Object) -> Answer {
    Answer::fresh(status, "application/json", object.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &Method, path: &str) -> Result<Call, Problem> {
        Call::of(path, method)
    }

    #[test]
    fn a_name_is_one_segment_and_decoded_to_exactly_its_bytes() {
        let check = |segment: &str, expected: &str| match call(
            &Method::POST,
            &format!("/channels/{segment}/messages"),
        ) {
            Ok(Call::Publish(name)) => assert_eq!(name.as_str(), expected),
            _ => panic!("{segment}"),
        };
        check("a%2Fb", "a/b");
        check("a+b%20c", "a+b c");
        check("..", "..");
        check("messages", "messages");
        for (path, expected) in [("a%2Fb", Some("a%2Fb")), ("messages", Some("messages")), ("a/b", None)] {
            assert_eq!(published_to(&format!("/v1/channels/{path}/messages")), expected);
        }
        for other in
            ["/v1/channels/messages", "/v1/channels/a/messages/", "/v1/channels/a/tokens", "/v1/messages"]
        {
            assert_eq!(published_to(other), None, "{other}");
        }
        check("100%25", "100%");
        // Once, the broken escapes were parts of other names.
        for segment in ["", "%00", "%ff", "%E2%80%AEb", &"x".repeat(256), "a%2", "a%", "%zz", "a%%41", "%+1"]
        {
            let refused = call(&Method::POST, &format!("/channels/{segment}/messages")).err();
            assert_eq!(refused.map(|problem| problem.code), Some(Code::InvalidChannel), "{segment}");
        }
        for who in ["%FF", "b%2"] {
            let refused = call(&Method::GET, &format!("/channels/c/consumers/{who}")).err();
            assert_eq!(refused.map(|problem| problem.code), Some(Code::InvalidConsumer), "{who}");
        }
    }

    #[test]
    fn anything_else_is_not_found() {
        for path in [
            "",
            "/",
            "/channels",
            "/channels/a/b",
            "/channels/a/b/messages",
            "/channels/a/messages/",
            "/messages/",
        ] {
            let refused = call(&Method::GET, path).err();
            assert_eq!(refused.map(|problem| problem.code), Some(Code::NotFound), "{path}");
        }
    }
}
