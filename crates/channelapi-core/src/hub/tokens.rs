//! Channel tokens: who has one may join its channel, for seven days after it was made or last used.
//!
//! A token is `HMAC-SHA256(secret, generation ‖ channel)` with a random generation per channel; only the generation and the
//! token's hash are stored. So the same channel can be told its token again, and nothing usable lies in the database.
//!
//! Invariants:
//! - A token is on disk before anyone is told it.
//! - A join costs no write: renewals gather in memory and are written together. A crash may shorten a token's life by
//!   [`TOKEN_RENEWAL_STEP`] + [`TOKEN_RENEWAL_INTERVAL`], never end it.

use crate::clock::{Clock, millis_of};
use crate::limits::{
    TOKEN_BYTES_MAX, TOKEN_CACHE_MAX, TOKEN_LIFETIME, TOKEN_PRUNE_INTERVAL, TOKEN_PRUNE_MARGIN,
    TOKEN_RENEWAL_INTERVAL, TOKEN_RENEWAL_STEP, TOKEN_RENEWALS_MAX,
};
use crate::model::{ChannelName, Token, TokenHash};
use crate::state::{StateError, StateStore, StoredToken};
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;
use std::collections::HashMap;
use tokio::sync::Notify;
use tracing::{error, warn};

/// Makes, finds and renews tokens.
pub struct Tokens {
    state: StateStore,
    secret: [u8; 32],
    clock: Clock,
    known: Mutex<Known>,
    renewals_full: Notify,
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

/// A token in memory.
#[derive(Clone)]
struct KnownToken {
    channel: ChannelName,
    expires_at: u64,
}

/// Two generations: when the young one is half of the limit it becomes the old one, whose tokens, if used, come back.
#[derive(Default)]
struct Known {
    young: HashMap<TokenHash, KnownToken>,
    old: HashMap<TokenHash, KnownToken>,
    /// Renewals that are not on disk yet.
    renewals: HashMap<TokenHash, u64>,
}

impl Tokens {
    /// Tokens of a state store, derived from `secret`.
    pub fn new(state: StateStore, secret: [u8; 32], clock: Clock) -> Self {
        Self { state, secret, clock, known: Mutex::default(), renewals_full: Notify::new() }
    }

    /// The token of a channel: the one that lives, or a new one. When this returns, it is on disk.
    pub async fn get_or_create(&self, channel: &ChannelName) -> Result<Token, TokenError> {
        if let Some(stored) = self.state.token_by_channel(channel.clone()).await?
            && self.expiry(&stored) > self.clock.unix_millis()
            && let Some(token) = self.derive_checked(&stored)
        {
            return Ok(token);
        }
        // The second turn is for a stored token that this secret did not make: it is given up first.
        loop {
            let mut generation = [0; 16];
            getrandom::fill(&mut generation).map_err(TokenError::Random)?;
            let now = self.clock.unix_millis();
            let hash = self.derive(channel, &generation).hash();
            let expires_at = now + millis_of(TOKEN_LIFETIME);
            let fresh = StoredToken { channel: channel.clone(), generation, hash, expires_at };
            let held = self.state.issue(fresh, now).await?;
            if let Some(token) = self.derive_checked(&held) {
                self.remember(held);
                return Ok(token);
            }
            warn!(%channel, "a stored token was made with another secret; it is replaced");
            self.state.forget(channel.clone()).await?;
        }
    }

    /// What memory knows about a text that claims to be a token. A valid one is renewed.
    pub fn lookup(&self, text: &str) -> Lookup {
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
            return Lookup::Invalid;
        }
        let hash = TokenHash::of(text);
        let known = self.known.lock().get(&hash);
        match known {
            Some(token) if token.expires_at > self.clock.unix_millis() => {
                self.renew(hash, token.clone());
                Lookup::Valid(token.channel)
            }
            // Dead here, but perhaps replaced on disk by now.
            _ => Lookup::Unknown(hash),
        }
    }

