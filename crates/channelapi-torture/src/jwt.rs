//! JWTs, made by hand.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// A part of a JWT.
pub(crate) fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A JWT by HMAC.
pub(crate) fn sign(secret: &str, header: &Value, payload: &str) -> String {
    let message = format!("{}.{}", part(&header.to_string()), part(payload));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a secret has any length");
    mac.update(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// The header of one.
pub(crate) fn hs256() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}
