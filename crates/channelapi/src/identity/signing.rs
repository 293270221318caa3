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
    /// The file that was named for it cannot be read.
    #[error("--key-file: cannot read {0}")]
    KeyFile(String),
    /// The configuration has no key for signing.
    #[error("the issuer has no secret in the configuration; name a private key with --key-file")]
    NoKey,
    /// The file holds no such key.
    #[error(
        "{0}: there is no private key in PEM form that can be used: RSA, P-256 or P-384 in PKCS#8, or Ed25519"
    )]
    NoPrivateKey(String),
    /// It verifies, and signs nothing.
    #[error("{0}: it is a public key; name the private one that belongs to it")]
    PublicKey(String),
    /// What `openssl ecparam -genkey` writes.
    #[error(
        "{0}: the key is in the form of SEC1, and is read as PKCS#8 only: `openssl pkcs8 -topk8 -nocrypt -in {0} -out pkcs8.pem` makes that of it"
    )]
    Sec1(String),
    /// Nobody is asked for its password.
    #[error("{0}: the key is encrypted: `openssl pkcs8 -in {0} -out decrypted.pem` decrypts it")]
    Encrypted(String),
    /// The algorithm goes with another key.
    #[error("the key cannot be used with {0}; leave out --algorithm to take the one that goes with it")]
    Algorithm(String),
    /// The algorithm of the configuration goes with another key.
    #[error(
        "the key cannot be used with {0}, which the `algorithms` of the jwt entry begin with; name another with --algorithm"
    )]
    ConfiguredAlgorithm(String),
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
            let pem = read(path).map_err(|error| match error {
                SetUpError::File { path, error } => {
                    SignError::KeyFile(format!("{}: {error}", path.display()))
                }
                other => other.into(),
            })?;
            named(&pem, path.display().to_string())?
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
        None if request.algorithm.is_none() => Err(SignError::ConfiguredAlgorithm(name.to_owned())),
        None => Err(SignError::Algorithm(name.to_owned())),
    }
}

/// The private key in a file.
fn named(pem: &[u8], path: String) -> Result<(EncodingKey, Algorithm), SignError> {
    let text = String::from_utf8_lossy(pem);
    let has = |what: &str| text.contains(&format!("-----BEGIN {what}-----"));
    if has("EC PRIVATE KEY") {
        return Err(SignError::Sec1(path));
    }
    if has("ENCRYPTED PRIVATE KEY") {
        return Err(SignError::Encrypted(path));
    }
    // The library takes that of RSA for a private one until it is to sign.
    if (has("PUBLIC KEY") || has("RSA PUBLIC KEY")) && !text.contains("PRIVATE KEY-----") {
        return Err(SignError::PublicKey(path));
    }
    private(pem).ok_or(SignError::NoPrivateKey(path))
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
