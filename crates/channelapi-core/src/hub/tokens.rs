//! Channel tokens: who has one may join its channel, for seven days (or another time) after it was made or last used.
//!
//! How one is made stands in `tokens/secret.rs`, what memory knows of those that are used in `tokens/known.rs`.
//!
//! Invariants:
//! - A token is on disk before anyone is told it.
//! - A join costs no write: renewals gather in memory and are written together. A crash may shorten a token's life by
//!   [`TOKEN_RENEWAL_STEP`](crate::limits::TOKEN_RENEWAL_STEP) + [`TOKEN_RENEWAL_INTERVAL`], and by as long as the disk took none.
//! - A disk that takes none is asked once each [`TOKEN_RENEWAL_INTERVAL`], however many join meanwhile.
//! - A token that was revoked or replaced opens nothing once the call has returned, and nothing brings it back: memory forgets
//!   it after the disk did, and whoever read the disk before that reads again. Where the disk knew of none or failed, memory forgets, too.

mod known;
mod secret;
#[cfg(test)]
mod tests;

use self::known::{Known, KnownToken, Named, Waiting};
use self::secret::TokenSecret;
use crate::clock::{Clock, millis_of};
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_PRUNE_INTERVAL, TOKEN_PRUNE_MARGIN, TOKEN_RENEWAL_INTERVAL};
use crate::model::{ChannelName, Token, TokenHash};
use crate::state::{StateError, StateStore, StoredToken};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{error, warn};

/// Makes, finds and renews tokens.
pub struct Tokens {
    state: StateStore,
    secret: TokenSecret,
    clock: Clock,
    known: Arc<Mutex<Known>>,
    renewals_full: Notify,
}

/// A token for the one who asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token.
    pub token: Token,
    /// When it dies if nobody uses it, in milliseconds since 1970.
    pub expires_at: u64,
}

/// A token that was there, and is not any more.
#[derive(Debug, PartialEq, Eq)]
pub struct EndedToken {
    /// The channel that it opened, perhaps long ago: whoever came in with it may still be there.
    pub channel: ChannelName,
    /// Whether it lived until now.
    pub has_lived: bool,
}

/// What a look at memory alone can say about a token.
pub enum Lookup {
    /// It opens this channel, and was renewed.
    Valid(ChannelName),
    /// It cannot be a token.
    Invalid,
    /// Only the disk knows: ask [`Tokens::find`].
    Unknown(TokenHash),
}

