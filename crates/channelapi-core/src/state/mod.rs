//! What must survive a restart besides publications: one SQLite file in the data directory.
//!
//! Invariants:
//! - One process per data directory (a lock, held until the log is closed), one writer (a thread).
//! - A write is answered after it is on disk (`synchronous=FULL`). Writes that arrive together share one sync.
//! - A file that a newer version wrote, or that is no database, is refused with a clear text and left as it is.

mod backup;
mod check;
mod consumers;
mod directory;
mod revocations;
mod row;
mod schema;
mod store;
mod tokens;

pub use backup::backup;
pub use check::check;
pub use consumers::{Ack, StoredPosition};
pub use directory::{DataDirectory, DataDirectoryError, Hold};
pub use store::{StateError, StateStore};
pub use tokens::StoredToken;

pub(crate) use directory::advice;