    /// The channel that the token with this hash opens, if it lives. It is renewed.
    pub async fn find(&self, hash: TokenHash) -> Result<Option<ChannelName>, TokenError> {
        let Some(stored) = self.state.token_by_hash(hash).await? else {
            return Ok(None);
        };
        let expires_at = self.expiry(&stored);
        if expires_at <= self.clock.unix_millis() {
            return Ok(None);
        }
        let token = KnownToken { channel: stored.channel, expires_at };
        self.renew(hash, token.clone());
        Ok(Some(token.channel))
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
                let before = self.clock.unix_millis().saturating_sub(millis_of(TOKEN_PRUNE_MARGIN));
                if let Err(error) = self.state.prune(before).await {
                    error!(%error, "dead tokens could not be removed");
                }
            }
        }
    }

    /// Writes the renewals that wait. What cannot be written goes on waiting.
    pub async fn flush(&self) {
        let renewals: Vec<_> = self.known.lock().renewals.iter().map(|(hash, at)| (*hash, *at)).collect();
        if renewals.is_empty() {
            return;
        }
        match self.state.renew(renewals.clone()).await {
            // A renewal that was renewed again meanwhile stays for the next time.
            Ok(()) => {
                let mut known = self.known.lock();
                for (hash, expires_at) in &renewals {
                    if known.renewals.get(hash) == Some(expires_at) {
                        known.renewals.remove(hash);
                    }
                }
            }
            Err(error) => error!(%error, count = renewals.len(), "token renewals could not be written"),
        }
    }

    /// When a stored token really dies: a renewal may still wait in memory.
    fn expiry(&self, stored: &StoredToken) -> u64 {
        let renewed = self.known.lock().renewals.get(&stored.hash).copied();
        stored.expires_at.max(renewed.unwrap_or(0))
    }

    fn remember(&self, stored: StoredToken) {
        let token = KnownToken { channel: stored.channel, expires_at: stored.expires_at };
        self.known.lock().insert(stored.hash, token);
    }

    /// A token was used: it lives for its full time again.
    fn renew(&self, hash: TokenHash, token: KnownToken) {
        let expires_at = self.clock.unix_millis() + millis_of(TOKEN_LIFETIME);
        let mut known = self.known.lock();
        if expires_at.saturating_sub(token.expires_at) < millis_of(TOKEN_RENEWAL_STEP) {
            known.insert(hash, token);
            return;
        }
        known.insert(hash, KnownToken { expires_at, ..token });
        known.renewals.insert(hash, expires_at);
        if known.renewals.len() >= TOKEN_RENEWALS_MAX {
            self.renewals_full.notify_one();
        }
    }

    fn derive(&self, channel: &ChannelName, generation: &[u8; 16]) -> Token {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        // The generation has a fixed length, so no two pairs give the same input.
        mac.update(b"channelapi token 1");
        mac.update(generation);
        mac.update(channel.as_str().as_bytes());
        Token::from_bytes(&mac.finalize().into_bytes().into())
    }

    /// The token of a stored row, unless it was made with another secret.
    fn derive_checked(&self, stored: &StoredToken) -> Option<Token> {
        Some(self.derive(&stored.channel, &stored.generation)).filter(|token| token.hash() == stored.hash)
    }
}

impl Known {
    fn get(&mut self, hash: &TokenHash) -> Option<KnownToken> {
        if let Some(token) = self.young.get(hash) {
            return Some(token.clone());
        }
        let token = self.old.remove(hash)?;
        self.insert(*hash, token.clone());
        Some(token)
    }

