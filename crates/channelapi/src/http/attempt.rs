//! What whoever judges the token of a request tells whoever counts those that try tokens.

use std::sync::{Arc, OnceLock};

/// Whether a request tried a token that is none. It goes along with the request, among its extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempt(Arc<OnceLock<Box<str>>>);

impl Attempt {
    /// This is none.
    pub(crate) fn fail(&self, token: &str) {
        // There is one in a request.
        _ = self.0.set(token.into());
    }

    /// The one that is none, if it was so.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.0.get().map(AsRef::as_ref)
    }
}
