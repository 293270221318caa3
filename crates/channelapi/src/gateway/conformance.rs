//! What the official protocol suites talk to: an Engine.IO echo, and a small Socket.IO application.

use super::connection::Connection;
use super::connection::application::{Application, Handled, Inbound};
use super::frames;
use super::socketio::{Event, Events, admit};
use channelapi_protocol::engineio::Frame;
use channelapi_protocol::socketio::{Arguments, Kind, Packet, ROOT, event_data};
use std::sync::Arc;

/// Sends every message back.
pub(crate) struct Echo;

impl Application for Echo {
    fn opened(&self, _: &Arc<Connection>) {}

    fn message(&self, connection: &Arc<Connection>, message: Inbound<'_>) -> Handled {
        connection.send(&match message {
            Inbound::Text(text) => Frame::text(&[b"4", text.as_bytes()]),
            Inbound::Binary(bytes) => Frame::binary(bytes),
        });
        Handled::Now
    }

    fn drained(&self, _: &Connection) {}

    fn revoked(&self, _: &Connection) {}

    fn closed(&self, _: &Connection) {}
}

/// Two namespaces that tell a client its `auth`; the root one sends `message` back and answers `message-with-ack`.
pub(crate) struct SuiteEvents;

impl Events for SuiteEvents {
    fn has_namespace(&self, namespace: &str) -> bool {
        matches!(namespace, ROOT | "/custom")
    }

    fn enter(&self, connection: &Arc<Connection>, namespace: &str, auth: &str) -> Handled {
        let data = event_data("auth", &[if auth.is_empty() { "{}" } else { auth }]);
        let greeting = frames::packet(&Packet { namespace, ..Packet::new(Kind::Event, &data) });
        let admission = admit(connection, namespace, None);
        connection.send(&frames::join(&[admission, greeting]));
        Handled::Now
    }

    fn event(&self, connection: &Arc<Connection>, event: Event<'_>) -> Handled {
        let Some(Arguments { name, values }) = Arguments::parse(event.data) else {
            return Handled::Now;
        };
        let is_binary = !event.attachments.is_empty();
        let (kind, ack, data) = match (&*name, event.ack) {
            ("message", _) if event.namespace == ROOT => {
                let kind = if is_binary { Kind::BinaryEvent } else { Kind::Event };
                (kind, None, event_data("message-back", &values))
            }
            ("message-with-ack", Some(_)) if event.namespace == ROOT => {
                let kind = if is_binary { Kind::BinaryAck } else { Kind::Ack };
                (kind, event.ack, format!("[{}]", values.join(",")))
            }
            _ => return Handled::Now,
        };
        let attachments = event.attachments.len();
        let answer = Packet { kind, attachments, namespace: event.namespace, ack, data: &data };
        let binary = event.attachments.iter().map(|bytes| Frame::binary(bytes));
        let answer: Vec<_> = std::iter::once(frames::packet(&answer)).chain(binary).collect();
        connection.send(&frames::join(&answer));
        Handled::Now
    }

    fn left(&self, _: &Arc<Connection>) -> Handled {
        Handled::Now
    }

    fn drained(&self, _: &Connection) {}

    fn revoked(&self, _: &Connection) {}

    fn closed(&self, _: &Connection) {}
}
