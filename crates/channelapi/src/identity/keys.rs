//! Keys that verify JWTs, each with the algorithms that it may be used with.

use super::base64url;
use super::weak_secrets::weakness;
use channelapi_core::limits::{JWKS_KEYS_MAX, JWT_KEYS_TRIED_MAX};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A key, and what it may be used with.
pub(super) struct VerifyingKey {
    /// Its name in a JWKS.
    kid: Option<Box<str>>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys of one issuer.
pub(super) struct KeySet {
    keys: Vec<VerifyingKey>,
    /// Whether a JWT chooses among them by name. One key from a file needs none.
    is_named: bool,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// A secret is too short.
    #[error(
        "the secret is {0} bytes, and must have 32 or more that nobody can guess: `openssl rand -base64 48` makes one"
    )]
    ShortSecret(usize),
    /// Somebody may have it.
    #[error(
        "the secret {0}, so that others can make JWTs with it: `openssl rand -base64 48` makes another one"
    )]
    WeakSecret(&'static str),
    /// A secret is none.
    #[error("the secret is a public key, which everybody may know; name its file in `public_key_file`")]
    PublicSecret,
    /// It is no key that we know.
    #[error(
        "there is no public key in PEM form that can be used: RSA of 2048 bits or more, P-256, P-384 or Ed25519"
    )]
    NoPublicKey,
    /// The algorithms go with other keys.
    #[error("the key cannot be used with {0}; it goes with {1}")]
    Algorithms(String, String),
    /// It is no JWKS.
    #[error("it is no JWKS: {0}")]
    NoJwks(String),
    /// A JWKS has nothing for us.
    #[error(
        "there is no key in it that can be used: RSA of 2048 bits or more, P-256, P-384 or Ed25519, for signatures"
    )]
    EmptyJwks,
    /// A JWKS has keys, and none for the algorithms that are wanted.
    #[error(
        "its keys are for {0}, and `algorithms` allows {1} alone; name one that a key is for, or leave `algorithms` out"
    )]
    OtherAlgorithms(String, String),
    /// A JWKS has too many keys.
    #[error("there are more than {JWKS_KEYS_MAX} keys in it")]
    TooMany,
}

const SECRET_BYTES_MIN: usize = 32;
const MODULUS_BITS_MIN: usize = 2048;
/// A modulus of that many bits, and what says that it is one.
const RSA_DER_BYTES_MIN: usize = MODULUS_BITS_MIN / 8 + 8;
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----";

impl KeySet {
    /// A shared secret. Without `algorithms` it is for HS256.
    pub(super) fn secret(secret: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Err(KeyError::PublicSecret);
        }
        // Blanks around a text are easily guessed, but random bytes may end with one.
        let is_text = std::str::from_utf8(secret).is_ok();
        let length = if is_text { secret.trim_ascii() } else { secret }.len();
        if length < SECRET_BYTES_MIN {
            return Err(KeyError::ShortSecret(length));
        }
        if let Some(weakness) = weakness(secret) {
            return Err(KeyError::WeakSecret(weakness));
        }
        Self::single(DecodingKey::from_secret(secret), Algorithm::HS256, algorithms)
    }

    /// A public key in PEM form. Without `algorithms` an RSA key is for RS256, and others are for the one that goes with them.
    pub(super) fn public_pem(pem: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        let is_public = std::str::from_utf8(pem)
            .is_ok_and(|text| text.contains(PUBLIC_KEY) || text.contains("-----BEGIN RSA PUBLIC KEY-----"));
        if !is_public {
            return Err(KeyError::NoPublicKey);
        }
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            if key.try_get_as_bytes().is_ok_and(|der| der.len() < RSA_DER_BYTES_MIN) {
                return Err(KeyError::NoPublicKey);
            }
            return Self::single(key, Algorithm::RS256, algorithms);
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Self::single(key, Algorithm::EdDSA, algorithms);
        }
        let key = DecodingKey::from_ec_pem(pem).map_err(|_| KeyError::NoPublicKey)?;
        // The length of a point tells its curve.
        let curve = match key.try_get_as_bytes().map(<[u8]>::len) {
            Ok(65) => Algorithm::ES256,
            Ok(97) => Algorithm::ES384,
            _ => return Err(KeyError::NoPublicKey),
        };
        Self::single(key, curve, algorithms)
    }

    fn single(key: DecodingKey, usual: Algorithm, wanted: &[Algorithm]) -> Result<Self, KeyError> {
        let possible = possible(&key, usual);
        if let Some(other) = wanted.iter().find(|wanted| !possible.contains(wanted)) {
            return Err(KeyError::Algorithms(format!("{other:?}"), list(&possible)));
        }
        let algorithms = if wanted.is_empty() { vec![usual] } else { wanted.to_vec() };
        Ok(Self { keys: vec![VerifyingKey { kid: None, algorithms, key }], is_named: false })
    }

    /// The keys of a JWKS that can be used. With `algorithms`, only for those.
    pub(super) fn jwks(text: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let Set { keys } =
            serde_json::from_slice(text).map_err(|error| KeyError::NoJwks(error.to_string()))?;
        if keys.len() > JWKS_KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let offered: Vec<_> = keys.into_iter().filter_map(Offered::of_jwk).collect();
        let mut possible = Vec::new();
        for algorithm in offered.iter().flat_map(|offered| &offered.possible) {
            if !possible.contains(algorithm) {
                possible.push(*algorithm);
            }
        }
        let keys: Vec<_> = offered.into_iter().filter_map(|offered| offered.only(algorithms)).collect();
        match (keys.is_empty(), possible.is_empty()) {
            (false, _) => Ok(Self { keys, is_named: true }),
            (true, true) => Err(KeyError::EmptyJwks),
            (true, false) => Err(KeyError::OtherAlgorithms(list(&possible), list(algorithms))),
        }
    }

    /// The keys that a JWT with this algorithm and key name may have been signed with.
    pub(super) fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> impl Iterator<Item = &'a VerifyingKey> {
        let fits = move |key: &&VerifyingKey| key.algorithms.contains(&algorithm);
        let is_meant = |key: &VerifyingKey| !self.is_named || kid.is_none() || key.kid.as_deref() == kid;
        let found: Vec<_> = self.keys.iter().filter(fits).filter(|key| is_meant(key)).collect();
        // Without a name it is clear only if there is no choice.
        let is_clear = kid.is_some() || found.len() == 1 || !self.is_named;
        found.into_iter().take(if is_clear { JWT_KEYS_TRIED_MAX } else { 0 })
    }
}

