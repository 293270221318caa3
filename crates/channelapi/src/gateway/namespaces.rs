//! What Socket.IO remembers of one client: where it is, and what it has not finished sending.

use super::disconnect::Disconnect;
use super::sessions::Session;
use crate::receiving::{NoRoom, Receiving};
use channelapi_core::delivery::Form;
use channelapi_core::model::ChannelName;
use channelapi_protocol::socketio::{Attachments, ROOT};

/// A binary packet of which attachments are missing.
pub(super) struct Incomplete {
    pub(super) attachments: Attachments,
    pub(super) receiving: Receiving,
}

/// What Socket.IO knows of one client.
pub(super) struct Namespaces {
    is_in_root: bool,
    others: Vec<Box<str>>,
    /// A binary packet of which attachments are missing.
    pub(super) incomplete: Option<Box<Incomplete>>,
    /// The channels it has joined.
    pub(super) channels: Vec<ChannelName>,
    /// How it wants its publications.
    pub(super) form: Form,
    /// What it may come back to, if it was let in through the handshake door.
    pub(super) session: Option<Box<Session>>,
}

impl Incomplete {
    /// Takes an attachment.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Disconnect> {
        self.attachments.push(bytes).map_err(|_| Disconnect::Protocol)?;
        self.receiving.hold(self.attachments.held_bytes()).map_err(|NoRoom| Disconnect::Memory)
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            is_in_root: false,
            others: Vec::new(),
            incomplete: None,
            channels: Vec::new(),
            form: Form::Plain,
            session: None,
        }
    }
}

impl Namespaces {
    /// Whether the client is in a namespace.
    pub(super) fn holds(&self, namespace: &str) -> bool {
        if namespace == ROOT {
            self.is_in_root
        } else {
            self.others.iter().any(|other| &**other == namespace)
        }
    }

    /// It enters one.
    pub(super) fn enter(&mut self, namespace: &str) {
        if namespace == ROOT {
            self.is_in_root = true;
        } else {
            self.others.push(namespace.into());
        }
    }

    /// It leaves one.
    pub(super) fn leave(&mut self, namespace: &str) {
        if namespace == ROOT {
            self.is_in_root = false;
            self.channels = Vec::new();
        } else {
            self.others.retain(|other| &**other != namespace);
        }
    }
}
