//! The issuers that the configuration names, and the way of a JWT through them.

use super::Denied;
use super::base64url;
use super::claims::{ClaimError, Claims, RawClaims, Rules};
use super::jwks::{Found, Jwks, Times};
use super::keys::{KeyError, KeySet};
use crate::config::jwt::{Issuer as Settings, KeySource};
use crate::small_file;
use crate::trust::{TrustError, trusting};
use crate::upkeep::keep_going;
use channelapi_core::limits::{CA_FILE_BYTES_MAX, KEY_FILE_BYTES_MAX, TOKEN_BYTES_MAX};
use channelapi_core::model::{Pattern, is_claim};
use channelapi_protocol::socketio::is_deeper_than;
use jsonwebtoken::Algorithm;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinSet;

/// All issuers.
#[derive(Default)]
pub(crate) struct Issuers {
    present: Vec<Issuer>,
    /// Names of those that were there since the start and may have let somebody in who is still here.
    former: BTreeSet<Arc<str>>,
}

/// One issuer: what its JWTs must be like, and its keys.
struct Issuer {
    /// What its JWTs have as `iss`; empty where that means nothing.
    name: Arc<str>,
    audience: Vec<String>,
    channels_claim: String,
    grants: Arc<[Pattern]>,
    allow_patterns: bool,
    keys: Keys,
}

enum Keys {
    Fixed(Arc<KeySet>),
    Fetched(Arc<Jwks>),
}

/// Why an issuer cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    /// A file with keys cannot be read.
    #[error("the keys of a jwt entry cannot be read: {path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// A key cannot be used.
    #[error("{place}: {error}")]
    Key {
        /// Where it is.
        place: String,
        /// What is wrong with it.
        error: KeyError,
    },
    /// Something is wrong with an entry of the configuration.
    #[error("{place}: {error}")]
    At {
        /// Where it says what its keys are.
        place: String,
        /// What it is.
        error: Box<Self>,
    },
    /// There is nobody to trust.
    #[error("a JWKS cannot be fetched over TLS: {0}")]
    Trust(TrustError),
}

impl SetUpError {
    /// Whether time may mend it, or whoever writes the files: nobody needs to change what is configured.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::File { .. } => true,
            Self::Key { place, .. } => small_file::is_new(Path::new(place)),
            Self::At { error, .. } => error.may_pass(),
            Self::Trust(error) => error.is_of_file(),
        }
    }
}

/// Why a JWT is not good, in words for the operator.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    /// It is over the limit.
    #[error("it is {0} bytes, the limit is {TOKEN_BYTES_MAX}")]
    TooLong(usize),
    /// It has no three parts, or one of them is not base64url.
    #[error("it is not three parts of base64url without padding, joined by dots")]
    Form,
    /// Its header cannot be understood, or wants something to be understood that is not.
    #[error("its header is not good: {0}")]
    Header(String),
    /// It is of a type that opens nothing.
    #[error(
        "its header says that it is a `{0}`; a JWT that opens channels is of type JWT or at+jwt, or of none"
    )]
    Typ(String),
    /// It is signed with an algorithm that we do not know; above all, not at all.
    #[error("its algorithm `{0}` is none that can be used")]
    Algorithm(String),
    /// Nobody here knows who issued it.
    #[error("no [[jwt]] of the configuration has its issuer, which is {0}")]
    Issuer(String),
    /// There is no such key for such an algorithm.
    #[error("its issuer has no key {kid} for {algorithm:?}")]
    Key {
        /// The key's name.
        kid: String,
        /// How it was signed.
        algorithm: Algorithm,
    },
    /// The key did not make this signature.
    #[error("its signature is wrong: it was made with another key, or it was changed")]
    Signature,
    /// It is signed well, and says something that is not good.
    #[error(transparent)]
    Claims(#[from] ClaimError),
    /// The keys of its issuer are not known now.
    #[error("the keys of its issuer could not be fetched")]
    Unavailable,
}

impl Refused {
    /// What its bearer is told.
    pub(crate) fn denied(&self) -> Denied {
        match self {
            Self::Claims(ClaimError::Expired(_)) => Denied::Expired,
            Self::Claims(ClaimError::TooEarly(..)) => Denied::Early,
            Self::Unavailable => Denied::Unavailable,
            _ => Denied::Invalid,
        }
    }

    /// Of the reasons of several issuers the one that weighs most is told.
    fn weight(&self) -> u8 {
        match self {
            // Not knowing is worse than no: it may be the one whose keys are missing.
            Self::Unavailable => 3,
            // It is for this one, and was good, or will be.
            Self::Claims(ClaimError::Expired(_) | ClaimError::TooEarly(..)) => 2,
            // It is signed with the key of this one.
            Self::Claims(_) => 1,
            _ => 0,
        }
    }
}

/// Types of JWTs that are for opening something.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

