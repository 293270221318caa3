//! Where a broker hands on what it has taken.

use crate::model::Publication;

/// Where a broker hands publications to this node, in its order. It never waits.
pub trait PublicationSink: Send + Sync + 'static {
    /// Takes the next publication.
    fn deliver(&self, publication: Publication);
}
