//! Whose JWTs are good, and for which channels: the `[[jwt]]` tables.

use std::{
    fmt,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use channelapi_core::limits::JWT_ISSUERS_MAX;
use hyper::Uri;

use super::{
    options::list_spec,
    pattern::ChannelPatterns,
    secret::Secret,
    source::{GivenItem, Problem, Resolver, Setting, Source},
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

/// All issuers of the file.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) issuers: Vec<Issuer>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// The claim that names channels, unless another is chosen.
pub const CHANNELS_CLAIM: &str = "channels";

/// Checks each issuer, and that they can be told apart.
pub(super) fn resolve(given: &[GivenItem]) -> Resolved {
    let mut resolved = Resolved::default();
    if let Some(first_too_many) = given.get(JWT_ISSUERS_MAX) {
        let number = given.len();
        let message = format!("{number} issuers of JWTs are too many, the limit is {JWT_ISSUERS_MAX}");
        resolved.problems.push(Problem::at(first_too_many.source.clone(), message));
        return resolved;
    }
    for item in given {
        let mut values = Resolver::new(&item.given);
        let issuer = Issuer::resolve(&mut values, &item.source);
        resolved.problems.extend(values.problems);
        match issuer {
            Ok(issuer) => {
                if issuer.issuer.is_none() && given.len() > 1 {
                    let message = "the jwt entry has no `issuer`; where there are several, each says whose JWTs it is for";
                    resolved.problems.push(Problem::at(item.source.clone(), message));
                }
                if let KeySource::SecretFile(path) = &issuer.keys {
                    resolved.warnings.extend(about_file(path));
                }
                resolved.issuers.push(Issuer { settings: values.settings, ..issuer });
            }
            Err(problem) => resolved.problems.extend(problem),
        }
    }
    resolved
}

/// What to say of a file with a secret, if others may read it too. That it may be missing is found when it is read.
fn about_file(path: &Path) -> Option<String> {
    let mode = path.metadata().ok()?.permissions().mode();
    let path = path.display();
    (mode & 0o077 != 0)
        .then(|| format!("other users of this machine may read {path}; run `chmod 600 {path}`"))
}

impl Issuer {
    /// Reads an issuer; a problem with its keys is the error, if it was not noted already.
    fn resolve(values: &mut Resolver<'_>, source: &Source) -> Result<Self, Option<Problem>> {
        let issuer = values.take(list_spec("jwt.issuer"));
        let audience: Option<Names> = values.take(list_spec("jwt.audience"));
        let algorithms: Option<Algorithms> = values.take(list_spec("jwt.algorithms"));
        let secret: Option<Secret> = values.take(list_spec("jwt.secret"));
        let secret_file: Option<PathBuf> = values.take(list_spec("jwt.secret_file"));
        let public_key_file: Option<PathBuf> = values.take(list_spec("jwt.public_key_file"));
        let jwks_file: Option<PathBuf> = values.take(list_spec("jwt.jwks_file"));
        let url: Option<JwksUrl> = values.take(list_spec("jwt.jwks_url"));
        let ca_file: Option<PathBuf> = values.take(list_spec("jwt.ca_file"));
        let is_insecure: Option<bool> = values.take(list_spec("jwt.insecure_http"));
        let channels_claim: Option<String> = values.take(list_spec("jwt.channels_claim"));
        let grants: Option<ChannelPatterns> = values.take(list_spec("jwt.grants"));
        let allow_patterns: Option<bool> = values.take(list_spec("jwt.allow_patterns"));

        let at = |message: String| Some(Problem::at(source.clone(), message));
        if let Some(url) = url.as_ref().filter(|url| !url.is_safe() && is_insecure != Some(true)) {
            return Err(at(format!(
                "{url} is not https: whoever is on the way could put in keys of their own; use https, or set insecure_http = true \
                 inside a network you trust"
            )));
        }
        if ca_file.is_some() && url.as_ref().is_none_or(|url| !url.is_secure) {
            return Err(at("the jwt entry has `ca_file` without an https `jwks_url`; remove it".into()));
        }
        let sources = [
            secret.map(KeySource::Secret),
            secret_file.map(KeySource::SecretFile),
            public_key_file.map(KeySource::PublicKeyFile),
            jwks_file.map(KeySource::JwksFile),
            url.map(|url| KeySource::JwksUrl { url, ca_file }),
        ];
        let mut sources = sources.into_iter().flatten();
        let keys = match (sources.next(), sources.next()) {
            (Some(only), None) => only,
            (Some(_), Some(_)) => {
                return Err(at(format!("the jwt entry has several sources of keys; leave one of {SOURCES}")));
            }
            // What is wrong with the only one was noted.
            (None, _) if !values.problems.is_empty() => return Err(None),
            (None, _) => {
                return Err(at(format!("the jwt entry has no key; say where it is, with one of {SOURCES}")));
            }
        };
        let algorithms = algorithms.map(|names| names.0).unwrap_or_default();
        let are_for_secrets =
            !algorithms.is_empty() && algorithms.iter().all(|algorithm| algorithm.starts_with("HS"));
        if are_for_secrets && !matches!(keys, KeySource::Secret(_) | KeySource::SecretFile(_)) {
            return Err(at(format!(
                "the jwt entry could take no JWT: only a secret goes with {}, and its keys are public ones; name what they are for, such as \
                 RS256 or ES256, or leave `algorithms` out",
                algorithms.join(", ")
            )));
        }
        Ok(Self {
            issuer,
            audience: audience.map(|names| names.0).unwrap_or_default(),
            algorithms,
            keys,
            channels_claim: channels_claim.unwrap_or_else(|| CHANNELS_CLAIM.to_owned()),
            grants: grants
                .map_or_else(|| vec!["*".to_owned()], |grants| grants.iter().map(str::to_owned).collect()),
            allow_patterns: allow_patterns.unwrap_or(false),
            settings: Vec::new(),
        })
    }
}

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

/// Where keys can be.
const SOURCES: &str = "`secret`, `secret_file`, `public_key_file`, `jwks_file` and `jwks_url`";

/// Names, each as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(Vec<String>);

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
pub struct Algorithms(Vec<String>);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Rejected, env, load};

    /// Once, the query was logged whenever keys were fetched.
    #[test]
    fn logs_do_not_show_the_query_of_an_address() {
        for (text, logged) in [
            ("https://login.example/jwks.json", "https://login.example/jwks.json"),
            ("https://login.example:444/jwks?key=canary&a=?", "https://login.example:444/jwks?****"),
            ("http://localhost?canary", "http://localhost/?****"),
        ] {
            assert_eq!(JwksUrl::parse(text).unwrap().to_string(), logged);
        }
    }

    fn load_text(text: &str) -> Result<Config, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        load(vec![], Some(&path), env::load([]), &[]).map_err(|Rejected { problems, .. }| {
            let shown = |problem: &Problem| problem.to_string().replace(path.to_str().unwrap(), "c.toml");
            problems.iter().map(shown).collect()
        })
    }

    #[test]
    fn an_issuer_is_read_and_completed() {
        let config = load_text(
            "[[jwt]]\nissuer = 'https://a'\njwks_url = 'https://a/keys'\nca_file = '/ca.pem'\n\
             audience = ['push', 'a,b']\nalgorithms = ['RS256', 'ES256']\n[[jwt]]\nissuer = 'b'\n\
             secret = 'a-secret-of-more-than-32-bytes-is-here'\ngrants = ['user:*']\nallow_patterns = true\n\
             channels_claim = 'topics'\n",
        )
        .unwrap();
        let [a, b] = &config.jwt[..] else { panic!("{:?}", config.jwt) };
        assert_eq!((a.audience.join("|"), a.algorithms.join("|")), ("push|a,b".into(), "RS256|ES256".into()));
        assert!(matches!(&a.keys, KeySource::JwksUrl { url, ca_file: Some(_) } if url.is_secure));
        assert_eq!(
            (&*a.channels_claim, &*a.grants, a.allow_patterns),
            ("channels", &["*".to_owned()][..], false)
        );
        assert!(matches!(&b.keys, KeySource::Secret(_)));
        assert_eq!(
            (&*b.channels_claim, &*b.grants, b.allow_patterns),
            ("topics", &["user:*".to_owned()][..], true)
        );
        assert!(!format!("{b:?}").contains("a-secret"), "a secret is not shown");
    }

    #[test]
    fn a_secret_that_others_can_read_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "a-secret-of-more-than-32-bytes-is-here").unwrap();
        let text = format!("[[jwt]]\nsecret_file = '{}'\n", path.display());
        for (mode, warned) in [(0o644, true), (0o640, true), (0o600, false), (0o400, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let warnings = load_text(&text).unwrap().warnings;
            assert_eq!(warnings.iter().any(|warning| warning.contains("chmod 600")), warned, "{mode:o}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(load_text(&text).unwrap().warnings, Vec::<String>::new(), "a start refuses it anyway");
    }

    #[test]
    fn what_cannot_work_is_said_with_its_place() {
        for (text, expected) in [
            ("[[jwt]]\nissuer = 'a'", "c.toml:1:1: the jwt entry has no key; say where it is"),
            (
                "[[jwt]]\nsecret = 'x'\njwks_file = 'y'",
                "c.toml:1:1: the jwt entry has several sources of keys",
            ),
            (
                "[[jwt]]\njwks_url = 'http://login.example/keys'",
                "c.toml:1:1: http://login.example/keys is not https",
            ),
            (
                "[[jwt]]\njwks_url = 'login.example'",
                "c.toml:2:12: jwt.jwks_url: `login.example` is no web address",
            ),
            ("[[jwt]]\nsecret = 'x'\nca_file = 'y'", "c.toml:1:1: the jwt entry has `ca_file` without"),
            (
                "[[jwt]]\nsecret = 'x'\nalgorithms = ['none']",
                "c.toml:3:14: jwt.algorithms: `none` is not an algorithm",
            ),
            (
                "[[jwt]]\njwks_url = 'https://a/keys'\nalgorithms = ['HS256', 'HS512']",
                "c.toml:1:1: the jwt entry could take no JWT: only a secret goes with HS256, HS512,",
            ),
            ("[[jwt]]\nsecret = 'x'\naudience = []", "c.toml:3:12: jwt.audience: the list holds nothing"),
            (
                "[[jwt]]\nsecret = 'x'\nallow_pattern = true",
                "c.toml:3:1: unknown key `allow_pattern` in [[jwt]]; did you mean `allow_patterns`?",
            ),
            ("[jwt]\nsecret = 'x'", "c.toml:1:1: there can be several issuers; write [[jwt]]"),
            ("secret = 'x'", "c.toml:1:1: unknown key `secret`; write it below [[jwt]], as `secret`"),
        ] {
            let problems = load_text(text).expect_err(text);
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{text}: {problems:?}");
        }
        let two = "[[jwt]]\nsecret = 'x'\n[[jwt]]\nissuer = 'b'\nsecret = 'y'";
        assert_eq!(load_text(two).unwrap_err().len(), 1, "two must be told apart");
        assert!(load_text("[[jwt]]\njwks_url = 'http://a/keys'\ninsecure_http = true").is_ok());
        let many = "[[jwt]]\nissuer = 'a'\nsecret = 'x'\n".repeat(JWT_ISSUERS_MAX + 1);
        assert!(load_text(&many).unwrap_err()[0].contains("33 issuers of JWTs are too many"));
    }

    #[test]
    fn an_address_is_read_as_written() {
        let url = JwksUrl::parse("https://login.example.com/keys?v=1").unwrap();
        assert_eq!((&*url.host, url.port, &*url.path), ("login.example.com", 443, "/keys?v=1"));
        assert_eq!(url.show(), "https://login.example.com/keys?v=1");
        let url = JwksUrl::parse("https://login.example.com?tenant=1").unwrap();
        assert_eq!((&*url.host, &*url.path), ("login.example.com", "/?tenant=1"));
        let url = JwksUrl::parse("http://[::1]:8080").unwrap();
        assert_eq!((&*url.host, url.port, &*url.path, url.is_safe()), ("::1", 8080, "/", true));
        for (text, is_safe) in [
            ("https://a", true),
            ("http://a", false),
            ("http://127.0.0.1:1/x", true),
            ("http://localhost", true),
            ("http://localhost.evil.example", false),
        ] {
            assert_eq!(JwksUrl::parse(text).unwrap().is_safe(), is_safe, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "a",
            "login.example.com/keys",
            "ftp://a/b",
            "file:///etc/passwd",
            "https://",
            "https://u:p@a",
            "https://a:99999",
        ] {
            assert!(JwksUrl::parse(text).is_err(), "{text}");
        }
    }
}
