//! Channel tokens: who has one may join its channel, for seven days (or another time) after it was made or last used.
//!
//! A token is `HMAC-SHA256(secret, generation ‖ channel)` with a random generation per channel; only the generation and the
//! token's hash are stored. So the same channel can be told its token again, and nothing usable lies in the database.
//!
//! Invariants:
//! - A token is on disk before anyone is told it.
//! - A join costs no write: renewals gather in memory and are written together. A crash may shorten a token's life by
//!   [`TOKEN_RENEWAL_STEP`] + [`TOKEN_RENEWAL_INTERVAL`].
//! - A token that was revoked or replaced opens nothing once the call has returned, and nothing brings it back: memory forgets
//!   it after the disk did, and whoever read the disk before that reads again.

use crate::clock::{Clock, millis_of};
use crate::limits::{
    TOKEN_BYTES_MAX, TOKEN_CACHE_MAX, TOKEN_LIFETIME, TOKEN_LIFETIME_MAX, TOKEN_LIFETIME_MIN,
    TOKEN_PRUNE_INTERVAL, TOKEN_PRUNE_MARGIN, TOKEN_RENEWAL_INTERVAL, TOKEN_RENEWAL_STEP, TOKEN_RENEWALS_MAX,
};
use crate::model::{ChannelName, Token, TokenHash};
use crate::state::{StateError, StateStore, StoredToken};
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{error, warn};

/// Makes, finds and renews tokens.
pub struct Tokens {
    state: StateStore,
    secret: [u8; 32],
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
    lifetime: u64,
}

/// Two generations: when the young one is half of the limit it becomes the old one, whose tokens, if used, come back.
#[derive(Default)]
struct Known {
    young: HashMap<TokenHash, KnownToken>,
    old: HashMap<TokenHash, KnownToken>,
    /// Renewals that are not on disk yet.
    renewals: HashMap<TokenHash, u64>,
    /// How many tokens were revoked or replaced. What was read from disk at another count may be revoked by now.
    revocations: u64,
}

impl Tokens {
    /// Tokens of a state store, derived from `secret`.
    pub fn new(state: StateStore, secret: [u8; 32], clock: Clock) -> Self {
        Self { state, secret, clock, known: Arc::default(), renewals_full: Notify::new() }
    }

    /// The token of a channel: the one that lives, or a new one for seven days. When this returns, it is on disk.
    pub async fn get_or_create(&self, channel: &ChannelName) -> Result<Token, TokenError> {
        self.get_or_create_for(channel, None).await.map(|issued| issued.token)
    }

