//! Work that goes on for as long as the server does, whatever happens to it once.
//!
//! A panic ends one task. If that task fetches keys, sends pings or forgets what is over, a server that goes on without it becomes worse
//! and worse, and nobody sees why. So such a task begins anew.

use std::convert::Infallible;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::error;

/// Does some work, until this is dropped. When it panics, or ends although it should not, that is logged, and after a pause it begins
/// anew.
pub(crate) async fn keep_going<F>(work: &'static str, pause: Duration, begin: impl Fn() -> F) -> Infallible
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // A task of its own, which ends with this future.
        let mut task = JoinSet::new();
        task.spawn(begin());
        if let Some(Err(error)) = task.join_next().await {
            error!(work, %error, ?pause, "what should go on has panicked, and begins anew; this is a bug, please report it");
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_begins_anew_after_a_pause_and_ends_when_nobody_wants_it() {
        let (begun, alive) = (Arc::new(AtomicU32::new(0)), Arc::new(()));
        let (count, held) = (begun.clone(), alive.clone());
        let started = Instant::now();
        let work = keep_going("a test", Duration::from_secs(10), move || {
            let (count, held) = (count.clone(), held.clone());
            async move {
                assert!(count.fetch_add(1, Ordering::Relaxed) >= 2, "on purpose");
                std::future::pending::<()>().await;
                drop(held);
            }
        });
        let ended = tokio::time::timeout(Duration::from_mins(1), work).await;
        assert!(ended.is_err(), "it goes on");
        assert_eq!((begun.load(Ordering::Relaxed), started.elapsed().as_secs()), (3, 60));
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&alive), 1, "nothing is left of it");
    }
}
