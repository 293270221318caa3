//! The end of what keeps something: a store that can do its work no more says so, once and for good, to whoever has to end with it.

use std::sync::Arc;
use std::thread;
use tokio::sync::watch;
use tracing::error;

/// Says to whoever wants to know that nothing more is kept. Its clones are the same fence.
#[derive(Clone)]
pub(crate) struct Fence(Arc<watch::Sender<bool>>);

impl Default for Fence {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Fence {
    pub(crate) fn close(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        let mut changes = self.0.subscribe();
        // The sender lives as long as self.
        _ = changes.wait_for(|is_closed| *is_closed).await;
    }
}

/// Closes the fence if the thread that holds it ends otherwise than it should.
pub(crate) struct Guard(pub(crate) Fence);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            let thread = thread::current();
            error!(
                thread = thread.name().unwrap_or_default(),
                "a thread of the store panicked, and the server stops, because nothing more can be kept: start it again; this is a bug, please report it"
            );
            self.0.close();
        }
    }
}
