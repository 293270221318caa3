//! How the server stops: it is told to, stops accepting, and sends its clients away in an orderly fashion.

use crate::gateway::Gateway;
use crate::listener::HttpConnections;
use crate::logging;
use crate::spread::{Guest, send_away};
use channelapi_core::limits::FENCED_DRAIN_TIMEOUT;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// How often to see whether everybody has gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The signals that end the server. They are heard on a thread of their own, so that one is heard also while the server starts, and a
/// second one whatever the server does.
pub(crate) struct Signals {
    is_started: Arc<AtomicBool>,
    first: oneshot::Receiver<()>,
}

impl Signals {
    /// Hears them from now on. Until the server says that it has started, the first one ends the process: a start can be broken off
    /// anywhere.
    pub(crate) fn hear() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let (terminate, interrupt) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let (tell, first) = oneshot::channel();
        let is_started = Arc::new(AtomicBool::new(false));
        let signals = Self { is_started: is_started.clone(), first };
        let hearing = async move { listen(terminate, interrupt, &is_started, tell).await };
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(hearing))?;
        Ok(signals)
    }

    /// The server has started. Ready when the operator, or the system, wants it to stop. A second signal ends the process at once.
    pub(crate) fn started(self) -> impl Future<Output = ()> {
        self.is_started.store(true, Ordering::SeqCst);
        async move { _ = self.first.await }
    }
}

async fn listen(
    mut terminate: Signal,
    mut interrupt: Signal,
    is_started: &AtomicBool,
    tell: oneshot::Sender<()>,
) {
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("interrupted: stopping"),
    }
    if !is_started.load(Ordering::SeqCst) {
        info!("stopped");
        end(0);
    }
    _ = tell.send(());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    warn!("stopping at once");
    end(1);
}

/// Ends the process from wherever it is.
fn end(code: i32) -> ! {
    logging::flush();
    std::process::exit(code);
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
