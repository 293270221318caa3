//! The events of the seed contract: `join_channel` in, `clientevent` and `message` out.

use super::application::Handled;
use super::connection::Connection;
use super::disconnect::Disconnect;
use super::frames;
use super::socketio::{Event, Events, disconnect};
use channelapi_core::delivery::{Subscribe, Subscriber as _};
use channelapi_core::hub::{Hub, Lookup};
use channelapi_core::limits::CHANNELS_PER_CONNECTION_MAX;
use channelapi_core::model::ChannelName;
use channelapi_protocol::engineio::Frame;
use channelapi_protocol::socketio::{Arguments, ROOT};
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use tracing::error;

/// Lets clients join channels.
pub(crate) struct SeedEvents {
    hub: Arc<Hub>,
}

impl SeedEvents {
    /// Joins go to `hub`.
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    fn join(&self, connection: &Arc<Connection>, ack: Option<u64>, argument: Option<&str>) -> Handled {
        let lookup =
            argument.and_then(token_of).map_or(Lookup::Invalid, |token| self.hub.tokens.lookup(&token));
        let (hub, connection) = (self.hub.clone(), connection.clone());
        Handled::Later(Box::pin(async move {
            let channel = match lookup {
                Lookup::Valid(channel) => Some(channel),
                Lookup::Invalid => None,
                Lookup::Unknown(hash) => match hub.tokens.find(hash).await {
                    Ok(channel) => channel,
                    Err(error) => {
                        error!(%error, "a token could not be looked up");
                        // The token may well be good: the client should come back.
                        connection.close(Disconnect::Drain);
                        return;
                    }
                },
            };
            match channel {
                Some(channel) if has_room(&connection, &channel) => {
                    enter(&hub, &connection, channel, ack).await;
                }
                _ => refuse(&hub, &connection).await,
            }
        }))
    }
}

impl Events for SeedEvents {
    fn has_namespace(&self, namespace: &str) -> bool {
        namespace == ROOT
    }

    fn entered(&self, _: &Arc<Connection>, _: &str, _: &str) -> Frame {
        frames::connected()
    }

    fn event(&self, connection: &Arc<Connection>, event: Event<'_>) -> Handled {
        match Arguments::parse(event.data) {
            Some(Arguments { name, values }) if name == "join_channel" => {
                self.join(connection, event.ack, values.first().copied())
            }
            // Clients may emit what they like; nobody hears it.
            _ => Handled::Now,
        }
    }

    fn left(&self, connection: &Arc<Connection>) -> Handled {
        let done = self.hub.disconnect(connection.id());
        Handled::Later(Box::pin(async move { _ = done.await }))
    }

    fn closed(&self, connection: &Connection) {
        drop(self.hub.disconnect(connection.id()));
    }
}

/// Whether a client may join one more channel, or is in this one.
fn has_room(connection: &Connection, channel: &ChannelName) -> bool {
    let channels = &connection.namespaces.lock().channels;
    channels.len() < CHANNELS_PER_CONNECTION_MAX || channels.contains(channel)
}

/// Subscribes a client. Its answer leaves when the subscription is in place, and nothing else of it is handled before: that
/// keeps its answers in order, and the workers' queues short.
async fn enter(hub: &Hub, connection: &Arc<Connection>, channel: ChannelName, ack: Option<u64>) {
    let reply = frames::joined(&channel, ack);
    let is_new = {
        let channels = &mut connection.namespaces.lock().channels;
        let is_new = !channels.contains(&channel);
        if is_new {
            channels.reserve_exact(1);
            channels.push(channel.clone());
        }
        is_new
    };
    if is_new {
        let join = Subscribe { channel, subscriber: connection.clone(), reply: reply.into_wire() };
        // Fails only when the process ends.
        _ = hub.subscribe(join).await;
    } else {
        connection.send(&reply);
    }
}

/// Turns a client away: it leaves all its channels and then the namespace, as with the original.
async fn refuse(hub: &Hub, connection: &Arc<Connection>) {
    _ = hub.disconnect(connection.id()).await;
    disconnect(connection);
}

/// The token in the argument of `join_channel`: `{"token":"…"}`, as an object or as a string that holds one.
fn token_of(argument: &str) -> Option<Cow<'_, str>> {
    if !argument.starts_with('"') {
        return token_in(argument);
    }
    let object: String = serde_json::from_str(argument).ok()?;
    token_in(&object).map(|token| Cow::Owned(token.into_owned()))
}

fn token_in(object: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Join<'a> {
        #[serde(borrow)]
        token: Cow<'a, str>,
    }
    // An array of one string would pass for the struct.
    let object = object.trim_start();
    if object.starts_with('{') { Some(serde_json::from_str::<Join<'_>>(object).ok()?.token) } else { None }
}

#[cfg(test)]
mod tests {
    use super::token_of;

    #[test]
    fn a_token_is_taken_from_both_forms_and_no_other() {
        let check = |argument, expected: Option<&str>| {
            assert_eq!(token_of(argument).as_deref(), expected, "{argument}");
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
}
