//! What a connection is served with.

use super::entry::Entry;
use super::peer::Arrival;
use std::sync::Arc;
use tokio::sync::watch;

/// Who serves a connection, and who is told of it.
pub(super) struct Serving<S> {
    pub(super) service: Arc<S>,
    pub(super) entry: Arc<Entry>,
    pub(super) arrival: Arrival,
    /// Each request holds a receiver, until it is answered.
    pub(super) requests: Arc<watch::Sender<()>>,
}

/// Whether the connections are to end.
pub(super) fn has_changed(stop: &watch::Receiver<()>) -> bool {
    stop.has_changed().unwrap_or(true)
}