impl VerifyingKey {
    /// Whether it made a signature.
    pub(super) fn verifies(&self, message: &str, signature: &str, algorithm: Algorithm) -> bool {
        debug_assert!(self.algorithms.contains(&algorithm));
        crypto::verify(signature, message.as_bytes(), &self.key, algorithm).unwrap_or(false)
    }
}

/// A key of a JWKS, before it is said what it may be used with.
struct Offered {
    kid: Option<Box<str>>,
    /// Where nothing is said.
    usual: Algorithm,
    possible: Vec<Algorithm>,
    key: DecodingKey,
}

impl Offered {
    /// `None` if it is for something else or we do not know its kind. A secret in a JWKS is no secret.
    fn of_jwk(jwk: &RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        struct Jwk {
            kty: String,
            kid: Option<String>,
            alg: Option<String>,
            #[serde(rename = "use")]
            purpose: Option<String>,
            key_ops: Option<Vec<String>>,
            crv: Option<String>,
            n: Option<String>,
            e: Option<String>,
            x: Option<String>,
            y: Option<String>,
        }
        // An array would pass for the struct.
        if !jwk.get().starts_with('{') {
            return None;
        }
        let Jwk { kty, kid, alg, purpose, key_ops, crv, n, e, x, y } =
            serde_json::from_str(jwk.get()).ok()?;
        if purpose.is_some_and(|purpose| purpose != "sig")
            || key_ops.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify"))
        {
            return None;
        }
        let is_long = |text: &Option<String>, bytes: usize| {
            text.as_deref().and_then(base64url::decode).is_some_and(|decoded| decoded.len() == bytes)
        };
        let (key, usual) = match (&*kty, crv.as_deref()) {
            ("RSA", _) => {
                let n = n?;
                if bits(&base64url::decode(&n)?) < MODULUS_BITS_MIN {
                    return None;
                }
                (DecodingKey::from_rsa_components(&n, &e?).ok()?, Algorithm::RS256)
            }
            ("EC", Some("P-256")) if is_long(&x, 32) && is_long(&y, 32) => {
                (DecodingKey::from_ec_components(&x?, &y?).ok()?, Algorithm::ES256)
            }
            ("EC", Some("P-384")) if is_long(&x, 48) && is_long(&y, 48) => {
                (DecodingKey::from_ec_components(&x?, &y?).ok()?, Algorithm::ES384)
            }
            ("OKP", Some("Ed25519")) if is_long(&x, 32) => {
                (DecodingKey::from_ed_components(&x?).ok()?, Algorithm::EdDSA)
            }
            _ => return None,
        };
        let kid = kid.map(Into::into);
        let possible = possible(&key, usual);
        // The key says what it is for, and that binds.
        let Some(alg) = alg else { return Some(Self { kid, usual, possible, key }) };
        let named = alg.parse().ok().filter(|named| possible.contains(named))?;
        Some(Self { kid, usual: named, possible: vec![named], key })
    }

    /// The key for what is wanted, if it goes with any of that; for the usual, if nothing is said.
    fn only(self, wanted: &[Algorithm]) -> Option<VerifyingKey> {
        let Self { kid, usual, mut possible, key } = self;
        possible.retain(
            |algorithm| {
                if wanted.is_empty() { *algorithm == usual } else { wanted.contains(algorithm) }
            },
        );
        (!possible.is_empty()).then_some(VerifyingKey { kid, algorithms: possible, key })
    }
}

/// The algorithms that a key can be used with: all of an RSA key's or a secret's family; a curve goes with one.
fn possible(key: &DecodingKey, usual: Algorithm) -> Vec<Algorithm> {
    match key.family() {
        AlgorithmFamily::Hmac => vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
        AlgorithmFamily::Rsa => vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmFamily::Ec | AlgorithmFamily::Ed => vec![usual],
    }
}

/// The bits of a number.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &number[first..]);
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

fn list(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect::<Vec<_>>().join(", ")
}