/// Why no token could be given or found.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The operating system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl Tokens {
    /// Tokens of a state store, derived from `secret`.
    pub fn new(state: StateStore, secret: [u8; 32], clock: Clock) -> Self {
        Self {
            state,
            secret: TokenSecret(secret),
            clock,
            known: Arc::default(),
            renewals_full: Notify::new(),
        }
    }

    /// The token of a channel: the one that lives, or a new one for seven days. When this returns, it is on disk.
    pub async fn get_or_create(&self, channel: &ChannelName) -> Result<Token, TokenError> {
        self.get_or_create_for(channel, None).await.map(|issued| issued.token)
    }

    /// The token of a channel: the one that lives, or a new one. With a lifetime, of which
    /// [`TOKEN_LIFETIME_MAX`](crate::limits::TOKEN_LIFETIME_MAX) is the limit, it lives at least that long after now and after
    /// each use; a longer life that it has stays.
    pub async fn get_or_create_for(
        &self,
        channel: &ChannelName,
        lifetime: Option<Duration>,
    ) -> Result<IssuedToken, TokenError> {
        if let Some(stored) = self.state.token_by_channel(channel.clone()).await?
            && let expires_at = self.expiry(&stored)
            && expires_at > self.clock.cautious_millis()
            && let Some(token) = self.secret.token_of(&stored)
        {
            if lifetime.is_none() {
                return Ok(IssuedToken { token, expires_at });
            }
            // It may live by a renewal that waits in memory, while the disk calls it dead.
            self.flush().await;
        }
        // The second turn is for a stored token that this secret did not make: it is given up first.
        loop {
            let (fresh, now) = self.fresh(channel, lifetime)?;
            let revocations = self.known.lock().revocations;
            let held = self.state.issue(fresh, now, lifetime.is_some()).await?;
            if let Some(token) = self.secret.token_of(&held) {
                let expires_at = self.expiry(&held);
                let mut known = self.known.lock();
                if known.revocations == revocations {
                    known.insert(held.hash, KnownToken::of(held, expires_at));
                }
                return Ok(IssuedToken { token, expires_at });
            }
            warn!(%channel, "a stored token was made with another secret; it is replaced");
            let (state, lost) = (self.state.clone(), channel.clone());
            let named = Named::Channel(channel.clone());
            self.remove(named, async move { state.remove_by_channel(lost).await }).await?;
        }
    }

    /// A new token for a channel. When this returns, it is on disk and the one before opens nothing.
    pub async fn rotate(
        &self,
        channel: &ChannelName,
        lifetime: Option<Duration>,
    ) -> Result<IssuedToken, TokenError> {
        let (fresh, now) = self.fresh(channel, lifetime)?;
        let issued = IssuedToken {
            token: self.secret.token(channel, &fresh.generation),
            expires_at: fresh.expires_at,
        };
        let state = self.state.clone();
        let named = Named::Channel(channel.clone());
        self.remove(named, async move { state.replace(fresh, now).await }).await?;
        Ok(issued)
    }

    /// Ends the token of a channel, and says whether there was one that lived. When this returns, it opens nothing.
    pub async fn revoke(&self, channel: &ChannelName) -> Result<bool, TokenError> {
        let (state, channel) = (self.state.clone(), channel.clone());
        let named = Named::Channel(channel.clone());
        let removed = self.remove(named, async move { state.remove_by_channel(channel).await }).await?;
        Ok(removed.is_some_and(|removed| removed.has_lived))
    }

    /// The channel of a token, also of one that has died of age and is not forgotten yet. It is not renewed.
    pub async fn channel_of(&self, text: &str) -> Result<Option<ChannelName>, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let stored = self.state.token_by_hash(TokenHash::of(text)).await?;
        Ok(stored.map(|stored| stored.channel))
    }

    /// Ends a token, and tells of what was there, also of one that had died of age. When this returns, it opens nothing.
    pub async fn revoke_token(&self, text: &str) -> Result<Option<EndedToken>, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let (state, hash) = (self.state.clone(), TokenHash::of(text));
        self.remove(Named::Hash(hash), async move { state.remove_by_hash(hash).await }).await
    }

    /// What memory knows about a text that claims to be a token. A valid one is renewed.
    pub fn lookup(&self, text: &str) -> Lookup {
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
            return Lookup::Invalid;
        }
        let hash = TokenHash::of(text);
        let now = self.clock.cautious_millis();
        // One lock for both, or else a renewal might follow a revocation.
        let mut known = self.known.lock();
        match known.get(&hash) {
            Some(token) if token.expires_at > now => {
                let channel = token.channel.clone();
                self.renew(&mut known, hash, token);
                Lookup::Valid(channel)
            }
            // Dead here, but perhaps replaced on disk by now.
            _ => Lookup::Unknown(hash),
        }
    }

    /// The channel that the token with this hash opens, if it lives. It is renewed.
    pub async fn find(&self, hash: TokenHash) -> Result<Option<ChannelName>, TokenError> {
        loop {
            let revocations = self.known.lock().revocations;
            let Some(stored) = self.state.token_by_hash(hash).await? else {
                return Ok(None);
            };
            let now = self.clock.cautious_millis();
            let mut known = self.known.lock();
            if known.revocations != revocations {
                continue;
            }
            let expires_at = known.expiry(&stored);
            if expires_at <= now {
                return Ok(None);
            }
            let channel = stored.channel.clone();
            self.renew(&mut known, hash, KnownToken::of(stored, expires_at));
            return Ok(Some(channel));
        }
    }

    /// Writes renewals and removes dead tokens from time to time, until it is dropped.
    pub async fn keep_up(&self) {
        let mut pruned_at = self.clock.monotonic_millis();
        loop {
            _ = tokio::time::timeout(TOKEN_RENEWAL_INTERVAL, self.renewals_full.notified()).await;
            self.flush().await;
            let now = self.clock.monotonic_millis();
            if now.saturating_sub(pruned_at) >= millis_of(TOKEN_PRUNE_INTERVAL) {
                pruned_at = now;
                let before = self.clock.cautious_millis().saturating_sub(millis_of(TOKEN_PRUNE_MARGIN));
                if let Err(error) = self.state.prune_tokens(before).await {
                    error!(%error, "dead tokens could not be removed");
                }
            }
        }
    }

    /// Writes the renewals that wait. What cannot be written goes on waiting, up to
    /// [`TOKEN_RENEWALS_MAX`](crate::limits::TOKEN_RENEWALS_MAX).
    pub async fn flush(&self) {
        let renewals = self.known.lock().waiting();
        if renewals.is_empty() {
            return;
        }
        match self.state.renew(renewals.clone()).await {
            Ok(()) => self.known.lock().written(&renewals),
            Err(error) => {
                error!(%error, count = renewals.len(), "token renewals could not be written, and wait");
                self.known.lock().refused();
            }
        }
    }

    /// A new token that is not stored yet, and the time by which another one must be over to give way to it.
    fn fresh(
        &self,
        channel: &ChannelName,
        lifetime: Option<Duration>,
    ) -> Result<(StoredToken, u64), TokenError> {
        let fresh = self.secret.fresh(channel, lifetime, |lifetime| end(&self.clock, lifetime));
        let fresh = fresh.map_err(TokenError::Random)?;
        Ok((fresh, self.clock.cautious_millis()))
    }

    /// Removes a token, on disk and then in memory, and tells of what was there.
    async fn remove(
        &self,
        named: Named,
        removal: impl Future<Output = Result<Option<StoredToken>, StateError>> + Send + 'static,
    ) -> Result<Option<EndedToken>, TokenError> {
        let (known, clock) = (self.known.clone(), self.clock.clone());
        // A task of its own: whoever asked may hang up, and the disk must not be alone in knowing.
        let removed = tokio::spawn(async move {
            let removed = removal.await;
            let mut known = known.lock();
            known.revocations += 1;
            match removed {
                Ok(Some(token)) => {
                    let has_lived = known.expiry(&token) > clock.cautious_millis();
                    known.forget(&token.hash);
                    Ok(Some(EndedToken { channel: token.channel, has_lived }))
                }
                removed => {
                    known.doubt(&named);
                    removed.map(|_| None)
                }
            }
        });
        removed
            .await
            .unwrap_or_else(|_| Err(StateError::Failed("the server is stopping".into())))
            .map_err(Into::into)
    }

    /// When a stored token really dies: a renewal may still wait in memory.
    fn expiry(&self, stored: &StoredToken) -> u64 {
        self.known.lock().expiry(stored)
    }

    /// A token was used: it lives for its full time again.
    fn renew(&self, known: &mut Known, hash: TokenHash, token: KnownToken) {
        let expires_at = end(&self.clock, token.lifetime);
        if known.renew(hash, token, expires_at) == Waiting::Full {
            self.renewals_full.notify_one();
        }
    }
}

/// When a token dies that is used now. The next life begins with the machine's clock, and if that was behind when this one began, it would
/// find it dead. One that is ahead, for a moment or when this life began, makes it live for twice as long at most.
fn end(clock: &Clock, lifetime: u64) -> u64 {
    let latest = clock.cautious_millis().saturating_add(lifetime);
    clock.written_millis().min(latest).saturating_add(lifetime)
}
