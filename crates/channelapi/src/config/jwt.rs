//! Whose JWTs are good, and for which channels: the `[[jwt]]` tables.

use std::{fmt, path::PathBuf};

use hyper::Uri;

use super::{
    secret::Secret,
    source::{Setting, Source},
    value::{Shape, Value, not},
};

/// One who issues JWTs.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// What its JWTs have as `iss`. Left out, it is the only one, and they may have any or none.
    pub issuer: Option<String>,
    /// What they have as `aud`. Empty: they must have none.
    pub audience: Vec<String>,
    /// The algorithms that they are signed with. Empty: the usual one of each key.
    pub algorithms: Vec<String>,
    /// What their signatures are verified with.
    pub keys: KeySource,
    /// The claim that names channels.
    pub channels_claim: String,
    /// Patterns of the channels that they may open at most.
    pub grants: Vec<String>,
    /// Whether they may name channels by patterns.
    pub allow_patterns: bool,
    /// All of it as text, and where it came from.
    pub settings: Vec<Setting>,
}

/// The claim that names channels, unless another is chosen.
pub const CHANNELS_CLAIM: &str = "channels";

impl Issuer {
    /// Where the configuration says what the keys are.
    pub fn keys_source(&self) -> Option<&Source> {
        let key = match self.keys {
            KeySource::Secret(_) => "jwt.secret",
            KeySource::SecretFile(_) => "jwt.secret_file",
            KeySource::PublicKeyFile(_) => "jwt.public_key_file",
            KeySource::JwksFile(_) => "jwt.jwks_file",
            KeySource::JwksUrl { .. } => "jwt.jwks_url",
        };
        self.settings.iter().find(|setting| setting.key == key).map(|setting| &setting.source)
    }
}

/// Names, each as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub(super) Vec<String>);

impl Value for Names {
    const SHAPE: Shape = Shape::Lines;
    const PLACEHOLDER: &'static str = "NAMES";
    const ACCEPTS: &'static str = "a list of names";

    fn parse(text: &str) -> Result<Self, String> {
        if text.split('\n').any(str::is_empty) {
            return Err("the list holds nothing, or an empty name; write names, or leave it out".to_owned());
        }
        Ok(Self(text.split('\n').map(str::to_owned).collect()))
    }

    fn show(&self) -> String {
        self.0.join(", ")
    }
}

/// Algorithms that JWTs are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms(pub(super) Vec<String>);

/// All that there are.
pub const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "EdDSA",
];

impl Value for Algorithms {
    const SHAPE: Shape = Shape::List;
    const PLACEHOLDER: &'static str = "NAMES";
    const ACCEPTS: &'static str = "a list of `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, \
                                   `ES384`, `EdDSA`";

    fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
        match names.iter().find(|name| !ALGORITHMS.contains(&name.as_str())) {
            Some(unknown) => {
                Err(not(unknown, "an algorithm", &format!("write some of {}", ALGORITHMS.join(", "))))
            }
            None => Ok(Self(names)),
        }
    }

    fn show(&self) -> String {
        self.0.join(",")
    }
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// Here: a secret that the issuer has, too.
    Secret(Secret),
    /// Such a secret in a file.
    SecretFile(PathBuf),
    /// A public key in PEM form in a file.
    PublicKeyFile(PathBuf),
    /// A JWKS in a file.
    JwksFile(PathBuf),
    /// A JWKS on the network.
    JwksUrl {
        /// Where.
        url: JwksUrl,
        /// A file with the certificates that its server's is signed by, instead of those of the system.
        ca_file: Option<PathBuf>,
    },
}

/// The address of a JWKS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl {
    /// Whether it is `https`.
    pub is_secure: bool,
    /// The host, as name lookups want it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port, as the header has them.
    pub authority: String,
    /// The path, and the query if there is one.
    pub path: String,
}

impl JwksUrl {
    /// Whether keys can come from there without anybody on the way changing them.
    pub fn is_safe(&self) -> bool {
        let is_here = || {
            self.host == "localhost"
                || self.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        };
        self.is_secure || is_here()
    }
}

impl JwksUrl {
    fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}

/// As logs name it: without what may be a secret, which is the query. There is never a user's name.
impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.path.split_once('?').map_or((&*self.path, ""), |(path, _)| (path, "?****"));
        write!(f, "{}://{}{path}{query}", self.scheme(), self.authority)
    }
}

impl Value for JwksUrl {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "URL";
    const ACCEPTS: &'static str = "an `https://` address, or `http://` of this machine";

    fn parse(text: &str) -> Result<Self, String> {
        let example = "write it as https://login.example.com/.well-known/jwks.json";
        let uri: Uri =
            text.parse().map_err(|error| format!("`{}`: {error}; {example}", text.escape_debug()))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("`{}` is no web address; {example}", text.escape_debug())),
        };
        let authority = uri.authority().ok_or_else(|| format!("`{text}` names no host; {example}"))?;
        if authority.as_str().contains('@') {
            return Err("the address contains a user name or password; keys are public and need none".into());
        }
        if authority.as_str() != authority.host() && authority.port_u16().is_none() {
            return Err(format!("`{text}` has a port that is none; {example}"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(format!("`{text}` names no host; {example}"));
        }
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // A query may follow the host at once; a request has a path in front of it.
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_secure, host, port, authority: authority.to_string(), path })
    }

    fn show(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority, self.path)
    }
}
