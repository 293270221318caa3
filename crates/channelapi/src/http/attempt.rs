//! What whoever judges the token of a request tells whoever counts those that try tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a request tried a token that is none. It goes along with the request, among its extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempt(Arc<AtomicBool>);

impl Attempt {
    /// The token is none.
    pub(crate) fn fail(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was none.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