    fn insert(&mut self, hash: TokenHash, token: KnownToken) {
        if self.young.len() >= TOKEN_CACHE_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&hash);
        self.young.insert(hash, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::DataDirectory;
    use std::path::Path;
    use std::time::Duration;

    const DAY: Duration = Duration::from_hours(24);

    fn open(folder: &Path, clock: &Clock) -> (Tokens, DataDirectory) {
        let directory = DataDirectory::open(folder).unwrap();
        let state = StateStore::open(&directory).unwrap();
        (Tokens::new(state, directory.token_secret().unwrap(), clock.clone()), directory)
    }

    async fn join(tokens: &Tokens, token: &Token) -> Option<String> {
        let channel = match tokens.lookup(token.reveal()) {
            Lookup::Valid(channel) => Some(channel),
            Lookup::Invalid => None,
            Lookup::Unknown(hash) => tokens.find(hash).await.unwrap(),
        };
        channel.map(|channel| channel.to_string())
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[tokio::test]
    async fn a_channel_has_one_token_and_a_token_one_channel() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, _directory) = open(folder.path(), &Clock::system());
        let token = tokens.get_or_create(&channel("a/b")).await.unwrap();
        assert_eq!(token.reveal().len(), 43);
        assert_eq!(tokens.get_or_create(&channel("a/b")).await.unwrap(), token);
        assert_ne!(tokens.get_or_create(&channel("a/c")).await.unwrap(), token);
        assert_eq!(join(&tokens, &token).await.as_deref(), Some("a/b"));
        assert!(matches!(tokens.lookup(""), Lookup::Invalid));
        assert!(matches!(tokens.lookup(&"x".repeat(TOKEN_BYTES_MAX + 1)), Lookup::Invalid));
        assert_eq!(tokens.find(TokenHash::of("unknown")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_token_lives_seven_days_after_its_last_join() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000_000);
        let (tokens, _directory) = open(folder.path(), &clock);
        let token = tokens.get_or_create(&channel("a")).await.unwrap();
        for _ in 0..3 {
            clock.advance(6 * DAY);
            assert!(join(&tokens, &token).await.is_some());
        }
        clock.advance(7 * DAY);
        assert_eq!(join(&tokens, &token).await, None, "nobody joined for seven days");
        let next = tokens.get_or_create(&channel("a")).await.unwrap();
        assert_ne!(next, token);
        assert_eq!(join(&tokens, &token).await, None);
        assert!(join(&tokens, &next).await.is_some());
    }

    #[tokio::test]
    async fn renewals_survive_a_restart_once_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000_000);
        let (tokens, directory) = open(folder.path(), &clock);
        let token = tokens.get_or_create(&channel("a")).await.unwrap();
        clock.advance(6 * DAY);
        assert!(join(&tokens, &token).await.is_some());
        tokens.flush().await;
        assert!(tokens.known.lock().renewals.is_empty());
        drop((tokens, directory));
        let (tokens, _directory) = open(folder.path(), &clock);
        clock.advance(6 * DAY);
        assert!(join(&tokens, &token).await.is_some());
        assert_eq!(tokens.get_or_create(&channel("a")).await.unwrap(), token);
    }

    #[tokio::test]
    async fn joining_again_soon_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000_000);
        let (tokens, _directory) = open(folder.path(), &clock);
        let token = tokens.get_or_create(&channel("a")).await.unwrap();
        clock.advance(TOKEN_RENEWAL_STEP / 2);
        assert!(join(&tokens, &token).await.is_some());
        assert!(tokens.known.lock().renewals.is_empty());
        clock.advance(TOKEN_RENEWAL_STEP);
        assert!(join(&tokens, &token).await.is_some());
        assert_eq!(tokens.known.lock().renewals.len(), 1);
    }

    #[tokio::test]
    async fn a_lost_secret_replaces_tokens_instead_of_failing() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, directory) = open(folder.path(), &Clock::system());
        let token = tokens.get_or_create(&channel("a")).await.unwrap();
        drop((tokens, directory));
        std::fs::remove_file(folder.path().join("token_secret")).unwrap();
        let (tokens, _directory) = open(folder.path(), &Clock::system());
        let next = tokens.get_or_create(&channel("a")).await.unwrap();
        assert_ne!(next, token);
        assert_eq!(join(&tokens, &next).await.as_deref(), Some("a"));
        assert_eq!(join(&tokens, &token).await, None);
    }
}
