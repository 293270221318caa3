//! The seam between Engine.IO and what speaks on top of it.

use super::Connection;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// One message of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Inbound<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// How far the handling of a message has come.
pub(crate) enum Handled {
    /// It is done.
    Now,
    /// It goes on. Nothing more is read from this client before it is done, so its messages are handled in order.
    Later(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// What runs on the connections of a [`Gateway`](crate::gateway::Gateway).
pub(crate) trait Application: Send + Sync + 'static {
    /// A session has opened.
    fn opened(&self, connection: &Arc<Connection>);

    /// A message arrived.
    fn message(&self, connection: &Arc<Connection>, message: Inbound<'_>) -> Handled;

    /// Nothing waits for the client any more; the application had asked to be told.
    fn drained(&self, connection: &Connection);

    /// What the client was let in with is no longer good.
    fn revoked(&self, connection: &Connection);

    /// The session has ended. Called once.
    fn closed(&self, connection: &Connection);
}
