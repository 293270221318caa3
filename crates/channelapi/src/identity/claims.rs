//! What a JWT says, read strictly: each name once, and each value of the one type that means something.

use super::leeway;
use channelapi_core::clock::millis_of;
use channelapi_core::limits::{CHANNELS_PER_CONNECTION_MAX, JWT_CLAIMS_MAX, JWT_LIFETIME_MAX};
use channelapi_core::model::{Bearer, ChannelName, Pattern, is_claim};
use channelapi_protocol::socketio::is_deeper_than;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What a JWT that was verified allows.
#[derive(Debug, PartialEq)]
pub(crate) struct Claims {
    /// Who it was issued to.
    pub(crate) bearer: Bearer,
    /// When it ends, in milliseconds since 1970.
    pub(crate) expires_at: u64,
    exact: Vec<ChannelName>,
    patterns: Vec<Pattern>,
    /// What its issuer may open at most.
    grants: Arc<[Pattern]>,
}

impl Claims {
    /// The channels that it names.
    pub(crate) fn channels(&self) -> &[ChannelName] {
        &self.exact
    }

    /// Whether it opens a channel.
    pub(crate) fn grants(&self, channel: &ChannelName) -> bool {
        let name = channel.as_str();
        self.exact.contains(channel)
            || (self.patterns.iter().any(|pattern| pattern.matches(name)) && may_open(&self.grants, channel))
    }

    /// The channels and patterns that it names, for people.
    pub(crate) fn opened(&self) -> impl Iterator<Item = String> {
        let exact = self.exact.iter().map(ToString::to_string);
        exact.chain(self.patterns.iter().map(|pattern| format!("{pattern}, as far as `grants` allows")))
    }
}

fn may_open(grants: &[Pattern], channel: &ChannelName) -> bool {
    grants.iter().any(|pattern| pattern.matches(channel.as_str()))
}

/// What a JWT is measured by.
pub(super) struct Rules<'a> {
    /// Its issuer, as the configuration calls it; empty where it has no name.
    pub(super) issuer: &'a Arc<str>,
    /// Who it must be for. Empty: for nobody in particular.
    pub(super) audience: &'a [String],
    /// The claim that names channels.
    pub(super) channels_claim: &'a str,
    /// Which channels its issuer may open.
    pub(super) grants: &'a Arc<[Pattern]>,
    /// Whether it may name channels by patterns.
    pub(super) allow_patterns: bool,
}

