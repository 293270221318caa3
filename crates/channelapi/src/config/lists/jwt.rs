//! The `[[jwt]]`, checked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use channelapi_core::limits::JWT_ISSUERS_MAX;

use crate::config::{
    jwt::{Algorithms, CHANNELS_CLAIM, Issuer, JwksUrl, KeySource, Names},
    options::list_spec,
    pattern::ChannelPatterns,
    secret::Secret,
    source::{GivenItem, Problem, Resolver, Source},
};

/// All issuers of the file.
#[derive(Default)]
pub(in crate::config) struct Resolved {
    pub(in crate::config) issuers: Vec<Issuer>,
    pub(in crate::config) problems: Vec<Problem>,
    pub(in crate::config) warnings: Vec<String>,
}

/// Checks each issuer, and that they can be told apart.
pub(in crate::config) fn resolve(given: &[GivenItem]) -> Resolved {
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

/// Where keys can be.
const SOURCES: &str = "`secret`, `secret_file`, `public_key_file`, `jwks_file` and `jwks_url`";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value as _;
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
