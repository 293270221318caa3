//! Who may do what over the HTTP API: the keys, and which of them a request carries.
//!
//! Invariant: how long it takes to find a key tells nothing about any key. What was presented is hashed and compared with all of
//! them; where and whether one fits changes no step.

mod host;
mod keys;
mod ring;

pub(crate) use keys::{Key, Keys};
pub(crate) use ring::KeyRing;

use crate::config::scope::Scope;
use crate::http::Headers;
use crate::metrics::RequestRefused;
use channelapi_core::clock::Clock;
use channelapi_core::model::ChannelName;
use hyper::header::{AUTHORIZATION, HeaderName};
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// Why a request may not do what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It carries no key.
    NoKey,
    /// Nobody has the key that it carries.
    WrongKey,
    /// Its key has ended.
    Expired,
    /// Everybody may know its key, or guess it, and anybody may have made the name by which it calls the server.
    WeakKey,
    /// Its key is not for that.
    Scope(Scope),
    /// Its key is not for that channel.
    Channel,
    /// It carries a key where it ends up in logs.
    Query,
    /// It carries several: whoever stands in front of the server may have looked at another one than it would.
    Several,
}

impl Denied {
    /// What it counts as.
    pub(crate) fn reason(self) -> RequestRefused {
        match self {
            Self::NoKey => RequestRefused::NoKey,
            Self::WrongKey | Self::Expired => RequestRefused::WrongKey,
            Self::WeakKey => RequestRefused::WeakKey,
            Self::Scope(_) => RequestRefused::Scope,
            Self::Channel => RequestRefused::Channel,
            Self::Query => RequestRefused::Query,
            Self::Several => RequestRefused::Invalid,
        }
    }
}

/// Where a route takes the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In `Authorization`, as in the seed contract.
    Authorization,
    /// In `X-API-Key`, too.
    AnyHeader,
}

/// The header that many HTTP clients have a field for.
static API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The key that a request carries.
pub(crate) fn identify<'a>(
    keys: &'a Keys,
    headers: &impl Headers,
    place: Place,
    clock: &Clock,
) -> Result<&'a Arc<Key>, Denied> {
    let authorization = single(headers, &AUTHORIZATION)?;
    let api_key = if place == Place::AnyHeader { single(headers, &API_KEY)? } else { None };
    if authorization.is_none() && api_key.is_none() {
        return Err(Denied::NoKey);
    }
    let found = authorization.and_then(|presented| in_authorization(keys, presented));
    let found = found.or_else(|| keys.find(api_key?)).ok_or(Denied::WrongKey)?;
    if found.has_ended(|| clock.machine_millis()) {
        return Err(Denied::Expired);
    }
    if found.is_weak() && !host::is_private(headers) { Err(Denied::WeakKey) } else { Ok(found) }
}

/// Whether a request carries a key, whatever it is worth.
pub(crate) fn brings_key(headers: &impl Headers) -> bool {
    headers.has(&AUTHORIZATION) || headers.has(&API_KEY)
}

/// The value of a header that is there once at most.
fn single<'a>(headers: &'a impl Headers, name: &'a HeaderName) -> Result<Option<&'a [u8]>, Denied> {
    let mut values = headers.all(name);
    let first = values.next();
    if values.next().is_none() { Ok(first) } else { Err(Denied::Several) }
}

/// The key behind `Bearer`, or else raw as in the seed contract. A key may itself begin with that word.
fn in_authorization<'a>(keys: &'a Keys, presented: &[u8]) -> Option<&'a Arc<Key>> {
    let behind = bearer(presented).and_then(|key| keys.find(key));
    behind.or_else(|| keys.find(presented))
}

/// What stands behind `Bearer`, whose case does not matter (RFC 9110 §11.1).
fn bearer(presented: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = presented.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
}

/// Whether a query has a parameter that is meant for a key. Whatever its value is, it is in the logs of every proxy on the way.
pub(crate) fn is_key_in_query(query: Option<&str>) -> bool {
    const NAMES: [&str; 10] = [
        "key",
        "apikey",
        "xapikey",
        "authkey",
        "authorization",
        "accesstoken",
        "auth",
        "bearer",
        "secret",
        "password",
    ];
    query.is_some_and(|query| {
        query.split('&').any(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            let name = percent_decode_str(name).filter(|byte| !b"-_".contains(byte));
            let name: Vec<u8> = name.map(|byte| byte.to_ascii_lowercase()).collect();
            NAMES.iter().any(|known| known.as_bytes() == name)
        })
    })
}

/// What lets somebody in for longer than a request takes, such as into a stream.
pub(crate) struct Pass {
    ring: KeyRing,
    key: Arc<Key>,
    scope: Scope,
    channel: ChannelName,
}

