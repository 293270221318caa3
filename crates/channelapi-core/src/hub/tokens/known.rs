//! What memory knows of tokens: those that were used lately, and the renewals that wait to be written.

use crate::clock::millis_of;
use crate::counters::COUNTERS;
use crate::limits::{TOKEN_CACHE_MAX, TOKEN_RENEWAL_STEP, TOKEN_RENEWALS_MAX};
use crate::model::{ChannelName, TokenHash};
use crate::state::StoredToken;
use std::collections::HashMap;

/// A token in memory.
#[derive(Clone)]
pub(super) struct KnownToken {
    pub(super) channel: ChannelName,
    pub(super) expires_at: u64,
    pub(super) lifetime: u64,
}

/// Two generations: when the young one is half of the limit it becomes the old one, whose tokens, if used, come back.
#[derive(Default)]
pub(super) struct Known {
    young: HashMap<TokenHash, KnownToken>,
    old: HashMap<TokenHash, KnownToken>,
    /// Renewals that are not on disk yet.
    pub(super) renewals: HashMap<TokenHash, u64>,
    /// Whether the disk took none the last time.
    is_refused: bool,
    /// How many tokens were revoked or replaced. What was read from disk at another count may be revoked by now.
    pub(super) revocations: u64,
}

/// What a token is called that is to be removed.
pub(super) enum Named {
    /// The one of this channel.
    Channel(ChannelName),
    /// The one with this hash.
    Hash(TokenHash),
}

/// How many renewals wait to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// There is room for more.
    Some,
    /// They should be written at once.
    Full,
}

impl KnownToken {
    /// A token that the disk told of, with the time when it really dies.
    pub(super) fn of(stored: StoredToken, expires_at: u64) -> Self {
        Self { channel: stored.channel, expires_at, lifetime: stored.lifetime }
    }
}

impl Known {
    /// The token with a hash, which counts as used.
    pub(super) fn get(&mut self, hash: &TokenHash) -> Option<KnownToken> {
        if let Some(token) = self.young.get(hash) {
            return Some(token.clone());
        }
        let token = self.old.remove(hash)?;
        self.insert(*hash, token.clone());
        Some(token)
    }

    /// Remembers a token, and of the longest unused as few as the limit wants.
    pub(super) fn insert(&mut self, hash: TokenHash, token: KnownToken) {
        if self.young.len() >= TOKEN_CACHE_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&hash);
        self.young.insert(hash, token);
    }

    /// A token was used: it lives for its full time again, up to `expires_at`. Soon after the last time, that is not worth a write. While the disk takes no
    /// renewals and as many wait as may, it lives only as long as before, in memory as on disk, until it is used when there is room.
    pub(super) fn renew(&mut self, hash: TokenHash, token: KnownToken, expires_at: u64) -> Waiting {
        let step = millis_of(TOKEN_RENEWAL_STEP).min(token.lifetime / 10);
        if expires_at.saturating_sub(token.expires_at) < step {
            self.insert(hash, token);
            return Waiting::Some;
        }
        if self.renewals.len() >= TOKEN_RENEWALS_MAX && !self.renewals.contains_key(&hash) {
            COUNTERS.renewals_dropped.count();
            self.insert(hash, token);
        } else {
            self.insert(hash, KnownToken { expires_at, ..token });
            self.renewals.insert(hash, expires_at);
        }
        let is_many = self.renewals.len() >= TOKEN_RENEWALS_MAX / 2;
        // What a disk has just refused can wait: it would be asked as often as clients join.
        if is_many && !self.is_refused { Waiting::Full } else { Waiting::Some }
    }

    /// The renewals that are not on disk yet: when each token dies now.
    pub(super) fn waiting(&self) -> Vec<(TokenHash, u64)> {
        self.renewals.iter().map(|(hash, expires_at)| (*hash, *expires_at)).collect()
    }

    /// These renewals are on disk. One that was renewed again meanwhile stays for the next time.
    pub(super) fn written(&mut self, renewals: &[(TokenHash, u64)]) {
        self.is_refused = false;
        for (hash, expires_at) in renewals {
            if self.renewals.get(hash) == Some(expires_at) {
                self.renewals.remove(hash);
            }
        }
    }

    /// The disk took no renewals: until it does, they are not written early.
    pub(super) fn refused(&mut self) {
        self.is_refused = true;
    }

    /// A token was removed.
    pub(super) fn forget(&mut self, hash: &TokenHash) {
        self.young.remove(hash);
        self.old.remove(hash);
        self.renewals.remove(hash);
    }

    /// The disk has not said what became of a token: it is asked when it is used next. Renewals may wait: they bring back nothing that is
    /// not on disk.
    pub(super) fn doubt(&mut self, named: &Named) {
        for tokens in [&mut self.young, &mut self.old] {
            match named {
                Named::Channel(channel) => tokens.retain(|_, token| token.channel != *channel),
                Named::Hash(hash) => _ = tokens.remove(hash),
            }
        }
    }

    /// When a stored token really dies: a renewal may still wait.
    pub(super) fn expiry(&self, stored: &StoredToken) -> u64 {
        stored.expires_at.max(self.renewals.get(&stored.hash).copied().unwrap_or(0))
    }
}
