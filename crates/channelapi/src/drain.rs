//! How the server stops: it is told to, stops accepting, and sends its clients away in an orderly fashion.

use crate::gateway::Gateway;
use crate::listener::HttpConnections;
use crate::spread::{Guest, send_away};
use channelapi_core::limits::FENCED_DRAIN_TIMEOUT;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// How often to see whether everybody has gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Ready when the operator, or the system, wants the server to stop. A second signal ends the process at once.
pub(crate) fn signalled() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("interrupted: stopping"),
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            warn!("stopping at once");
            std::process::exit(1);
        });
    })
}

/// Closes the connections of `gateways` so that their clients come back, and sends `others` away, of whom `others_here` are still there, and
/// waits until all have gone and everything under way is done, for `timeout` at most. Once nothing more can be stored, which `fenced` waits for, it is [`FENCED_DRAIN_TIMEOUT`] at most.
pub(crate) async fn drain(
    gateways: &[Arc<Gateway>],
    others: Vec<Arc<dyn Guest>>,
    others_here: impl Fn() -> usize,
    requests: HttpConnections,
    timeout: Duration,
    fenced: impl Future<Output = ()>,
) {
    let leaving = async {
        let guests = gateways.iter().flat_map(|gateway| gateway.begin_drain()).chain(others).collect();
        // Half of the time is for the closes, the other half for the last of them to arrive.
        send_away(guests, timeout / 2).await;
        let finishing = requests.finish();
        let gone = async {
            while gateways.iter().any(|gateway| gateway.connections() > 0) || others_here() > 0 {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::join!(finishing, gone);
    };
    tokio::select! {
        () = leaving => {}
        () = time_is_over(timeout, fenced) => {
            let left: usize = gateways.iter().map(|gateway| gateway.connections()).sum();
            let (streams, requests) = (others_here(), requests.requests());
            warn!(connections = left, streams, requests, "the time to stop is over; leaving without waiting for the rest");
        }
    }
}

async fn time_is_over(timeout: Duration, fenced: impl Future<Output = ()>) {
    let soon = async {
        fenced.await;
        tokio::time::sleep(FENCED_DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        () = tokio::time::sleep(timeout) => {}
        () = soon => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    /// Once, a store that failed while the server was stopping was not noticed: publishers were refused until the time was over.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_store_that_has_failed() {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let took = async |fenced_after: Duration| {
            let began = Instant::now();
            time_is_over(TIMEOUT, sleep(fenced_after)).await;
            began.elapsed()
        };
        assert_eq!(took(Duration::MAX).await, TIMEOUT);
        assert_eq!(took(Duration::ZERO).await, FENCED_DRAIN_TIMEOUT);
        let middle = Duration::from_secs(3);
        assert_eq!(took(middle).await, middle + FENCED_DRAIN_TIMEOUT);
        assert_eq!(took(Duration::from_millis(9_999)).await, TIMEOUT);
    }
}
