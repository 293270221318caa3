//! What goes on for as long as the server does. None of it ends with another.

use crate::identity::Identity;
use crate::upkeep::keep_going;
use channelapi_core::hub::Hub;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

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
        going("looking after consumers", hub, |hub| async move { hub.consumers.keep_up().await }),
        going("looking after issuers", identity, |identity| async move { identity.keep_up().await }),
    );
}
