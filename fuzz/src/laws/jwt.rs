//! A JWT as a client brings it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::identity::{Claims, NOW, OTHER_SECRET, SECRET, verify};

/// Everything that was ever signed with the private halves of the keys in `seeds/jwks/ok-all`.
const SIGNED: [&str; 6] = [
    include_str!("../../seeds/jwt/ok-rs256"),
    include_str!("../../seeds/jwt/ok-ps256"),
    include_str!("../../seeds/jwt/ok-es256"),
    include_str!("../../seeds/jwt/ok-es384"),
    include_str!("../../seeds/jwt/ok-eddsa"),
    include_str!("../../seeds/jwt/bad-expired"),
];

/// The input is a text.
///
/// - It is good only if who holds its issuer's key signed these very bytes, with the algorithm of that key: with a secret, as is
///   found out here without the library that verifies; with a private key, it must be one of those that were signed while there was one.
/// - It says the same when it is judged again, and nothing when a byte is added or missing.
/// - What it opens is within the limits, and it has not ended.
pub fn jwt(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(claims) = verify(text, NOW * 1_000) else { return false };
    let (message, signature) = text.rsplit_once('.').expect("it was signed");
    let (header, _) = message.split_once('.').expect("its head was read");
    let header = URL_SAFE_NO_PAD.decode(header).expect("it was read");
    if member(&header, "alg") == "HS256" {
        let secret = if &*claims.bearer.issuer == "https://a.example" { SECRET } else { OTHER_SECRET };
        assert_eq!(signature, sign(secret, message), "who has signed this?");
    } else {
        let was_signed = |jwt: &&str| jwt.rsplit_once('.').is_some_and(|(signed, _)| signed == message);
        assert!(SIGNED.iter().any(was_signed), "who has signed this?");
    }
    assert_eq!(verify(text, NOW * 1_000).as_ref(), Ok(&claims), "judged again");
    for other in [&text[..text.len() - 1], &text[1..], &format!("{text}A"), &format!("A{text}")] {
        assert!(verify(other, NOW * 1_000).is_err(), "{other} is not what was signed");
    }
    assert_limits(&claims);
    true
}

/// A signature by HS256.
pub(super) fn sign(secret: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a secret has any length");
    mac.update(message.as_bytes());
    encode(&mac.finalize().into_bytes())
}

/// One member of an object, or null. The others are passed over, also such that are no good JSON.
pub(super) fn member(object: &[u8], name: &str) -> Value {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(object).expect("it was understood");
    let value = members.get(name).map(|value| serde_json::from_str(value.get()));
    value.transpose().expect("it was understood").unwrap_or_default()
}

/// A part of a JWT.
pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What no JWT may have or open, whoever signed it.
pub(super) fn assert_limits(claims: &Claims) {
    assert!(claims.opened().next().is_some() && claims.channels().len() <= 128);
    assert!((NOW - 10) * 1_000 < claims.expires_at, "it has ended");
    assert!(claims.expires_at <= (NOW + 366 * 86_400) * 1_000, "it never ends");
    assert!(claims.bearer.issued_at <= (NOW + 10) * 1_000, "it comes from the future");
    let is_of_b = &*claims.bearer.issuer == "https://b.example";
    for channel in claims.channels() {
        assert!(claims.grants(channel) && !channel.as_str().contains('*'));
        assert!(!is_of_b || channel.as_str().starts_with("user:"), "its issuer may not open {channel}");
    }
    for text in [&claims.bearer.subject, &claims.bearer.id].into_iter().flatten() {
        assert!((1..=255).contains(&text.len()), "a claim of {} bytes", text.len());
    }
}