impl Pass {
    pub(crate) fn new(ring: KeyRing, key: Arc<Key>, scope: Scope, channel: ChannelName) -> Self {
        Self { ring, key, scope, channel }
    }

    /// Whether it would let somebody in now: the key may have ended, or may be gone or do less since.
    pub(crate) fn is_valid(&self, clock: &Clock) -> bool {
        let keys = self.ring.keys();
        let key = keys.same(&self.key).filter(|key| !key.has_ended(|| clock.machine_millis()));
        key.is_some_and(|key| key.admit(self.scope, Some(&self.channel)).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderMap, HeaderValue};

    fn clock() -> Clock {
        Clock::system()
    }

    #[test]
    fn the_key_is_taken_raw_and_as_bearer() {
        let keys = Keys::of_one("a-key-of-sixteen-bytes");
        let check = |value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            let found = identify(&keys, &headers, Place::Authorization, &clock());
            assert_eq!(found.map(|_| ()), expected, "{value}");
        };
        check("a-key-of-sixteen-bytes", Ok(()));
        check("Bearer a-key-of-sixteen-bytes", Ok(()));
        check("bearer a-key-of-sixteen-bytes", Ok(()));
        for wrong in [
            "Bearer",
            "Bearer ",
            "",
            "a-key-of-sixteen-byteS",
            "Basic a-key-of-sixteen-bytes",
            "Bearer Bearer a-key-of-sixteen-bytes",
        ] {
            check(wrong, Err(Denied::WrongKey));
        }
        let none = identify(&keys, &HeaderMap::new(), Place::Authorization, &clock());
        assert_eq!(none.map(|_| ()), Err(Denied::NoKey));
    }

    #[test]
    fn a_key_may_begin_with_the_word_bearer() {
        let keys = Keys::of_one("Bearer of sixteen bytes");
        for value in ["Bearer of sixteen bytes", "Bearer Bearer of sixteen bytes"] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            assert!(identify(&keys, &headers, Place::Authorization, &clock()).is_ok(), "{value}");
        }
    }

    #[test]
    fn version_1_takes_it_in_a_header_of_its_own_too() {
        let keys = Keys::of_one("a-key-of-sixteen-bytes");
        let check = |headers: &[(HeaderName, &'static str)], expected| {
            let headers: HeaderMap =
                headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
            let found = identify(&keys, &headers, Place::AnyHeader, &clock()).map(|_| ());
            assert_eq!(found, expected, "{headers:?}");
        };
        check(&[(API_KEY.clone(), "a-key-of-sixteen-bytes")], Ok(()));
        check(&[(AUTHORIZATION, "Bearer a-key-of-sixteen-bytes")], Ok(()));
        check(&[(AUTHORIZATION, "Basic of-a-proxy"), (API_KEY.clone(), "a-key-of-sixteen-bytes")], Ok(()));
        for wrong in ["Bearer a-key-of-sixteen-bytes", "", "other"] {
            check(&[(API_KEY.clone(), wrong)], Err(Denied::WrongKey));
        }
        check(&[(AUTHORIZATION, "")], Err(Denied::WrongKey));
        check(&[], Err(Denied::NoKey));
        // Once, the first counted, whatever a proxy had looked at.
        for name in [AUTHORIZATION, API_KEY.clone()] {
            let twice = |second| [(name.clone(), "a-key-of-sixteen-bytes"), (name.clone(), second)];
            for second in ["a-key-of-sixteen-bytes", "other", ""] {
                check(&twice(second), Err(Denied::Several));
            }
        }
        let seed =
            HeaderMap::from_iter([(API_KEY.clone(), HeaderValue::from_static("a-key-of-sixteen-bytes"))]);
        let found = identify(&keys, &seed, Place::Authorization, &clock());
        assert_eq!(found.map(|_| ()), Err(Denied::NoKey), "the seed contract has no such header");
    }

    #[test]
    fn a_key_in_a_query_is_noticed_however_it_is_called() {
        for query in [
            "key=x",
            "a=1&api_key=x",
            "API-KEY=x&a=1",
            "apikey",
            "x-api-key=",
            "auth_key=x",
            "Authorization=Bearer%20x",
            "access_token=x",
            "auth=x",
            "bearer=x",
            "secret=x",
            "password=x",
            "%6bey=x",
        ] {
            assert!(is_key_in_query(Some(query)), "{query}");
        }
        for query in ["", "since=key", "token=x", "keys=x", "limit=1&meta=true", "a=key=x"] {
            assert!(!is_key_in_query(Some(query)), "{query}");
        }
        assert!(!is_key_in_query(None));
    }
}
