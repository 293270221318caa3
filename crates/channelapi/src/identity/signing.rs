//! Making a JWT, for trying things out: `channelapi jwt sign`.

use super::base64url;
use super::issuer::{SetUpError, read};
use crate::config::jwt::{Issuer, KeySource};
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, crypto};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// What a JWT is to say.
#[derive(Debug, Clone, Default)]
pub(crate) struct SignRequest {
    /// The channels it opens.
    pub(crate) channels: Vec<String>,
    /// The user.
    pub(crate) subject: Option<String>,
    /// Its own name.
    pub(crate) id: Option<String>,
    /// How long it is good.
    pub(crate) ttl: Duration,
    /// A private key in PEM form, where the configuration has only the public one.
    pub(crate) key_file: Option<PathBuf>,
    /// The name of that key in the JWKS.
    pub(crate) kid: Option<String>,
    /// How it is signed, where the key leaves a choice.
    pub(crate) algorithm: Option<String>,
}

/// Why a JWT cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SetUpError),
    /// The configuration has no key for signing.
    #[error("the issuer has no secret in the configuration; name a private key with --key-file")]
    NoKey,
    /// The file holds no such key.
    #[error(
        "{0}: there is no private key in PEM form that can be used: RSA, P-256 or P-384 in PKCS#8, or Ed25519"
    )]
    NoPrivateKey(String),
    /// The algorithm goes with another key.
    #[error("the key cannot be used with {0}; leave out --algorithm to take the one that goes with it")]
    Algorithm(String),
}

/// A JWT that this issuer's rules like, issued at a time in seconds since 1970.
pub(crate) fn sign(issuer: &Issuer, request: &SignRequest, now: u64) -> Result<String, SignError> {
    let (key, algorithm) = key(issuer, request)?;
    let mut claims = Map::new();
    claims.extend(issuer.issuer.clone().map(|issuer| ("iss".to_owned(), Value::from(issuer))));
    claims.extend(issuer.audience.first().map(|audience| ("aud".to_owned(), Value::from(audience.clone()))));
    claims.extend(request.subject.clone().map(|subject| ("sub".to_owned(), Value::from(subject))));
    claims.extend(request.id.clone().map(|id| ("jti".to_owned(), Value::from(id))));
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), now.saturating_add(request.ttl.as_secs()).into());
    claims.insert(issuer.channels_claim.clone(), request.channels.clone().into());
    let mut header = json!({"alg": format!("{algorithm:?}"), "typ": "JWT"});
    if let Some(kid) = &request.kid {
        header["kid"] = kid.clone().into();
    }
    let part = |value: &Value| base64url::encode(value.to_string().as_bytes());
    let message = format!("{}.{}", part(&header), part(&Value::Object(claims)));
    let signature = crypto::sign(message.as_bytes(), &key, algorithm)
        .map_err(|_| SignError::Algorithm(format!("{algorithm:?}")))?;
    Ok(format!("{message}.{signature}"))
}

fn key(issuer: &Issuer, request: &SignRequest) -> Result<(EncodingKey, Algorithm), SignError> {
    let wanted = request.algorithm.as_deref().or(issuer.algorithms.first().map(String::as_str));
    let (key, usual) = match (&request.key_file, &issuer.keys) {
        (Some(path), _) => {
            let pem = read(path)?;
            let no_key = || SignError::NoPrivateKey(path.display().to_string());
            private(&pem).ok_or_else(no_key)?
        }
        (None, KeySource::Secret(secret)) => {
            (EncodingKey::from_secret(secret.expose().as_bytes()), Algorithm::HS256)
        }
        (None, KeySource::SecretFile(path)) => {
            let secret = read(path)?;
            let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
            let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
            (EncodingKey::from_secret(secret), Algorithm::HS256)
        }
        (None, _) => return Err(SignError::NoKey),
    };
    let Some(name) = wanted else {
        return Ok((key, usual));
    };
    let algorithm: Option<Algorithm> = name.parse().ok();
    let fits = |algorithm: &Algorithm| match key.family() {
        AlgorithmFamily::Ec | AlgorithmFamily::Ed => *algorithm == usual,
        family => algorithm.family() == family,
    };
    match algorithm.filter(fits) {
        Some(algorithm) => Ok((key, algorithm)),
        None => Err(SignError::Algorithm(name.to_owned())),
    }
}

/// A private key in PEM form, and the algorithm that goes with it.
fn private(pem: &[u8]) -> Option<(EncodingKey, Algorithm)> {
    if let Ok(key) = EncodingKey::from_rsa_pem(pem) {
        return Some((key, Algorithm::RS256));
    }
    if let Ok(key) = EncodingKey::from_ed_pem(pem) {
        return Some((key, Algorithm::EdDSA));
    }
    let key = EncodingKey::from_ec_pem(pem).ok()?;
    // Only one of the curves fits.
    let usual = [Algorithm::ES256, Algorithm::ES384]
        .into_iter()
        .find(|algorithm| crypto::sign(b"", &key, *algorithm).is_ok())?;
    Some((key, usual))
}
