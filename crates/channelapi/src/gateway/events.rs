//! The events of clients: `join_channel`, `auth` and `ack` in; what they mean is in the doors.

use super::acks;
use super::connection::Connection;
use super::connection::application::Handled;
use super::doors::{Doors, Refusal};
use super::frames;
use super::join::form_of;
use super::requests::{Auth, Fresh, JoinRequest};
use super::socketio::{Event, Events, admit};
use crate::identity::Identity;
use crate::metrics::EventReceived;
use channelapi_core::delivery::Subscriber as _;
use channelapi_core::hub::Hub;
use channelapi_protocol::socketio::{Arguments, ROOT};
use std::sync::Arc;

/// Lets clients into channels.
pub(crate) struct ChannelEvents {
    doors: Arc<Doors>,
}

impl ChannelEvents {
    /// Joins go to `hub`, and `identity` judges what clients bring.
    pub(crate) fn new(hub: Arc<Hub>, identity: Arc<Identity>) -> Self {
        Self { doors: Arc::new(Doors::new(hub, identity)) }
    }
}

impl Events for ChannelEvents {
    fn has_namespace(&self, namespace: &str) -> bool {
        namespace == ROOT
    }

    fn enter(&self, connection: &Arc<Connection>, namespace: &str, auth: &str) -> Handled {
        let auth = match Auth::parse(auth) {
            Ok(auth) => auth,
            Err(error) => {
                let refusal = Refusal::from(error);
                refusal.counted().count();
                connection.send(&refusal.frame());
                return Handled::Now;
            }
        };
        if auth.has_tokens() {
            let (doors, connection) = (self.doors.clone(), connection.clone());
            return Handled::Later(Box::pin(async move { doors.enter(&connection, auth).await }));
        }
        let admission = admit(connection, namespace, None);
        connection.namespaces.lock().form = form_of(auth.is_meta);
        connection.send(&frames::join(&[admission, frames::connected()]));
        Handled::Now
    }

    fn event(&self, connection: &Arc<Connection>, event: Event<'_>) -> Handled {
        let Some(Arguments { name, values }) = Arguments::parse(event.data) else {
            EventReceived::Unknown.count();
            connection.may_send();
            return Handled::Now;
        };
        let may = if name == "join_channel" { connection.may_join() } else { connection.may_send() };
        if !may {
            return Handled::Now;
        }
        let id = event.ack;
        match &*name {
            "join_channel" => {
                EventReceived::Join.count();
                let (doors, connection) = (self.doors.clone(), connection.clone());
                let request = values.first().and_then(|argument| JoinRequest::parse(argument));
                Handled::Later(Box::pin(async move { doors.join(&connection, id, request).await }))
            }
            "auth" => {
                EventReceived::Auth.count();
                let (doors, connection) = (self.doors.clone(), connection.clone());
                let fresh = Fresh::parse(values.first().copied());
                Handled::Later(Box::pin(async move { doors.refresh(&connection, id, fresh).await }))
            }
            "ack" => {
                EventReceived::Ack.count();
                acks::handle(&self.doors, connection, id, values.first().copied());
                Handled::Now
            }
            // Clients may emit what they like; nobody hears it.
            _ => {
                EventReceived::Unknown.count();
                Handled::Now
            }
        }
    }

    fn left(&self, connection: &Arc<Connection>) -> Handled {
        self.doors.forget(connection);
        let done = self.doors.hub.disconnect(connection.id());
        Handled::Later(Box::pin(async move { _ = done.await }))
    }

    fn drained(&self, connection: &Connection) {
        self.doors.hub.drained(connection.id());
    }

    fn revoked(&self, connection: &Connection) {
        self.doors.forget(connection);
        connection.send_away();
    }

    fn closed(&self, connection: &Connection) {
        self.doors.forget(connection);
        drop(self.doors.hub.disconnect(connection.id()));
    }
}
