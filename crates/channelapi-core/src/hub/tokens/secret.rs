//! How tokens are made.
//!
//! A token is `HMAC-SHA256(secret, generation ‖ channel)` with a random generation per channel; only the generation and the
//! token's hash are stored. So the same channel can be told its token again, and nothing usable lies in the database.

use crate::clock::millis_of;
use crate::limits::{TOKEN_LIFETIME, TOKEN_LIFETIME_MAX, TOKEN_LIFETIME_MIN};
use crate::model::{ChannelName, Token};
use crate::state::StoredToken;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::time::Duration;

/// What all tokens of a data directory are derived from.
pub(super) struct TokenSecret(pub(super) [u8; 32]);

impl TokenSecret {
    /// A new token that is not stored yet, made `now`, in milliseconds since 1970. A lifetime outside the limits becomes the
    /// nearest inside.
    pub(super) fn fresh(
        &self,
        channel: &ChannelName,
        lifetime: Option<Duration>,
        end: impl FnOnce(u64) -> u64,
    ) -> Result<StoredToken, getrandom::Error> {
        let mut generation = [0; 16];
        getrandom::fill(&mut generation)?;
        let lifetime = lifetime.unwrap_or(TOKEN_LIFETIME).clamp(TOKEN_LIFETIME_MIN, TOKEN_LIFETIME_MAX);
        let lifetime = millis_of(lifetime);
        let hash = self.token(channel, &generation).hash();
        let expires_at = end(lifetime);
        Ok(StoredToken { channel: channel.clone(), generation, hash, expires_at, lifetime })
    }

    /// The token of a channel in one of its generations.
    pub(super) fn token(&self, channel: &ChannelName, generation: &[u8; 16]) -> Token {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        // The generation has a fixed length, so no two pairs give the same input.
        mac.update(b"channelapi token 1");
        mac.update(generation);
        mac.update(channel.as_str().as_bytes());
        Token::from_bytes(&mac.finalize().into_bytes().into())
    }

    /// The token of a stored row, unless it was made with another secret.
    pub(super) fn token_of(&self, stored: &StoredToken) -> Option<Token> {
        Some(self.token(&stored.channel, &stored.generation)).filter(|token| token.hash() == stored.hash)
    }
}
