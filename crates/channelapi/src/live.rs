//! A value that is replaced while others read it: what a reload changes.

use arc_swap::{ArcSwap, Guard};
use std::sync::Arc;

/// A shared place for one value. Reading it takes no lock and never waits.
pub(crate) struct Live<T>(Arc<ArcSwap<T>>);

impl<T> Live<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// The value as it is now, which stays alive as long as it is held: for a moment, not across an `.await`.
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// The value as it is now, for as long as somebody likes.
    pub(crate) fn current(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Puts another in its place. Whoever reads from now on sees that one.
    pub(crate) fn replace(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_sees_what_was_put_in() {
        let live = Live::new(1);
        let reader = live.clone();
        let before = reader.load();
        live.replace(2);
        assert_eq!((**before, **reader.load(), **live.load()), (1, 2, 2));
    }
}
