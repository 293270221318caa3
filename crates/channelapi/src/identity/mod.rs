//! What lets a client into channels: an opaque token of one channel, or a JWT of a configured issuer.
//!
//! [`Identity::verify`] is the one place where a credential is judged, for all doors and every time that a client comes back.
//!
//! Invariants:
//! - Nothing of a JWT is believed before its signature is, except which issuer's keys to try: no address, key or algorithm is
//!   taken from it.
//! - A key goes with its algorithms. What the header says only chooses among them.
//! - The issuer's configuration bounds what its JWTs may open, whatever they claim.
//! - Whoever is refused learns that the credential is not good, and of a well-signed one, that it has ended or was revoked. The
//!   reason in full is for the operator: see `channelapi jwt verify`.

mod base64url;
mod claims;
mod fetch;
mod issuer;
mod jwks;
mod keys;
mod signing;
#[cfg(test)]
mod tests;
mod weak_secrets;

pub(crate) use claims::Claims;
pub(crate) use issuer::Issuers;
pub(crate) use signing::{SignRequest, sign};

use crate::config::Config;
use crate::live::Live;
use crate::reload::{Change, Part};
use channelapi_core::clock::millis_of;
use channelapi_core::hub::{Hub, Lookup};
use channelapi_core::limits::{JWT_GRACE, JWT_LEEWAY};
use channelapi_core::model::ChannelName;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{debug, error};

/// Judges credentials.
pub(crate) struct Identity {
    hub: Arc<Hub>,
    issuers: Live<Issuers>,
    /// Who fetches keys has to begin anew.
    changed: Notify,
}

/// A credential that is good.
pub(crate) enum Credential {
    /// The token of a channel.
    Token(ChannelName),
    /// A JWT.
    Jwt(Box<Claims>),
}

/// Why a credential is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Nobody signed this, or not for us, or it is broken, or its token is unknown or has died.
    Invalid,
    /// It is signed well, and will be good in a while: clocks differ.
    Early,
    /// It was good once.
    Expired,
    /// It would be good, had it not been revoked.
    Revoked,
    /// Nobody can say right now: a disk or a provider of keys does not answer.
    Unavailable,
}

impl Denied {
    /// What programs tell it by.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Invalid => "token_invalid",
            Self::Early => "token_not_yet_valid",
            Self::Expired => "token_expired",
            Self::Revoked => "token_revoked",
            Self::Unavailable => "unavailable",
        }
    }

    /// What people read.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Invalid => "a token is unknown, is not valid or has expired",
            Self::Early => "a token is not valid yet: try again in a moment",
            Self::Expired => "a token has expired",
            Self::Revoked => "a token was revoked",
            Self::Unavailable => "the server cannot do this right now; try again",
        }
    }
}

impl Identity {
    /// Judges by the tokens and revocations of a hub, and the keys of issuers.
    pub(crate) fn new(hub: Arc<Hub>, issuers: Issuers) -> Self {
        Self { hub, issuers: Live::new(issuers), changed: Notify::new() }
    }

    /// Judges a credential. A token is renewed by it. This may wait for a disk, or as long as fetching keys may take.
    pub(crate) async fn verify(&self, text: &str) -> Result<Credential, Denied> {
        if is_jwt(text) {
            return self.verify_jwt(text).await.map(|claims| Credential::Jwt(Box::new(claims)));
        }
        let channel = match self.hub.tokens.lookup(text) {
            Lookup::Valid(channel) => Some(channel),
            Lookup::Invalid => None,
            Lookup::Unknown(hash) => self.hub.tokens.find(hash).await.map_err(|error| {
                error!(%error, "a token could not be looked up");
                Denied::Unavailable
            })?,
        };
        channel.map(Credential::Token).ok_or(Denied::Invalid)
    }

    async fn verify_jwt(&self, text: &str) -> Result<Claims, Denied> {
        let now = self.hub.clock().machine_millis();
        let claims = self.issuers.current().verify(text, now).await.map_err(|refused| {
            debug!(reason = %refused, "a JWT was refused");
            refused.denied()
        })?;
        let is_revoked = self.hub.revocations.cover(&claims.bearer, claims.channels());
        if is_revoked { Err(Denied::Revoked) } else { Ok(claims) }
    }

    /// Whether JWTs can be of an issuer of this name, or could since the start.
    pub(crate) fn has_had_issuer(&self, name: &str) -> bool {
        self.issuers.current().has_had(name)
    }

    /// For how long whoever a JWT has let in now may stay.
    pub(crate) fn stay(&self, claims: &Claims) -> Duration {
        stay(claims.expires_at, self.hub.clock().machine_millis())
    }

    /// Looks after the keys of issuers, until it is dropped.
    pub(crate) async fn keep_up(&self) {
        loop {
            let issuers = self.issuers.current();
            tokio::select! {
                () = issuers.keep_up() => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// Other issuers after a reload. Clients that are here stay until their JWTs end.
pub(crate) struct Reloading(pub(crate) Arc<Identity>);

impl Part for Reloading {
    fn options(&self, _: &Config) -> &'static [&'static str] {
        &["jwt."]
    }

    fn prepare(&self, config: &Config) -> anyhow::Result<Change> {
        let identity = self.0.clone();
        let issuers = Issuers::set_up(&config.jwt, Some(&identity.issuers.current()))?;
        Ok(Box::new(move || {
            identity.issuers.replace(issuers);
            identity.changed.notify_one();
        }))
    }
}

/// Whether a text has the form of a JWT: no token of ours has a dot.
pub(crate) fn is_jwt(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// How long is left at `now` until a JWT has ended and its grace is over; both times are in milliseconds since 1970. The leeway between two
/// clocks lets one in that has ended, but not for longer than others.
fn stay(expires_at: u64, now: u64) -> Duration {
    Duration::from_millis(expires_at.saturating_add(millis_of(JWT_GRACE)).saturating_sub(now))
}

/// The leeway between two clocks in milliseconds.
fn leeway() -> u64 {
    millis_of(JWT_LEEWAY)
}