impl Issuers {
    /// Reads the keys that are in files. Those on the network are fetched by [`Issuers::keep_up`]; what is known of them `before` is
    /// kept, so that setting up anew while a provider is away locks nobody out.
    pub(crate) fn set_up(settings: &[Settings], before: Option<&Self>) -> Result<Self, SetUpError> {
        let mut issuers = Vec::with_capacity(settings.len());
        for settings in settings {
            let issuer = Issuer::set_up(settings, Times::default());
            let mut issuer = issuer.map_err(|error| match settings.keys_source() {
                Some(place) => SetUpError::At { place: place.to_string(), error: Box::new(error) },
                None => error,
            })?;
            let known = before.into_iter().flat_map(|before| &before.present);
            let same = known.into_iter().find_map(|known| known.same_keys(&issuer));
            if let Some(known) = same {
                issuer.keys = Keys::Fetched(known);
            }
            issuers.push(issuer);
        }
        let mut former = BTreeSet::new();
        if let Some(before) = before {
            former.extend(before.former.iter().cloned());
            former.extend(before.present.iter().map(|issuer| issuer.name.clone()));
        }
        Ok(Self { present: issuers, former })
    }

    #[cfg(test)]
    pub(super) fn set_up_with(settings: &[Settings], times: Times) -> Self {
        let present = settings.iter().map(|settings| Issuer::set_up(settings, times).unwrap()).collect();
        Self { present, former: BTreeSet::new() }
    }

    /// Whether there is an issuer of this name, or was one since the start.
    pub(super) fn has_had(&self, name: &str) -> bool {
        self.former.contains(name) || self.present.iter().any(|issuer| *issuer.name == *name)
    }

    /// Fetches keys, until it is dropped. A panic costs an issuer no more than a pause.
    pub(crate) async fn keep_up(&self) {
        let mut tasks = JoinSet::new();
        for issuer in &self.present {
            if let Keys::Fetched(jwks) = &issuer.keys {
                let (jwks, pause) = (jwks.clone(), jwks.pause());
                let begin = move || {
                    let jwks = jwks.clone();
                    async move { jwks.keep_up().await }
                };
                tasks.spawn(keep_going("fetching the keys of an issuer", pause, begin));
            }
        }
        while tasks.join_next().await.is_some() {}
        // There is nothing to fetch.
        std::future::pending::<()>().await;
    }

    /// What a JWT allows at a time.
    pub(crate) async fn verify(&self, text: &str, now: u64) -> Result<Claims, Refused> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Refused::TooLong(text.len()));
        }
        let parts = Parts::of(text).ok_or(Refused::Form)?;
        let header = Header::parse(&parts.header)?;
        let claims = RawClaims::parse(&parts.payload)?;
        let name = claims.issuer()?.unwrap_or_default();
        let mut refused = Refused::Issuer(if name.is_empty() {
            "none".into()
        } else {
            format!("`{}`", name.escape_debug())
        });
        // Several with one name are one issuer on the way from one key to the next, or with several audiences. Each has its say.
        for issuer in self.present.iter().filter(|issuer| issuer.name.is_empty() || *issuer.name == *name) {
            let judged = match issuer.check_signature(&header, &parts).await {
                Ok(()) => claims.judge(&issuer.rules(), now).map_err(Refused::from),
                Err(reason) => Err(reason),
            };
            match judged {
                Ok(claims) => return Ok(claims),
                Err(reason) if reason.weight() >= refused.weight() => refused = reason,
                Err(_) => {}
            }
        }
        Err(refused)
    }
}

impl Issuer {
    fn set_up(settings: &Settings, times: Times) -> Result<Self, SetUpError> {
        let algorithms: Vec<Algorithm> =
            settings.algorithms.iter().filter_map(|name| name.parse().ok()).collect();
        let keys = match &settings.keys {
            KeySource::Secret(secret) => {
                let keys = KeySet::secret(secret.expose().as_bytes(), &algorithms);
                fixed(keys, "jwt.secret")?
            }
            KeySource::SecretFile(path) => {
                let secret = read(path)?;
                let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
                let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
                fixed(KeySet::secret(secret, &algorithms), &path.display().to_string())?
            }
            KeySource::PublicKeyFile(path) => {
                fixed(KeySet::public_pem(&read(path)?, &algorithms), &path.display().to_string())?
            }
            KeySource::JwksFile(path) => {
                fixed(KeySet::jwks(&read(path)?, &algorithms), &path.display().to_string())?
            }
            KeySource::JwksUrl { url, ca_file } => {
                let tls = url.is_secure.then(|| trusting(ca_file.as_deref()));
                let tls = tls.transpose().map_err(SetUpError::Trust)?;
                // It was just read, and is looked at again only to see whether it has changed.
                let ca = ca_file.as_deref().and_then(|path| small_file::read(path, CA_FILE_BYTES_MAX).ok());
                let ca = ca.map(|(bytes, _)| bytes);
                Keys::Fetched(Arc::new(Jwks::new(url.clone(), ca, tls, algorithms, times)))
            }
        };
        Ok(Self {
            name: settings.issuer.as_deref().unwrap_or_default().into(),
            audience: settings.audience.clone(),
            channels_claim: settings.channels_claim.clone(),
            grants: settings.grants.iter().map(|pattern| Pattern::new(pattern)).collect(),
            allow_patterns: settings.allow_patterns,
            keys,
        })
    }

