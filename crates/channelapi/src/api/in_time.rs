//! How long the disk is waited for: by a clock of each thread that ticks once a second, as long as somebody waits there.
//!
//! A timer for each publisher would cost several percent of what publishing takes, and hardly any is ever over.
//!
//! Invariants:
//! - Whoever waits is never told too early that it took too long, and at most a tick too late.
//! - Where nobody waits, nothing ticks.

use channelapi_core::limits::PUBLISH_TIMEOUT;
use parking_lot::Mutex;
use slab::Slab;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The disk did not answer within [`PUBLISH_TIMEOUT`]: nobody knows what comes of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The disk did not answer within {} seconds.", PUBLISH_TIMEOUT.as_secs())]
pub(super) struct TooLate;

/// What comes of a change on disk, unless that takes too long to wait for.
#[must_use]
pub(super) struct InTime<F> {
    change: F,
    /// Once it waits.
    place: Option<Place>,
}

/// Waits for a change on disk, and no longer than [`PUBLISH_TIMEOUT`], or a tick more. The change is pinned by the caller, so that it is
/// not held twice.
pub(super) fn in_time<F: Future + Unpin>(change: F) -> InTime<F> {
    InTime { change, place: None }
}

impl<F: Future + Unpin> Future for InTime<F> {
    type Output = Result<F::Output, TooLate>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(done) = Pin::new(&mut self.change).poll(cx) {
            return Poll::Ready(Ok(done));
        }
        match &self.place {
            None => self.place = Some(Place::take(cx.waker())),
            Some(place) if place.is_over(cx.waker()) => return Poll::Ready(Err(TooLate)),
            Some(_) => {}
        }
        Poll::Pending
    }
}

/// How long a tick takes.
const TICK: Duration = Duration::from_secs(1);

/// The tick that is under way counts for nothing.
const TICKS: u64 = PUBLISH_TIMEOUT.as_secs() + 1;

/// Those who wait on one thread.
#[derive(Default)]
struct Waiters {
    waiting: Slab<Waiter>,
    /// How often it has ticked.
    ticks: u64,
    is_ticking: bool,
}

struct Waiter {
    /// With which tick its time is over.
    due: u64,
    waker: Waker,
}

type Shared = Arc<Mutex<Waiters>>;

thread_local! {
    static HERE: Shared = Shared::default();
}

/// The place of one who waits.
struct Place {
    waiters: Shared,
    number: usize,
}

impl Place {
    /// Begins to wait on this thread.
    fn take(waker: &Waker) -> Self {
        let waiters = HERE.with(Arc::clone);
        let mut here = waiters.lock();
        if !here.is_ticking {
            here.is_ticking = true;
            // It ends by itself when nobody waits any more.
            tokio::spawn(Ticking(waiters.clone()).run());
        }
        let due = here.ticks + TICKS;
        let number = here.waiting.insert(Waiter { due, waker: waker.clone() });
        drop(here);
        Self { waiters, number }
    }

    /// Whether it has waited for long enough; if not, it is woken by this waker when it has.
    fn is_over(&self, waker: &Waker) -> bool {
        let mut waiters = self.waiters.lock();
        let ticks = waiters.ticks;
        let waiter = &mut waiters.waiting[self.number];
        waiter.waker.clone_from(waker);
        waiter.due <= ticks
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Its waker may end a task that waits here itself: not under the lock.
        let left = self.waiters.lock().waiting.try_remove(self.number);
        drop(left);
    }
}

/// The clock of a thread.
struct Ticking(Shared);

impl Ticking {
    async fn run(self) {
        loop {
            tokio::time::sleep(TICK).await;
            let mut here = self.0.lock();
            if here.waiting.is_empty() {
                break;
            }
            here.ticks += 1;
            let ticks = here.ticks;
            let over = here.waiting.iter().filter(|(_, waiter)| waiter.due <= ticks);
            let over: Vec<Waker> = over.map(|(_, waiter)| waiter.waker.clone()).collect();
            drop(here);
            over.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Ticking {
    /// Another one may begin, also where this one was ended with its runtime.
    fn drop(&mut self) {
        self.0.lock().is_ticking = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_leaves_the_outcome_open() {
        assert_eq!(in_time(std::future::ready(7)).await, Ok(7));
        // The clock may be anywhere in its tick when somebody begins to wait, and stands still between two who wait.
        for pause in [Duration::ZERO, TICK * 9 / 10, TICK * 3] {
            sleep(pause).await;
            let other = tokio::spawn(async { in_time(pin!(sleep(TICK * 3 / 2))).await });
            sleep(pause).await;
            let began = Instant::now();
            assert_eq!(in_time(std::future::pending::<()>()).await, Err(TooLate));
            let waited = began.elapsed();
            let latest = PUBLISH_TIMEOUT + TICK + Duration::from_millis(10);
            assert!(waited >= PUBLISH_TIMEOUT && waited <= latest, "{waited:?}");
            assert!(other.await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_answered_in_time_leaves_nothing_behind() {
        for _ in 0..3 {
            assert!(in_time(pin!(sleep(PUBLISH_TIMEOUT))).await.is_ok());
            let here = HERE.with(Arc::clone);
            assert!(here.lock().waiting.is_empty());
            sleep(TICK * 2).await;
            assert!(!here.lock().is_ticking, "nobody waits");
        }
    }
}
