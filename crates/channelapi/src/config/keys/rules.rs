//! Which keys are weak, which cannot be used at all, and how good ones are made.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};

use channelapi_core::limits::AUTH_KEY_BYTES_MAX;

use super::KeyError;
use crate::config::{
    secret::{KeyHash, Secret},
    value::Value as _,
};

/// Shortest key that is not called weak: 16 random bytes cannot be guessed, and shorter ones are rarely random.
const KEY_BYTES_MIN: usize = 16;

/// Bytes of randomness in a key of ours.
pub(super) const GENERATED_BYTES: usize = 32;

/// Keys that somebody has read somewhere: examples of ours and of the original, and what people type first.
const PUBLIC_KEYS: [&str; 8] =
    ["s3cur3_t0k3n", "changeme", "change-me", "secret", "password", "channelapi", "auth_key", "token"];

/// Hashes that our own pages print as examples. Of the first, everybody can find the key.
const PRINTED_HASHES: [&str; 2] = [
    "sha256:7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069",
    "sha256:d9a8cae9b5c37e6e2ec49dbb1fb1e9bd0e57c3b7ba03b6ae3d1c9ba7cc6dfe1f",
];

/// A new key, for who asks for one.
pub fn new_key() -> Result<Secret, KeyError> {
    generate().map(Secret::new)
}

/// Why a key cannot be used at all, or else what is weak about it; `None` if nothing is.
pub fn weakness_of(key: &Secret) -> Result<Option<String>, String> {
    match unusable(key.expose()) {
        Some(why) => Err(why),
        None => Ok(weakness(key.expose())),
    }
}

/// Why no HTTP header could carry the key.
pub(super) fn unusable(key: &str) -> Option<String> {
    if key.is_empty() {
        return Some("is empty".to_owned());
    }
    if key.len() > AUTH_KEY_BYTES_MAX {
        return Some(format!("is {} bytes long, the limit is {AUTH_KEY_BYTES_MAX}", key.len()));
    }
    if key.chars().any(char::is_control) {
        return Some(
            "contains a control character (a line break or tab?), which no HTTP header can carry".to_owned(),
        );
    }
    if key.trim() != key {
        return Some("starts or ends with a space, which HTTP strips from headers".to_owned());
    }
    None
}

pub(super) const PUBLIC: &str = "is publicly known";

/// Whether a hash is that of a key that somebody has read somewhere, or was read somewhere itself.
pub(super) fn is_public(hash: &KeyHash) -> bool {
    PUBLIC_KEYS.iter().any(|public| KeyHash::of(public.as_bytes()) == *hash)
        || PRINTED_HASHES.iter().any(|printed| KeyHash::parse(printed) == Ok(*hash))
}

/// Why somebody may know or guess the key.
pub(super) fn weakness(key: &str) -> Option<String> {
    if PUBLIC_KEYS.iter().any(|public| public.eq_ignore_ascii_case(key)) {
        return Some(PUBLIC.to_owned());
    }
    let bytes = key.len();
    (bytes < KEY_BYTES_MIN).then(|| format!("is only {bytes} bytes long, {KEY_BYTES_MIN} is the minimum"))
}

/// A new random key.
pub(super) fn generate() -> Result<String, KeyError> {
    loop {
        let mut bytes = [0; GENERATED_BYTES];
        getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
        let key = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        // One in 64 starts with a dash, and would be taken for a flag wherever somebody pastes it.
        if !key.starts_with('-') {
            return Ok(key);
        }
    }
}
