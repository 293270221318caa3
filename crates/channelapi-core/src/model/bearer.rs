//! Whom a JWT speaks of: what can be revoked about it.

use crate::limits::CLAIM_BYTES_MAX;
use std::sync::Arc;

/// Who a JWT was issued to, by whom, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Who signed it, as the configuration calls that one; empty where it has no name.
    pub issuer: Arc<str>,
    /// The user, if the JWT names one.
    pub subject: Option<Box<str>>,
    /// The JWT itself, if it has a name.
    pub id: Option<Box<str>>,
    /// When it was issued, in milliseconds since 1970; 0 if it does not say.
    pub issued_at: u64,
}

/// What a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevokedKind {
    /// One JWT, by its `jti`.
    Id,
    /// All JWTs of a user, by their `sub`.
    Subject,
    /// A channel: nobody is let in with what was issued before.
    Channel,
    /// All JWTs of an issuer, as the configuration calls that one.
    Issuer,
}

impl RevokedKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Id, Self::Subject, Self::Channel, Self::Issuer];

    /// Its name in requests, in answers and on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Id => "jti",
            Self::Subject => "subject",
            Self::Channel => "channel",
            Self::Issuer => "issuer",
        }
    }
}

/// What somebody wants to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationRequest {
    /// What is named.
    pub kind: RevokedKind,
    /// The name.
    pub value: Box<str>,
    /// Only JWTs of this issuer; empty for all, and if it is an issuer that is named.
    pub issuer: Box<str>,
    /// What was issued earlier is revoked, in milliseconds since 1970. A JWT that is named by its id is revoked in any case.
    pub before: u64,
    /// When it may be forgotten.
    pub until: u64,
}

/// Something that is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its own name.
    pub id: u64,
    /// What it says.
    pub what: RevocationRequest,
    /// When it was said first.
    pub created_at: u64,
}

/// Whether a text may be a claim that is remembered.
pub fn is_claim(text: &str) -> bool {
    (1..=CLAIM_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}