    /// The token of a channel: the one that lives, or a new one. With a lifetime (at most [`TOKEN_LIFETIME_MAX`]), it lives at
    /// least that long after now and after each use; a longer life that it has stays.
    pub async fn get_or_create_for(
        &self,
        channel: &ChannelName,
        lifetime: Option<Duration>,
    ) -> Result<IssuedToken, TokenError> {
        if let Some(stored) = self.state.token_by_channel(channel.clone()).await?
            && let expires_at = self.expiry(&stored)
            && expires_at > self.clock.unix_millis()
            && let Some(token) = self.derive_checked(&stored)
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
            if let Some(token) = self.derive_checked(&held) {
                let expires_at = self.expiry(&held);
                let mut known = self.known.lock();
                if known.revocations == revocations {
                    known.insert(held.hash, KnownToken::of(held, expires_at));
                }
                return Ok(IssuedToken { token, expires_at });
            }
            warn!(%channel, "a stored token was made with another secret; it is replaced");
            self.state.remove_by_channel(channel.clone()).await?;
        }
    }

    /// A new token for a channel. When this returns, it is on disk and the one before opens nothing.
    pub async fn rotate(
        &self,
        channel: &ChannelName,
        lifetime: Option<Duration>,
    ) -> Result<IssuedToken, TokenError> {
        let (fresh, now) = self.fresh(channel, lifetime)?;
        let issued =
            IssuedToken { token: self.derive(channel, &fresh.generation), expires_at: fresh.expires_at };
        let state = self.state.clone();
        self.remove(async move { state.replace(fresh, now).await }).await?;
        Ok(issued)
    }

    /// Ends the token of a channel, and says whether there was one that lived. When this returns, it opens nothing.
    pub async fn revoke(&self, channel: &ChannelName) -> Result<bool, TokenError> {
        let (state, channel) = (self.state.clone(), channel.clone());
        let removed = self.remove(async move { state.remove_by_channel(channel).await }).await?;
        Ok(removed.is_some())
    }

    /// Ends a token, and returns the channel that it opened. When this returns, it opens nothing.
    pub async fn revoke_token(&self, text: &str) -> Result<Option<ChannelName>, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let (state, hash) = (self.state.clone(), TokenHash::of(text));
        self.remove(async move { state.remove_by_hash(hash).await }).await
    }

    /// What memory knows about a text that claims to be a token. A valid one is renewed.
    pub fn lookup(&self, text: &str) -> Lookup {
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
            return Lookup::Invalid;
        }
        let hash = TokenHash::of(text);
        let now = self.clock.unix_millis();
        // One lock for both, or else a renewal might follow a revocation.
        let mut known = self.known.lock();
        match known.get(&hash) {
            Some(token) if token.expires_at > now => {
                let channel = token.channel.clone();
                self.renew(&mut known, hash, token, now);
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
            let now = self.clock.unix_millis();
            let mut known = self.known.lock();
            if known.revocations != revocations {
                continue;
            }
            let expires_at = known.expiry(&stored);
            if expires_at <= now {
                return Ok(None);
            }
            let channel = stored.channel.clone();
            self.renew(&mut known, hash, KnownToken::of(stored, expires_at), now);
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
                let before = self.clock.unix_millis().saturating_sub(millis_of(TOKEN_PRUNE_MARGIN));
                if let Err(error) = self.state.prune_tokens(before).await {
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

    /// A new token that is not stored yet, and the time it was made at.
    fn fresh(
        &self,
        channel: &ChannelName,
        lifetime: Option<Duration>,
    ) -> Result<(StoredToken, u64), TokenError> {
        let mut generation = [0; 16];
        getrandom::fill(&mut generation).map_err(TokenError::Random)?;
        let lifetime = lifetime.unwrap_or(TOKEN_LIFETIME).clamp(TOKEN_LIFETIME_MIN, TOKEN_LIFETIME_MAX);
        let (lifetime, now) = (millis_of(lifetime), self.clock.unix_millis());
        let hash = self.derive(channel, &generation).hash();
        let expires_at = now + lifetime;
        Ok((StoredToken { channel: channel.clone(), generation, hash, expires_at, lifetime }, now))
    }

    /// Removes a token, on disk and then in memory, and returns its channel if it lived until now.
    async fn remove(
        &self,
        removal: impl Future<Output = Result<Option<StoredToken>, StateError>> + Send + 'static,
    ) -> Result<Option<ChannelName>, TokenError> {
        let (known, clock) = (self.known.clone(), self.clock.clone());
        // A task of its own: whoever asked may hang up, and the disk must not be alone in knowing.
        let removed = tokio::spawn(async move {
            let removed = removal.await?;
            let mut known = known.lock();
            known.revocations += 1;
            let Some(token) = removed else {
                return Ok(None);
            };
            let has_lived = known.expiry(&token) > clock.unix_millis();
            known.forget(&token.hash);
            Ok(has_lived.then_some(token.channel))
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
    fn renew(&self, known: &mut Known, hash: TokenHash, token: KnownToken, now: u64) {
        let expires_at = now + token.lifetime;
        let step = millis_of(TOKEN_RENEWAL_STEP).min(token.lifetime / 10);
        if expires_at.saturating_sub(token.expires_at) < step {
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

impl KnownToken {
    fn of(stored: StoredToken, expires_at: u64) -> Self {
        Self { channel: stored.channel, expires_at, lifetime: stored.lifetime }
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

    fn forget(&mut self, hash: &TokenHash) {
        self.young.remove(hash);
        self.old.remove(hash);
        self.renewals.remove(hash);
    }

    /// When a stored token really dies: a renewal may still wait.
    fn expiry(&self, stored: &StoredToken) -> u64 {
        stored.expires_at.max(self.renewals.get(&stored.hash).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::DataDirectory;
    use std::path::Path;

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

    #[tokio::test]
    async fn a_chosen_lifetime_slides_too_and_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(0);
        let (tokens, directory) = open(folder.path(), &clock);
        let minutes = |count| Some(Duration::from_mins(count));
        let millis = |count| millis_of(Duration::from_mins(count));
        let issued = tokens.get_or_create_for(&channel("a"), minutes(30)).await.unwrap();
        assert_eq!(issued.expires_at, millis(30));
        clock.advance(Duration::from_mins(29));
        assert!(join(&tokens, &issued.token).await.is_some());
        clock.advance(Duration::from_mins(2));
        let same = tokens.get_or_create_for(&channel("a"), None).await.unwrap();
        assert_eq!(same, IssuedToken { token: issued.token.clone(), expires_at: millis(59) });
        let shorter = tokens.get_or_create_for(&channel("a"), minutes(5)).await.unwrap();
        assert_eq!(shorter, same, "alive, although on disk it was dead before this minute");
        let longer = tokens.get_or_create_for(&channel("a"), minutes(60)).await.unwrap();
        assert_eq!(longer, IssuedToken { expires_at: millis(31 + 60), ..same });
        drop((tokens, directory));

        let (tokens, _directory) = open(folder.path(), &clock);
        clock.advance(Duration::from_mins(59));
        assert!(join(&tokens, &issued.token).await.is_some());
        clock.advance(Duration::from_mins(59));
        assert!(join(&tokens, &issued.token).await.is_some(), "its hour began again");
        clock.advance(Duration::from_hours(1));
        assert_eq!(join(&tokens, &issued.token).await, None);
        for (lifetime, expected) in
            [(Duration::ZERO, TOKEN_LIFETIME_MIN), (Duration::MAX, TOKEN_LIFETIME_MAX)]
        {
            let issued = tokens.rotate(&channel("b"), Some(lifetime)).await.unwrap();
            assert_eq!(issued.expires_at - clock.unix_millis(), millis_of(expected));
        }
    }

    #[tokio::test]
    async fn a_rotated_token_opens_nothing_and_the_new_one_its_channel() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(0);
        let (tokens, directory) = open(folder.path(), &clock);
        let old = tokens.get_or_create(&channel("a")).await.unwrap();
        assert!(matches!(tokens.lookup(old.reveal()), Lookup::Valid(_)), "in memory");
        let new = tokens.rotate(&channel("a"), None).await.unwrap();
        assert_eq!(new.expires_at, millis_of(TOKEN_LIFETIME));
        assert_eq!(join(&tokens, &old).await, None);
        assert_eq!(join(&tokens, &new.token).await.as_deref(), Some("a"));
        assert_eq!(tokens.get_or_create(&channel("a")).await.unwrap(), new.token);
        drop((tokens, directory));
        let (tokens, _directory) = open(folder.path(), &clock);
        assert_eq!(join(&tokens, &old).await, None);
        assert_eq!(join(&tokens, &new.token).await.as_deref(), Some("a"));
    }

    #[tokio::test]
    async fn a_revoked_token_stays_dead_whatever_waited_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(0);
        let (tokens, directory) = open(folder.path(), &clock);
        let [first, second] = [channel("a"), channel("b")];
        let a = tokens.get_or_create(&first).await.unwrap();
        let b = tokens.get_or_create(&second).await.unwrap();
        clock.advance(DAY);
        assert!(join(&tokens, &a).await.is_some() && join(&tokens, &b).await.is_some());
        assert_eq!(tokens.known.lock().renewals.len(), 2, "they wait");
        assert!(tokens.revoke(&first).await.unwrap());
        assert!(!tokens.revoke(&first).await.unwrap());
        assert_eq!(tokens.revoke_token(b.reveal()).await.unwrap(), Some(second));
        assert_eq!(tokens.revoke_token(b.reveal()).await.unwrap(), None);
        tokens.flush().await;
        assert_eq!((join(&tokens, &a).await, join(&tokens, &b).await), (None, None));
        assert_ne!(tokens.get_or_create(&first).await.unwrap(), a);
        drop((tokens, directory));
        let (tokens, _directory) = open(folder.path(), &clock);
        assert_eq!((join(&tokens, &a).await, join(&tokens, &b).await), (None, None));
    }

    /// Runs a future a little, and says whether it waits for something.
    async fn waits<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        tokio::select! {
            biased;
            _ = future => false,
            () = std::future::ready(()) => true,
        }
    }

    #[tokio::test]
    async fn whoever_read_the_disk_before_a_revocation_does_not_open_the_channel_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, directory) = open(folder.path(), &Clock::system());
        let token = tokens.get_or_create(&channel("a")).await.unwrap();
        drop((tokens, directory));
        let (tokens, _directory) = open(folder.path(), &Clock::system());
        let find = loop {
            let mut find = Box::pin(tokens.find(token.hash()));
            // Else the reader was faster than we.
            if waits(&mut find).await {
                break find;
            }
        };
        // The reader takes one question after the other, so it has answered by now that the token lives.
        assert!(tokens.state.token_by_hash(token.hash()).await.unwrap().is_some());
        assert!(tokens.revoke(&channel("a")).await.unwrap());
        assert_eq!(find.await.unwrap(), None);
        assert!(matches!(tokens.lookup(token.reveal()), Lookup::Unknown(_)));
    }

    #[tokio::test]
    async fn whoever_made_a_token_before_a_rotation_does_not_remember_it_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, _directory) = open(folder.path(), &Clock::system());
        let channel = channel("a");
        let on_disk = || async { tokens.state.token_by_channel(channel.clone()).await.unwrap() };
        let make = loop {
            let mut make = Box::pin(tokens.get_or_create(&channel));
            // First it waits for the reader, who has answered it before us, then for the writer. Else they were faster than we.
            if waits(&mut make).await && on_disk().await.is_none() && waits(&mut make).await {
                break make;
            }
            tokens.revoke(&channel).await.unwrap();
        };
        while on_disk().await.is_none() {}
        tokens.rotate(&channel, None).await.unwrap();
        assert_eq!(join(&tokens, &make.await.unwrap()).await, None);
    }

    #[tokio::test]
    async fn a_revocation_is_finished_even_if_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, _directory) = open(folder.path(), &Clock::system());
        let token = tokens.get_or_create(&channel("a")).await.unwrap();
        assert!(waits(&mut std::pin::pin!(tokens.revoke(&channel("a")))).await);
        tokio::time::timeout(Duration::from_secs(30), async {
            while join(&tokens, &token).await.is_some() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_race_brings_a_rotated_token_back() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(0);
        let (tokens, _directory) = open(folder.path(), &clock);
        let tokens = Arc::new(tokens);
        for _ in 0..50 {
            let old = tokens.get_or_create(&channel("a")).await.unwrap();
            // Every join is worth a renewal.
            clock.advance(DAY);
            let users = (0..4).map(|_| {
                let (tokens, old) = (tokens.clone(), old.clone());
                tokio::spawn(async move {
                    while join(&tokens, &old).await.is_some() {
                        tokens.flush().await;
                        tokens.get_or_create_for(&channel("a"), Some(7 * DAY)).await.unwrap();
                    }
                })
            });
            let users: Vec<_> = users.collect();
            tokens.rotate(&channel("a"), None).await.unwrap();
            assert_eq!(join(&tokens, &old).await, None);
            for user in users {
                tokio::time::timeout(Duration::from_mins(1), user).await.unwrap().unwrap();
            }
            assert_eq!(join(&tokens, &old).await, None);
        }
    }
}
