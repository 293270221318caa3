//! How the server stops: it is told to, stops accepting, and sends its clients away in an orderly fashion.

use crate::gateway::Gateway;
use crate::listener::HttpConnections;
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

/// Closes the connections of `gateways` so that their clients come back, and waits for everything under way, for `timeout` at
/// most.
pub(crate) async fn drain(gateways: &[Arc<Gateway>], requests: HttpConnections, timeout: Duration) {
    let leaving = async {
        for gateway in gateways {
            // Half of the time is for the closes, the other half for the last of them to arrive.
            gateway.drain(timeout / 2).await;
        }
        let finishing = requests.finish();
        let gone = async {
            while gateways.iter().any(|gateway| gateway.connections() > 0) {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::join!(finishing, gone);
    };
    if tokio::time::timeout(timeout, leaving).await.is_err() {
        let left: usize = gateways.iter().map(|gateway| gateway.connections()).sum();
        let requests = requests.requests();
        warn!(connections = left, requests, "the time to stop is over; leaving without waiting for the rest");
    }
}
