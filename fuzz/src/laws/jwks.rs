//! The public keys of an issuer.

use channelapi_core::limits::{JWKS_KEYS_MAX, JWT_KEYS_TRIED_MAX};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::identity::{ALGORITHMS, Published};

/// Signed with keys that are in no JWKS.
const FOREIGN: [(Algorithm, &str); 2] = [
    (Algorithm::RS256, include_str!("../../seeds/jwt/bad-foreign-rs256")),
    (Algorithm::ES256, include_str!("../../seeds/jwt/bad-foreign-es256")),
];

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    kid: Option<&'a RawValue>,
}

/// The name of a key, if it is text. Whatever else is there is passed over, also a number that nobody can hold.
fn name_of(key: &RawValue) -> Option<String> {
    let Named { kid } = serde_json::from_str(key.get()).ok()?;
    serde_json::from_str(kid?.get()).ok()
}

/// The input is a JWKS.
///
/// - It is taken only if a key in it can be used, for signatures with some algorithm and by the name that it has there.
/// - Nothing in it makes a secret, and a few keys at most are tried on one JWT.
/// - A JWT without a name is tried only where there is no choice.
/// - Where the configuration names algorithms, no other is used.
/// - What a key outside of it has signed is not good.
pub fn jwks(data: &[u8]) -> bool {
    let one = [Algorithm::ES256];
    let narrowed = Published::read(data, &one);
    let Some(keys) = Published::read(data, &[]) else {
        // A key without `alg` goes with other algorithms of its kind when they are asked for, and a curve goes with one alone.
        assert!(narrowed.is_none(), "asked for less, it has more");
        return false;
    };
    let Document { keys: entries } = serde_json::from_slice(data).expect("it was understood");
    assert!(entries.len() <= JWKS_KEYS_MAX);
    let names: Vec<Option<String>> = entries.iter().map(|entry| name_of(entry)).collect();
    let names: Vec<Option<&str>> = names.iter().map(Option::as_deref).collect();

    for algorithm in ALGORITHMS {
        let found: Vec<usize> = names.iter().map(|name| keys.tried(algorithm, *name)).collect();
        assert!(found.iter().all(|tried| *tried <= JWT_KEYS_TRIED_MAX), "{found:?} keys are tried");
        assert!(keys.tried(algorithm, None) <= 1, "there is a choice");
        let is_secret = matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
        assert!(!is_secret || found.iter().all(|tried| *tried == 0), "a public key is a secret");
        assert!(names.contains(&Some("none")) || keys.tried(algorithm, Some("none")) == 0);
        if let Some(narrowed) = &narrowed {
            let more =
                names.iter().filter(|name| name.is_some()).map(|name| narrowed.tried(algorithm, *name));
            assert!(one.contains(&algorithm) || more.sum::<usize>() == 0, "{algorithm:?} was not asked for");
        }
    }
    let is_used = |algorithm: &Algorithm| names.iter().any(|name| keys.tried(*algorithm, *name) > 0);
    assert!(ALGORITHMS.iter().any(is_used) || names.contains(&None), "no key can be used");
    for (algorithm, jwt) in FOREIGN {
        assert!(!names.iter().any(|name| keys.verify(jwt, algorithm, *name)), "a foreign key is known");
    }
    true
}
