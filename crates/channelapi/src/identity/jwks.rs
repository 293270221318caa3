//! The keys behind one issuer's address.
//!
//! Each issuer has a cache of its own, which knows one address: what one provider publishes never counts for another, whatever its
//! keys are called.
//!
//! Invariants:
//! - One task fetches, so there is one fetch at a time; clients only ask it to, and wait no longer than a fetch may take.
//! - Fetches are at least [`Times::pause`] apart, however many JWTs name unknown keys.
//! - Only an answer with a key that can be used takes the place of the one before.
//! - However a fetch ends, whoever waits for its end is told.

use super::fetch;
use super::keys::{KeyError, KeySet, VerifyingKey};
use crate::config::jwt::JwksUrl;
use crate::metrics::JwksFetched;
use channelapi_core::limits::{JWKS_PAUSE, JWKS_REFRESH, JWKS_STALE_MAX, JWKS_TIMEOUT};
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

/// The keys of one issuer, kept fresh.
pub(super) struct Jwks {
    url: JwksUrl,
    /// What is in the file with the certificates to trust.
    ca: Option<Vec<u8>>,
    tls: Option<Arc<ClientConfig>>,
    algorithms: Vec<Algorithm>,
    times: Times,
    state: Mutex<State>,
    /// Somebody misses a key.
    wanted: Notify,
    /// Fetches that have ended, well or not.
    fetches: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// When they were fetched.
    fetched_at: Option<Instant>,
    /// When fetching was tried last.
    tried_at: Option<Instant>,
    /// Fetches under way: one at most, or two while a reload gives one up for another.
    fetching: u32,
}

/// How long things take and last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) timeout: Duration,
    pub(super) refresh: Duration,
    pub(super) pause: Duration,
    pub(super) stale_max: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { timeout: JWKS_TIMEOUT, refresh: JWKS_REFRESH, pause: JWKS_PAUSE, stale_max: JWKS_STALE_MAX }
    }
}

/// What the cache knows of a key.
pub(super) enum Found {
    /// These may have it.
    Keys(Arc<KeySet>),
    /// The issuer does not publish it.
    Unknown,
    /// Nobody knows what the issuer publishes.
    Unavailable,
}

#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] fetch::FetchError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Jwks {
    /// No keys yet. [`Jwks::keep_up`] fetches them.
    pub(super) fn new(
        url: JwksUrl,
        ca: Option<Vec<u8>>,
        tls: Option<Arc<ClientConfig>>,
        algorithms: Vec<Algorithm>,
        times: Times,
    ) -> Self {
        let (state, wanted, fetches) = (Mutex::default(), Notify::new(), watch::Sender::new(0));
        Self { url, ca, tls, algorithms, times, state, wanted, fetches }
    }

    /// Whether it fetches the same keys from the same place, and trusts the same authorities.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (&self.url, &self.ca, &self.algorithms) == (&other.url, &other.ca, &other.algorithms)
    }

    /// The shortest time between two fetches.
    pub(super) fn pause(&self) -> Duration {
        self.times.pause
    }

    /// The keys that a JWT may have been signed with. If none fits, and it is time to fetch them again, that is waited for.
    pub(super) async fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Found {
        // From before the look on, so that no end of a fetch is missed.
        let mut fetches = self.fetches.subscribe();
        let now = Instant::now();
        let (keys, may_change) = {
            let state = self.state.lock();
            (state.keys_at(now, &self.times), state.may_change_at(now, &self.times))
        };
        if let Some(keys) = fitting(keys.as_ref(), algorithm, kid) {
            return Found::Keys(keys);
        }
        // Also when it is too early: then it is done when the time has come.
        self.wanted.notify_one();
        if may_change {
            _ = timeout(self.times.timeout, fetches.changed()).await;
        }
        let keys = self.state.lock().keys_at(Instant::now(), &self.times);
        match (fitting(keys.as_ref(), algorithm, kid), keys) {
            (Some(keys), _) => Found::Keys(keys),
            (None, Some(_)) => Found::Unknown,
            (None, None) => Found::Unavailable,
        }
    }

    /// Fetches the keys: now, from time to time, and when somebody misses one.
    pub(super) async fn keep_up(&self) {
        loop {
            let tried_at = Instant::now();
            let is_fresh = {
                let _fetching = Fetching::begin(self, tried_at);
                self.refresh().await
            };
            let next = if is_fresh { self.times.refresh } else { self.times.pause };
            tokio::select! {
                () = sleep_until(tried_at + next) => {}
                () = self.wanted_after(tried_at + self.times.pause) => {}
            }
        }
    }

    async fn wanted_after(&self, time: Instant) {
        sleep_until(time).await;
        self.wanted.notified().await;
    }

    async fn refresh(&self) -> bool {
        match self.fetch().await {
            Ok(keys) => {
                JwksFetched::Fetched.count();
                let mut state = self.state.lock();
                if state.keys.is_none() {
                    info!(url = %self.url, "keys of an issuer were fetched");
                }
                (state.keys, state.fetched_at) = (Some(Arc::new(keys)), Some(Instant::now()));
                true
            }
            Err(error) => {
                JwksFetched::Failed.count();
                let is_known = self.state.lock().keys_at(Instant::now(), &self.times).is_some();
                let outcome =
                    if is_known { "those from before are used" } else { "its JWTs cannot be verified" };
                warn!(url = %self.url, %error, outcome, "keys of an issuer could not be fetched");
                false
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, RefreshError> {
        let answer = timeout(self.times.timeout, fetch::get(&self.url, self.tls.as_ref())).await;
        let answer = answer.map_err(|_| RefreshError::Timeout(self.times.timeout))??;
        Ok(KeySet::jwks(&answer, &self.algorithms)?)
    }
}

/// A fetch that is under way, until it is dropped.
struct Fetching<'a>(&'a Jwks);

impl<'a> Fetching<'a> {
    fn begin(jwks: &'a Jwks, now: Instant) -> Self {
        let mut state = jwks.state.lock();
        state.tried_at = Some(now);
        state.fetching += 1;
        Self(jwks)
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.state.lock().fetching -= 1;
        self.0.fetches.send_modify(|count| *count += 1);
    }
}

impl State {
    /// The keys, unless they are too old.
    fn keys_at(&self, now: Instant, times: &Times) -> Option<Arc<KeySet>> {
        let fetched_at = self.fetched_at?;
        self.keys.clone().filter(|_| now.saturating_duration_since(fetched_at) < times.stale_max)
    }

    /// Whether a fetch is under way or may begin.
    fn may_change_at(&self, now: Instant, times: &Times) -> bool {
        self.fetching > 0 || self.tried_at.is_none_or(|tried_at| now >= tried_at + times.pause)
    }
}

fn fitting(keys: Option<&Arc<KeySet>>, algorithm: Algorithm, kid: Option<&str>) -> Option<Arc<KeySet>> {
    let keys = keys?;
    let fits = |keys: &KeySet| -> Option<()> {
        let _: &VerifyingKey = keys.candidates(algorithm, kid).next()?;
        Some(())
    };
    fits(keys).map(|()| keys.clone())
}
