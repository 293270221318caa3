//! Who carries publications: a broker takes each one, gives it its place, and tells the fan-out of every node.

mod embedded;
mod memory;

pub use embedded::{
    EmbeddedBroker, HistoryItem, HistoryPage, OpenError, PublishError, PublishRequest, Published, Retention,
};
pub use memory::MemoryBroker;

use crate::model::Publication;

/// Where a broker hands publications to this node, in its order. It never waits.
pub trait PublicationSink: Send + Sync + 'static {
    /// Takes the next publication.
    fn deliver(&self, publication: Publication);
}
