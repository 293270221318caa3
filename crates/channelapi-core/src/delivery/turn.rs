//! How many subscribers a worker serves before other tasks of its core get a turn.

use crate::limits::FANOUT_CHUNK;

/// What was served since they had one.
#[derive(Default)]
pub(super) struct Turn(usize);

impl Turn {
    /// Goes on with so many subscribers, after others had their turn if that would be more than [`FANOUT_CHUNK`] together.
    pub(super) async fn take(&mut self, count: usize) {
        if self.0 + count > FANOUT_CHUNK {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
        self.0 += count;
    }
}
