//! What goes on for as long as the server does. None of it ends with another.

use crate::identity::Identity;
use crate::upkeep::keep_going;
use channelapi_core::clock::Clock;
use channelapi_core::hub::Hub;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// The pause before work begins anew that has panicked. Pings may be late by so much.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// Does some work with something, until it is dropped, whatever happens.
pub(super) async fn going<T, F>(work: &'static str, with: Arc<T>, begin: impl Fn(Arc<T>) -> F) -> Infallible
where
    F: Future<Output = ()> + Send + 'static,
{
    keep_going(work, PANIC_PAUSE, || begin(with.clone())).await
}

/// Looks after everything that has to be written, removed or fetched from time to time.
pub(super) async fn keep_up(hub: Arc<Hub>, identity: Arc<Identity>) {
    tokio::join!(
        going("looking after tokens", hub.clone(), |hub| async move { hub.tokens.keep_up().await }),
        going("looking after revocations", hub.clone(), |hub| async move { hub.revocations.keep_up().await }),
        going("looking after consumers", hub.clone(), |hub| async move { hub.consumers.keep_up().await }),
        going("looking after issuers", identity, |identity| async move { identity.keep_up().await }),
        going("watching the clock", hub, |hub| async move { watch_clock(hub.clock()).await }),
    );
}

/// Says when the machine's clock is set, which the server's follows slowly, and when that has come as far.
async fn watch_clock(clock: &Clock) {
    let mut was_set = false;
    loop {
        let (machine, ours) = (clock.machine_millis(), clock.unix_millis());
        let is_set = differ(machine, ours);
        if is_set && !was_set {
            let seconds = (machine / 1_000).cast_signed() - (ours / 1_000).cast_signed();
            warn!(
                seconds,
                "the machine's clock was set by so much since the server was started; the times of messages follow it at once if it was set forward, and slowly if back; after a restart they are its own"
            );
        } else if was_set && !is_set {
            info!("the times of messages are those of the machine's clock again");
        }
        was_set = is_set;
        tokio::time::sleep(CLOCK_INTERVAL).await;
    }
}

/// How often to compare the two clocks.
const CLOCK_INTERVAL: Duration = Duration::from_mins(1);

/// Whether two times differ by more than what is made up for within some hours.
fn differ(machine: u64, ours: u64) -> bool {
    machine.abs_diff(ours) > 60_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_differs_and_one_that_was_corrected_does_not() {
        for (machine, ours, expected) in
            [(0, 0, false), (60_000, 0, false), (60_001, 0, true), (0, 60_001, true)]
        {
            assert_eq!(differ(machine, ours), expected, "{machine} {ours}");
        }
    }
}
