//! Socket.IO on top of Engine.IO: entering and leaving namespaces, events, and the attachments of binary ones.
//!
//! Invariants:
//! - A client is registered in a namespace before it is told so: an event that it sends at once finds it there.
//! - Events of one client are handled in the order they came.

use super::connection::Connection;
use super::connection::application::{Application, Handled, Inbound};
use super::disconnect::Disconnect;
use super::namespaces::Incomplete;
use super::{frames, random_id};
use crate::metrics::JoinRefused;
use crate::receiving::Receiving;
use channelapi_core::clock::millis_of;
use channelapi_core::limits::{ATTACHMENTS_MAX, ATTACHMENTS_TIMEOUT};
use channelapi_protocol::engineio::Frame;
use channelapi_protocol::socketio::{Attachments, Kind, Packet, ROOT};
use std::sync::Arc;
use std::time::Duration;

/// One event of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    /// The namespace it is in.
    pub(crate) namespace: &'a str,
    /// The number its answer is asked for under.
    pub(crate) ack: Option<u64>,
    /// Its name and arguments, a JSON array.
    pub(crate) data: &'a str,
    /// What its placeholders stand for.
    pub(crate) attachments: &'a [Vec<u8>],
}

/// What answers the events of clients.
pub(crate) trait Events: Send + Sync + 'static {
    /// Whether clients may enter a namespace.
    fn has_namespace(&self, namespace: &str) -> bool;

    /// A client wants to enter. Whoever lets it in calls [`admit`] and sends its frame. `auth` is what it brought, an object or
    /// `""`.
    fn enter(&self, connection: &Arc<Connection>, namespace: &str, auth: &str) -> Handled;

    /// An event of a client that is in its namespace.
    fn event(&self, connection: &Arc<Connection>, event: Event<'_>) -> Handled;

    /// A client has left the root namespace.
    fn left(&self, connection: &Arc<Connection>) -> Handled;

    /// Nothing waits for the client any more; somebody had asked to be told.
    fn drained(&self, connection: &Connection);

    /// What the client was let in with is no longer good.
    fn revoked(&self, connection: &Connection);

    /// A client is gone.
    fn closed(&self, connection: &Connection);
}

/// Socket.IO with the events of one application.
pub(crate) struct SocketIo<E> {
    events: E,
    connect_timeout: Duration,
}

impl<E: Events> SocketIo<E> {
    /// A client must enter a namespace within `connect_timeout`.
    pub(crate) fn new(events: E, connect_timeout: Duration) -> Self {
        Self { events, connect_timeout }
    }

    fn packet(&self, connection: &Arc<Connection>, packet: &Packet<'_>, attachments: &[Vec<u8>]) -> Handled {
        let is_inside = connection.namespaces.lock().holds(packet.namespace);
        let is_event = matches!(packet.kind, Kind::Event | Kind::BinaryEvent);
        if !is_event && !connection.may_send() {
            return Handled::Now;
        }
        match packet.kind {
            Kind::Connect if !is_inside => return self.connect(connection, packet),
            Kind::Event | Kind::BinaryEvent if is_inside => {
                let Packet { namespace, ack, data, .. } = *packet;
                return self.events.event(connection, Event { namespace, ack, data, attachments });
            }
            // We ask for no answers; a late one to a former self does no harm.
            Kind::Ack | Kind::BinaryAck if is_inside => {}
            Kind::Disconnect => {
                connection.namespaces.lock().leave(packet.namespace);
                if packet.namespace == ROOT && is_inside {
                    return self.events.left(connection);
                }
            }
            // As in the reference server: whoever does this is no client of this protocol.
            _ => connection.close(Disconnect::Protocol),
        }
        Handled::Now
    }

