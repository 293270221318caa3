//! JWTs of all kinds, made by hand with keys that live as long as the test.

mod attacks;
mod jwks;
mod jwks_tls;
mod set_up;
mod several;
mod signers;

use super::claims::Claims;
use super::issuer::{Issuers, Refused};
use super::stay;
use crate::config::jwt::{Issuer, KeySource};
use crate::config::secret::Secret;
use serde_json::{Value, json};
use signers::Signer;

/// Now, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// A secret of the right size.
const SECRET: &str = "a-secret-of-more-than-32-bytes-that-nobody-guesses";

/// An issuer `https://issuer.example` for `push` that may open everything, by names.
fn issuer(keys: KeySource) -> Issuer {
    Issuer {
        issuer: Some("https://issuer.example".into()),
        audience: vec!["push".into()],
        algorithms: Vec::new(),
        keys,
        channels_claim: "channels".into(),
        grants: vec!["*".into()],
        allow_patterns: false,
        settings: Vec::new(),
    }
}

fn secret() -> KeySource {
    KeySource::Secret(Secret::new(SECRET))
}

/// What such an issuer's JWTs say.
fn claims() -> Value {
    json!({
        "iss": "https://issuer.example", "aud": "push", "sub": "ann", "jti": "1",
        "iat": NOW - 60, "exp": NOW + 600, "channels": ["a", "user:1"],
    })
}

/// Claims with one of them replaced, or without it.
fn claims_with(name: &str, value: Option<Value>) -> Value {
    let mut claims = claims();
    match value {
        Some(value) => claims[name] = value,
        None => _ = claims.as_object_mut().unwrap().remove(name),
    }
    claims
}

/// Once, one that had ended within the leeway let its client stay for the whole grace from then on.
#[test]
fn whoever_comes_late_with_a_jwt_goes_when_all_others_do() {
    let end = NOW * 1_000;
    for (late, expected) in [(-60_000, 85_000), (0, 25_000), (9_900, 15_100), (25_000, 0), (60_000, 0)] {
        assert_eq!(stay(end, end.saturating_add_signed(late)).as_millis(), expected, "{late} ms late");
    }
    assert_eq!(stay(u64::MAX, 0).as_millis(), u64::MAX.into());
}

async fn verify(issuers: &Issuers, token: &str) -> Result<Claims, Refused> {
    issuers.verify(token, NOW * 1_000).await
}

/// The channels that a JWT names.
fn names(claims: &Claims) -> Vec<&str> {
    claims.channels().iter().map(channelapi_core::model::ChannelName::as_str).collect()
}

fn hs256() -> Signer {
    Signer::secret("HS256", SECRET)
}
