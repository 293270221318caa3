//! What judges JWTs, taken from the server's sources as it is, but for what goes over the network: nothing is fetched here.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "as in `server`")]

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use jsonwebtoken::Algorithm;

use crate::config::jwt::{Issuer, KeySource};
use crate::config::secret::Secret;

#[path = "../../crates/channelapi/src/identity/base64url.rs"]
mod base64url;
#[path = "../../crates/channelapi/src/identity/claims.rs"]
mod claims;
#[path = "../../crates/channelapi/src/identity/issuer.rs"]
mod issuer;
#[path = "../../crates/channelapi/src/identity/keys.rs"]
mod keys;
#[path = "../../crates/channelapi/src/identity/weak_secrets.rs"]
mod weak_secrets;

pub(crate) use claims::Claims;

/// The time at which JWTs are judged, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;

/// Signs by a secret, for names of channels.
pub(crate) const SECRET: &str = "the first secret, which is longer than thirty-two bytes";
/// Signs by a secret, for `user:*`, also by patterns. So do the keys of [`PUBLISHED`] in the name of the same issuer.
pub(crate) const OTHER_SECRET: &str = "the other secret, which is longer than thirty-two bytes";
/// Public keys. Nobody has their private halves any more.
const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/jwks/ok-all");

/// As in the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Invalid,
    Early,
    Expired,
    Revoked,
    Unavailable,
}

/// Judges a JWT at a time in milliseconds since 1970.
pub(crate) fn verify(text: &str, now: u64) -> Result<Claims, Denied> {
    static ISSUERS: LazyLock<issuer::Issuers> = LazyLock::new(issuers);
    let mut verifying = pin!(ISSUERS.verify(text, now));
    match verifying.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verified) => verified.map_err(|refused| {
            assert!(!refused.to_string().is_empty(), "refused for no reason");
            refused.denied()
        }),
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

fn issuers() -> issuer::Issuers {
    let named = |name: &str, keys| Issuer {
        issuer: Some(name.to_owned()),
        audience: vec!["push".to_owned()],
        algorithms: Vec::new(),
        keys,
        channels_claim: "channels".to_owned(),
        grants: vec!["*".to_owned()],
        allow_patterns: false,
        settings: Vec::new(),
    };
    let other = |keys| Issuer {
        grants: vec!["user:*".to_owned()],
        allow_patterns: true,
        ..named("https://b.example", keys)
    };
    let settings = [
        named("https://a.example", KeySource::Secret(Secret::new(SECRET))),
        other(KeySource::JwksFile(PUBLISHED.into())),
        other(KeySource::Secret(Secret::new(OTHER_SECRET))),
    ];
    issuer::Issuers::set_up(&settings, None).expect("these settings are good")
}

/// Every algorithm that there is.
pub(crate) const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The keys of a JWKS.
pub(crate) struct Published(keys::KeySet);

impl Published {
    /// Those of them that can be used, for these algorithms or for any; `None` if there is none.
    pub(crate) fn read(text: &[u8], algorithms: &[Algorithm]) -> Option<Self> {
        match keys::KeySet::jwks(text, algorithms) {
            Ok(keys) => Some(Self(keys)),
            Err(error) => {
                assert!(!error.to_string().is_empty(), "refused for no reason");
                None
            }
        }
    }

    /// How many keys would be tried on a JWT.
    pub(crate) fn tried(&self, algorithm: Algorithm, kid: Option<&str>) -> usize {
        self.0.candidates(algorithm, kid).count()
    }

    /// Whether one of them made a signature.
    pub(crate) fn verify(&self, jwt: &str, algorithm: Algorithm, kid: Option<&str>) -> bool {
        let (message, signature) = jwt.rsplit_once('.').expect("a JWT has dots");
        self.0.candidates(algorithm, kid).any(|key| key.verifies(message, signature, algorithm))
    }
}

fn leeway() -> u64 {
    channelapi_core::clock::millis_of(channelapi_core::limits::JWT_LEEWAY)
}

/// In the place of keys that are fetched.
mod jwks {
    use std::sync::Arc;
    use std::time::Duration;

    use jsonwebtoken::Algorithm;

    use super::keys::KeySet;
    use crate::config::jwt::JwksUrl;

    pub(super) struct Jwks;

    #[derive(Default, Clone, Copy)]
    pub(super) struct Times(());

    pub(super) enum Found {
        Keys(Arc<KeySet>),
        Unknown,
        Unavailable,
    }

    #[allow(
        clippy::unused_async,
        clippy::unused_self,
        reason = "those of the server wait, and know something"
    )]
    impl Jwks {
        pub(super) fn new(
            _: JwksUrl,
            _: Option<Vec<u8>>,
            _: Option<()>,
            _: Vec<Algorithm>,
            _: Times,
        ) -> Self {
            Self
        }

        pub(super) fn is_like(&self, _: &Self) -> bool {
            false
        }

        pub(super) fn pause(&self) -> Duration {
            Duration::MAX
        }

        pub(super) async fn find(&self, _: Algorithm, _: Option<&str>) -> Found {
            Found::Unavailable
        }

        pub(super) async fn keep_up(&self) {}
    }
}