    fn connect(&self, connection: &Arc<Connection>, packet: &Packet<'_>) -> Handled {
        let namespace = packet.namespace;
        if self.events.has_namespace(namespace) {
            return self.events.enter(connection, namespace, packet.data);
        }
        JoinRefused::Namespace.count();
        let refusal = r#"{"message":"Invalid namespace"}"#;
        connection.send(&frames::packet(&Packet { namespace, ..Packet::new(Kind::ConnectError, refusal) }));
        Handled::Now
    }

    fn text(&self, connection: &Arc<Connection>, text: &str) -> Handled {
        if connection.namespaces.lock().incomplete.is_some() {
            connection.close(Disconnect::Protocol);
            return Handled::Now;
        }
        let Ok(packet) = Packet::parse(text, ATTACHMENTS_MAX) else {
            connection.close(Disconnect::Protocol);
            return Handled::Now;
        };
        // Nobody waits for the attachments of a client that is not inside: that would put off the end of its time to enter.
        let is_inside = connection.namespaces.lock().holds(packet.namespace);
        if packet.attachments == 0 || !is_inside {
            return self.packet(connection, &packet, &[]);
        }
        match Attachments::new(text, &packet, connection.gateway().settings.max_payload) {
            Ok(attachments) => {
                let incomplete = Incomplete { attachments, receiving: Receiving::default() };
                connection.namespaces.lock().incomplete = Some(Box::new(incomplete));
                connection.set_deadline(millis_of(ATTACHMENTS_TIMEOUT));
            }
            Err(_) => connection.close(Disconnect::Protocol),
        }
        Handled::Now
    }

    fn binary(&self, connection: &Arc<Connection>, bytes: &[u8]) -> Handled {
        let complete = {
            let mut namespaces = connection.namespaces.lock();
            let pushed = match &mut namespaces.incomplete {
                None => Err(Disconnect::Protocol),
                Some(incomplete) => incomplete.push(bytes),
            };
            pushed.map(|()| namespaces.incomplete.take_if(|incomplete| incomplete.attachments.is_complete()))
        };
        let complete = match complete {
            Ok(complete) => complete,
            Err(reason) => {
                connection.close(reason);
                None
            }
        };
        let Some(complete) = complete.map(|complete| complete.attachments) else {
            return Handled::Now;
        };
        connection.clear_deadline();
        let Ok(packet) = complete.packet() else {
            connection.close(Disconnect::Protocol);
            return Handled::Now;
        };
        self.packet(connection, &packet, complete.received())
    }
}

impl<E: Events> Application for SocketIo<E> {
    fn opened(&self, connection: &Arc<Connection>) {
        connection.set_deadline(millis_of(self.connect_timeout));
    }

    fn message(&self, connection: &Arc<Connection>, message: Inbound<'_>) -> Handled {
        match message {
            Inbound::Text(text) => self.text(connection, text),
            Inbound::Binary(bytes) => self.binary(connection, bytes),
        }
    }

    fn drained(&self, connection: &Connection) {
        self.events.drained(connection);
    }

    fn revoked(&self, connection: &Connection) {
        self.events.revoked(connection);
    }

    fn closed(&self, connection: &Connection) {
        self.events.closed(connection);
    }
}

/// Lets a client into a namespace. Returns the frame that tells it so, with `pid`, if it has one, to come back with.
pub(super) fn admit(connection: &Connection, namespace: &str, pid: Option<&str>) -> Frame {
    connection.namespaces.lock().enter(namespace);
    connection.let_in();
    let sid = random_id();
    let admission = match pid {
        None => format!(r#"{{"sid":"{sid}"}}"#),
        Some(pid) => format!(r#"{{"sid":"{sid}","pid":"{pid}"}}"#),
    };
    frames::packet(&Packet { namespace, ..Packet::new(Kind::Connect, &admission) })
}

/// Puts a client out of the root namespace for good: a stock client does not come back by itself.
pub(super) fn disconnect(connection: &Connection) {
    connection.namespaces.lock().leave(ROOT);
    connection.send(&frames::disconnect());
}