    /// The keys that are fetched for this issuer, if they are those of the other, too.
    fn same_keys(&self, other: &Self) -> Option<Arc<Jwks>> {
        match (&self.keys, &other.keys) {
            (Keys::Fetched(ours), Keys::Fetched(theirs))
                if self.name == other.name && ours.is_like(theirs) =>
            {
                Some(ours.clone())
            }
            _ => None,
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            issuer: &self.name,
            audience: &self.audience,
            channels_claim: &self.channels_claim,
            grants: &self.grants,
            allow_patterns: self.allow_patterns,
        }
    }

    async fn check_signature(&self, header: &Header, parts: &Parts<'_>) -> Result<(), Refused> {
        let (algorithm, kid) = (header.algorithm, header.kid.as_deref());
        let unknown = || Refused::Key {
            kid: kid.map_or_else(|| "without a name".into(), |kid| format!("`{}`", kid.escape_debug())),
            algorithm,
        };
        let keys = match &self.keys {
            Keys::Fixed(keys) => keys.clone(),
            Keys::Fetched(jwks) => match jwks.find(algorithm, kid).await {
                Found::Keys(keys) => keys,
                Found::Unknown => return Err(unknown()),
                Found::Unavailable => return Err(Refused::Unavailable),
            },
        };
        let mut candidates = keys.candidates(algorithm, kid).peekable();
        candidates.peek().ok_or_else(unknown)?;
        if candidates.any(|key| key.verifies(parts.message, parts.signature, algorithm)) {
            Ok(())
        } else {
            Err(Refused::Signature)
        }
    }
}

fn fixed(keys: Result<KeySet, KeyError>, place: &str) -> Result<Keys, SetUpError> {
    let keys = keys.map_err(|error| SetUpError::Key { place: place.to_owned(), error })?;
    Ok(Keys::Fixed(Arc::new(keys)))
}

/// A file with keys as a whole.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, SetUpError> {
    let failed = |error: String| SetUpError::File { path: path.to_owned(), error };
    match small_file::read(path, KEY_FILE_BYTES_MAX) {
        Ok((bytes, _)) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            Err(failed(format!("it is larger than {KEY_FILE_BYTES_MAX} bytes, and no file with keys")))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// A JWT taken apart.
struct Parts<'a> {
    header: Vec<u8>,
    payload: Vec<u8>,
    /// What is signed.
    message: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        base64url::decode(signature)?;
        let (header, payload) = (base64url::decode(header)?, base64url::decode(payload)?);
        Some(Self { header, payload, message, signature })
    }
}

/// What a JWT says of its signature. Keys and addresses of keys that it may hold are not looked at.
struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Header {
    fn parse(header: &[u8]) -> Result<Self, Refused> {
        #[derive(Deserialize)]
        struct Fields {
            alg: String,
            kid: Option<String>,
            typ: Option<String>,
            /// Whether it is there, also as `null`: what must be understood is a list of names (RFC 7515 §4.1.11).
            #[serde(default, deserialize_with = "is_there")]
            crit: bool,
        }
        let bad = |error: &dyn std::fmt::Display| Refused::Header(error.to_string());
        let text = std::str::from_utf8(header).map_err(|error| bad(&error))?;
        if is_deeper_than(channelapi_core::limits::JWT_DEPTH_MAX, text) {
            return Err(bad(&"it is nested too deeply"));
        }
        // An array would pass for the struct.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(bad(&"it is no object"));
        }
        let Fields { alg, kid, typ, crit } = serde_json::from_str(text).map_err(|error| bad(&error))?;
        if crit {
            return Err(bad(&"it has `crit`, and no extension is known here"));
        }
        if let Some(typ) = typ {
            let name = typ.to_ascii_lowercase();
            let name = name.strip_prefix("application/").unwrap_or(&name);
            if !TYPES.contains(&name) {
                return Err(Refused::Typ(typ.escape_debug().to_string()));
            }
        }
        if kid.as_deref().is_some_and(|kid| !is_claim(kid)) {
            return Err(bad(&"its `kid` is no text of 1 to 255 bytes"));
        }
        let algorithm = alg.parse().map_err(|_| Refused::Algorithm(alg.escape_debug().to_string()))?;
        Ok(Self { algorithm, kid })
    }
}

fn is_there<'a, D: Deserializer<'a>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}