/// Why what a JWT says is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// It is no JSON object, or a name is in it twice.
    #[error("its payload is not a JSON object with each name once: {0}")]
    NotAnObject(String),
    /// It is nested too deeply.
    #[error("its payload is nested too deeply")]
    TooDeep,
    /// A claim must be there.
    #[error("it has no claim `{0}`")]
    Missing(String),
    /// A claim has a value of another type, or one that is over a limit.
    #[error("its claim `{claim}` must be {kind}")]
    Malformed {
        /// Which.
        claim: String,
        /// What it should be.
        kind: &'static str,
    },
    /// It is for somebody else.
    #[error("it is for the audience {found}, and the configuration wants {wanted}")]
    Audience {
        /// Whom it is for.
        found: String,
        /// Whom it should be for.
        wanted: String,
    },
    /// It is not good yet.
    #[error("it is not valid before {0} seconds from now (`{1}`)")]
    TooEarly(u64, &'static str),
    /// It ends before it begins.
    #[error("it is never valid: its `exp` is not behind its `{0}`")]
    Never(&'static str),
    /// It is not good any more.
    #[error("it ended {0} seconds ago")]
    Expired(u64),
    /// It would be good for too long.
    #[error("it is valid for more than {} days, which is the limit", JWT_LIFETIME_MAX.as_secs() / 86_400)]
    TooLong,
    /// It is not meant to open anything.
    #[error("its claim `typ` is {0}: it is no access token")]
    Typ(String),
    /// It names nothing to open.
    #[error("it opens nothing: its claim `{0}` names no channel")]
    Nothing(String),
    /// What it opens would be left to patterns, and there may be none.
    #[error("it opens nothing: `{0}` is a pattern, and the configuration does not set `allow_patterns`")]
    Pattern(String),
    /// It names other channels than its issuer may open.
    #[error("it opens nothing that its issuer may open: `{0}` lies outside of the configuration's `grants`")]
    Outside(String),
}

/// The claims of a JWT, not yet believed.
pub(super) struct RawClaims<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// Whoever counts milliseconds means a time that is tens of thousands of years ahead.
const NEAR: &str = "a time in seconds, not in milliseconds, and no more than 366 days ahead";

/// Values of the claim `typ` by which identity providers mark what is not meant to open anything.
const NO_ACCESS: [&str; 4] = ["ID", "Refresh", "Offline", "Logout"];

impl<'a> RawClaims<'a> {
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, ClaimError> {
        let text =
            std::str::from_utf8(payload).map_err(|_| ClaimError::NotAnObject("it is not UTF-8".into()))?;
        if is_deeper_than(channelapi_core::limits::JWT_DEPTH_MAX, text) {
            return Err(ClaimError::TooDeep);
        }
        serde_json::from_str(text).map_err(|error| ClaimError::NotAnObject(error.to_string()))
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    fn get_as<T: Deserialize<'a>>(&self, name: &str, kind: &'static str) -> Result<Option<T>, ClaimError> {
        let malformed = |_| ClaimError::Malformed { claim: name.to_owned(), kind };
        self.get(name).map(|value| serde_json::from_str(value.get()).map_err(malformed)).transpose()
    }

    fn text(&self, name: &str) -> Result<Option<String>, ClaimError> {
        const KIND: &str = "a string of 1 to 255 bytes without control characters";
        let text = self.get_as::<String>(name, KIND)?;
        match text {
            Some(text) if !is_claim(&text) => {
                Err(ClaimError::Malformed { claim: name.to_owned(), kind: KIND })
            }
            text => Ok(text),
        }
    }

    /// Whole seconds since 1970, as milliseconds.
    fn time(&self, name: &str) -> Result<Option<u64>, ClaimError> {
        const KIND: &str = "a whole number of seconds since 1970";
        let seconds = self.get_as::<u64>(name, KIND)?;
        let malformed = || ClaimError::Malformed { claim: name.to_owned(), kind: KIND };
        seconds.map(|seconds| seconds.checked_mul(1_000).ok_or_else(malformed)).transpose()
    }

    /// Who claims to have issued it.
    pub(super) fn issuer(&self) -> Result<Option<String>, ClaimError> {
        self.text("iss")
    }

    /// What it allows at a time, now that its signature is known to be good.
    pub(super) fn judge(&self, rules: &Rules<'_>, now: u64) -> Result<Claims, ClaimError> {
        if let Ok(Some(typ)) = self.get_as::<String>("typ", "a string")
            && NO_ACCESS.contains(&&*typ)
        {
            return Err(ClaimError::Typ(typ));
        }
        self.judge_audience(rules.audience)?;
        let (expires_at, issued_at) = self.judge_times(now)?;
        let (exact, patterns) = self.channels(rules)?;
        let bearer = Bearer {
            issuer: rules.issuer.clone(),
            subject: self.text("sub")?.map(Into::into),
            id: self.text("jti")?.map(Into::into),
            issued_at,
        };
        // Whoever is told to wait is not to wait in vain.
        if let Some((wait, name)) = self.wait(now, expires_at)? {
            return Err(ClaimError::TooEarly(wait.div_ceil(1_000), name));
        }
        Ok(Claims { bearer, expires_at, exact, patterns, grants: rules.grants.clone() })
    }

    /// Whoever is not named must not take it (RFC 7519 §4.1.3), and who has no name is not named.
    fn judge_audience(&self, wanted: &[String]) -> Result<(), ClaimError> {
        let found: Vec<String> = match self.get("aud") {
            None => Vec::new(),
            Some(value) if value.get().starts_with('[') => {
                self.get_as("aud", "a string or an array of strings")?.unwrap_or_default()
            }
            Some(_) => self.get_as("aud", "a string or an array of strings")?.into_iter().collect(),
        };
        let is_for_us = found.iter().any(|one| wanted.contains(one));
        if is_for_us || (wanted.is_empty() && self.get("aud").is_none()) {
            return Ok(());
        }
        let list = |names: &[String]| match names {
            [] => "nobody in particular".to_owned(),
            names => {
                names.iter().map(|name| format!("`{}`", name.escape_debug())).collect::<Vec<_>>().join(", ")
            }
        };
        Err(ClaimError::Audience { found: list(&found), wanted: list(wanted) })
    }

    /// How long it has to be waited for, and by which claim. One whose time never comes is refused.
    fn wait(&self, now: u64, expires_at: u64) -> Result<Option<(u64, &'static str)>, ClaimError> {
        let mut longest = None;
        for name in ["nbf", "iat"] {
            let time = self.time(name)?.unwrap_or(0);
            let wait = time.saturating_sub(now);
            if wait > millis_of(JWT_LIFETIME_MAX) {
                return Err(ClaimError::Malformed { claim: name.to_owned(), kind: NEAR });
            }
            if wait > leeway() && time >= expires_at {
                return Err(ClaimError::Never(name));
            }
            longest = longest.max((wait > leeway()).then_some((wait, name)));
        }
        Ok(longest)
    }

    /// When it ends and when it was issued.
    fn judge_times(&self, now: u64) -> Result<(u64, u64), ClaimError> {
        let expires_at = self.time("exp")?.ok_or_else(|| ClaimError::Missing("exp".into()))?;
        let issued_at = self.time("iat")?;
        if now >= expires_at.saturating_add(leeway()) {
            return Err(ClaimError::Expired((now - expires_at) / 1_000));
        }
        let is_early = self.wait(now, expires_at)?.is_some();
        let begin = issued_at.unwrap_or(now);
        let begin = if is_early { begin } else { begin.min(now) };
        if expires_at - begin.min(expires_at) > millis_of(JWT_LIFETIME_MAX) {
            return Err(ClaimError::TooLong);
        }
        // An issuer's clock may be ahead. Whoever is let in now must not count as let in after what is revoked in a moment.
        let this_second = now - now % 1_000;
        Ok((expires_at, issued_at.unwrap_or(0).min(this_second)))
    }

    /// The channels that it names, and its patterns of names. What holds a star is a pattern, or means nothing where there may be none.
    /// Something must be left of them.
    fn channels(&self, rules: &Rules<'_>) -> Result<(Vec<ChannelName>, Vec<Pattern>), ClaimError> {
        let malformed = || ClaimError::Malformed {
            claim: rules.channels_claim.to_owned(),
            kind: "an array of up to 128 names of channels",
        };
        let names: Vec<String> =
            self.get_as(rules.channels_claim, "an array of up to 128 names of channels")?.unwrap_or_default();
        if names.len() > CHANNELS_PER_CONNECTION_MAX {
            return Err(malformed());
        }
        let (mut exact, mut patterns) = (Vec::new(), Vec::new());
        let mut nothing = ClaimError::Nothing(rules.channels_claim.into());
        for name in names {
            let channel = ChannelName::parse(&name).map_err(|_| malformed())?;
            if name.contains('*') {
                if rules.allow_patterns {
                    patterns.push(Pattern::new(&name));
                } else {
                    nothing = ClaimError::Pattern(name);
                }
            } else if !may_open(rules.grants, &channel) {
                nothing = ClaimError::Outside(name);
            } else if !exact.contains(&channel) {
                exact.push(channel);
            }
        }
        if exact.is_empty() && patterns.is_empty() { Err(nothing) } else { Ok((exact, patterns)) }
    }
}

impl<'de> Deserialize<'de> for RawClaims<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        /// Borrows unless it holds escapes.
        #[derive(serde::Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        impl<'de> Visitor<'de> for Object {
            type Value = RawClaims<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut claims: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    if claims.len() >= JWT_CLAIMS_MAX {
                        return Err(M::Error::custom("there are too many claims"));
                    }
                    if claims.iter().any(|(known, _)| *known == name) {
                        return Err(M::Error::custom(format_args!(
                            "`{}` is there twice",
                            name.escape_debug()
                        )));
                    }
                    claims.push((name, value));
                }
                Ok(RawClaims(claims))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
