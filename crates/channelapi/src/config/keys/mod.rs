//! Which API keys the server runs with, and which it refuses to run with.
//!
//! - `single.rs` is the key that may do everything: configured, stored, or made at the first start.
//! - `rules.rs` says which keys are weak or cannot be used, `error.rs` how that is told.
//!
//! Invariants: a server that strangers can reach never runs with a key that they may know; no two keys are the same.

mod error;
mod rules;
mod single;

pub use error::KeyError;
pub use rules::{new_key, weakness_of};
pub use single::{key_file, stored_key};

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use rules::{PUBLIC, is_public, unusable, weakness};
use single::{Unread, check_auth_key, read, resolve_auth_key};

use super::{
    auth_keys::{AuthKey, Held, SINGLE_KEY},
    options::Config,
    pattern::ChannelPatterns,
    scope::Scopes,
    secret::{KeyHash, Secret},
    value::Value as _,
};

/// How long before its end a key is worth a warning: two weeks are enough to give another to whoever uses it.
const LAST_MILLIS: u64 = 14 * DAY_MILLIS;

const DAY_MILLIS: u64 = 24 * HOUR_MILLIS;
const HOUR_MILLIS: u64 = 3_600_000;

/// Who can reach the server, which decides whether a weak key is an error.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Only this machine.
    pub loopback: bool,
    /// Whoever is developing.
    pub debug: bool,
}

impl Reach {
    /// Who can reach a server with these settings.
    pub fn of(config: &Config) -> Self {
        Self { loopback: config.is_loopback(), debug: config.debug }
    }
}

/// A key to run with, as much as must be known of it.
#[derive(Debug, Clone)]
pub struct KnownKey {
    /// What logs call it.
    pub name: String,
    /// What it is recognised by.
    pub hash: KeyHash,
    /// What it may do.
    pub scopes: Scopes,
    /// Its channels; `None` is all.
    pub channels: Option<ChannelPatterns>,
    /// Milliseconds since 1970 from which on it lets nobody in.
    pub expires_at: Option<u64>,
    /// Whether everybody may know it, or guess it, as far as that can be told.
    pub is_weak: bool,
}

impl KnownKey {
    /// The key of the option `auth_key`, which may do everything.
    pub fn single(key: &Secret) -> Self {
        Self {
            name: SINGLE_KEY.to_owned(),
            hash: key.hash(),
            scopes: Scopes::ALL,
            channels: None,
            expires_at: None,
            is_weak: weakness(key.expose()).is_some(),
        }
    }
}

/// All keys to run with.
#[derive(Debug)]
pub struct ResolvedKeys {
    /// The keys.
    pub keys: Vec<KnownKey>,
    /// Where the one that may do everything is from.
    pub origin: KeyOrigin,
    /// What the operator should hear about them.
    pub warnings: Vec<String>,
}

/// Where the key is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The operator set it.
    Configured,
    /// It was generated just now and written to this file.
    Generated(PathBuf),
    /// It was read from this file, where an earlier start or the operator put it.
    Stored(PathBuf),
    /// There is none: only the keys of the list count.
    Listed,
}

/// Finds the keys to run with: the single one, which is made if there is no other, and those of the list.
pub fn resolve(config: &Config, reach: Reach) -> Result<ResolvedKeys, KeyError> {
    resolve_beside(&config.data_dir, config, reach)
}

/// The same for a server that runs with this data directory, whatever the settings say of it: another one needs a restart, and
/// nothing may be made there before.
pub fn resolve_beside(data_dir: &Path, config: &Config, reach: Reach) -> Result<ResolvedKeys, KeyError> {
    let (mut keys, mut warnings) = listed(config, reach)?;
    let origin = if is_single_wanted(config) {
        let single = resolve_auth_key(config.auth_key.clone(), data_dir, reach)?;
        keys.insert(0, KnownKey::single(&single.key));
        warnings.extend(single.warnings);
        single.origin
    } else {
        warnings.extend(unused_key(data_dir, &keys));
        KeyOrigin::Listed
    };
    distinct(&keys)?;
    Ok(ResolvedKeys { keys, origin, warnings })
}

/// What [`resolve`] would say, without creating anything.
#[derive(Debug)]
pub struct Checked {
    /// What the operator should hear about the keys.
    pub warnings: Vec<String>,
    /// Whether the first start will generate a key.
    pub will_generate: bool,
}

/// Applies the same rules as [`resolve`] without creating anything.
pub fn check(config: &Config, reach: Reach) -> Result<Checked, KeyError> {
    let (mut keys, mut warnings) = listed(config, reach)?;
    let mut will_generate = false;
    if is_single_wanted(config) {
        match check_auth_key(config.auth_key.as_ref(), &config.data_dir, reach)? {
            Some((key, about_key)) => {
                keys.insert(0, KnownKey::single(&key));
                warnings.extend(about_key);
            }
            None => will_generate = true,
        }
    } else {
        warnings.extend(unused_key(&config.data_dir, &keys));
    }
    distinct(&keys)?;
    Ok(Checked { warnings, will_generate })
}

/// A key that may do everything is made only for who has no other: a list is all that is wanted by who wrote one.
fn is_single_wanted(config: &Config) -> bool {
    config.auth_key.is_some() || config.auth_keys.is_empty()
}

/// What to say of a generated key that is not in the list: whoever had it does not get in any more.
fn unused_key(data_dir: &Path, listed: &[KnownKey]) -> Option<String> {
    let path = key_file(data_dir);
    let path = path.exists().then(|| path.display().to_string())?;
    let is_listed = |key: Secret| listed.iter().any(|known| known.hash == key.hash());
    if stored_key(data_dir).ok().flatten().is_some_and(is_listed) {
        return None;
    }
    Some(format!(
        "the key in {path} lets nobody in, because there are [[auth_keys]]; if it should, add one with key_file = \"{path}\", \
         or start with CHANNELAPI_AUTH_KEY_FILE={path}; else delete it"
    ))
}

fn distinct(keys: &[KnownKey]) -> Result<(), KeyError> {
    for (index, key) in keys.iter().enumerate() {
        if let Some(other) = keys[index + 1..].iter().find(|other| other.hash == key.hash) {
            return Err(KeyError::Same { one: key.name.clone(), other: other.name.clone() });
        }
    }
    Ok(())
}

/// The keys of the list, and warnings about them.
fn listed(config: &Config, reach: Reach) -> Result<(Vec<KnownKey>, Vec<String>), KeyError> {
    let mut warnings = Vec::new();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let mut known = Vec::new();
    for key in &config.auth_keys {
        let (hash, weakness) = match &key.held {
            Held::Hash(hash) => (*hash, judge_hash(key.name.as_str(), hash)?),
            Held::File(path) => {
                let secret = read_listed(key.name.as_str(), path, &mut warnings)?;
                (secret.hash(), judge_listed(key.name.as_str(), &secret)?)
            }
        };
        let is_weak = weakness.is_some();
        if let Some(why) = weakness {
            warnings.push(excuse(key.name.as_str(), why, reach)?);
        }
        warnings.extend(about_end(key, now));
        known.push(KnownKey {
            name: key.name.as_str().to_owned(),
            hash,
            scopes: key.scopes,
            channels: key.channels.clone(),
            expires_at: key.expires.as_ref().map(super::moment::Moment::unix_millis),
            is_weak,
        });
    }
    Ok((known, warnings))
}

/// What to say of a key that ends soon, or has.
fn about_end(key: &AuthKey, now: u64) -> Option<String> {
    let (name, end) = (key.name.as_str(), key.expires.as_ref()?);
    let (at, millis) = (end.show(), end.unix_millis());
    match millis.checked_sub(now) {
        None | Some(0) => Some(format!("the auth key `{name}` ended at {at} and lets nobody in; remove it")),
        Some(left) if left < LAST_MILLIS => {
            let left = match (left / DAY_MILLIS, left / HOUR_MILLIS) {
                (0, 0) => "within an hour".to_owned(),
                (0, hours) => format!("in {hours} h"),
                (days, _) => format!("in {days} d"),
            };
            Some(format!(
                "the auth key `{name}` ends at {at}, {left}; add another and give it to whoever uses this one"
            ))
        }
        Some(_) => None,
    }
}

fn read_listed(name: &str, path: &Path, warnings: &mut Vec<String>) -> Result<Secret, KeyError> {
    let (name, path) = (name.to_owned(), path.to_owned());
    match read(&path) {
        Ok((key, about_file)) => {
            warnings.extend(about_file);
            Ok(key)
        }
        Err(Unread::Io(error)) => Err(KeyError::ListedIo { name, path, error }),
        Err(Unread::Bad(why)) => Err(KeyError::BadListedFile { name, path, why }),
    }
}

/// What is weak about a key.
fn judge_listed(name: &str, key: &Secret) -> Result<Option<String>, KeyError> {
    match unusable(key.expose()) {
        Some(why) => Err(KeyError::UnusableListed { name: name.to_owned(), why }),
        None => Ok(weakness(key.expose())),
    }
}

/// The same of a hash, of which nothing can be told but whether it is one that everybody knows, or that of a key that everybody knows.
fn judge_hash(name: &str, hash: &KeyHash) -> Result<Option<String>, KeyError> {
    if *hash == KeyHash::of(b"") {
        return Err(KeyError::UnusableListed { name: name.to_owned(), why: "is empty".to_owned() });
    }
    Ok(is_public(hash).then(|| PUBLIC.to_owned()))
}

/// What to say of a weak key that may be used all the same.
fn excuse(name: &str, why: String, reach: Reach) -> Result<String, KeyError> {
    let Some(excuse) = reach.excuse() else {
        return Err(KeyError::WeakListed { name: name.to_owned(), why });
    };
    let why = why.to_uppercase();
    Ok(format!("THE AUTH KEY `{name}` {why}; accepted because {excuse}, never use it in production"))
}

impl Reach {
    /// Why a weak key may be used all the same.
    fn excuse(self) -> Option<&'static str> {
        match (self.debug, self.loopback) {
            (true, true) => Some("debug is on"),
            (true, false) => Some(
                "debug is on, although other machines can reach this server (--address 127.0.0.1, without trusted proxies, keeps them out)",
            ),
            (false, true) => Some("the server listens on this machine only"),
            (false, false) => None,
        }
    }
}

/// The key in a file that the list names, for who wants to use it.
pub fn listed_key(path: &Path) -> Option<Secret> {
    read(path).ok().map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, error::Error as _, fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::config::pages;

    const ANYBODY: Reach = Reach { loopback: false, debug: false };
    const THIS_MACHINE: Reach = Reach { loopback: true, debug: false };
    const GOOD: &str = "correct-horse-battery-staple";

    /// The configuration of a file below `dir`, in which `DIR` stands for that.
    fn configuration(dir: &Path, text: &str) -> Config {
        let path = dir.join("c.toml");
        let place = dir.display().to_string();
        fs::write(&path, format!("data_dir = '{place}/data'\n{}", text.replace("DIR", &place))).unwrap();
        crate::config::load(vec![], Some(&path), crate::config::env::load([]), &[]).unwrap()
    }

    fn private(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn in_list(name: &str, held: &str) -> String {
        format!("[[auth_keys]]\nname = '{name}'\nscopes = ['publish']\n{held}\n")
    }

    fn hash(key: &str) -> String {
        format!("hash = '{}'", KeyHash::of(key.as_bytes()).written())
    }

    #[test]
    fn a_list_is_all_that_counts_unless_a_single_key_is_set_too() {
        let dir = tempfile::tempdir().unwrap();
        private(&dir.path().join("k"), "sixteen-bytes-and-more\n");
        let list = in_list("a", &hash(GOOD)) + &in_list("b", "key_file = 'DIR/k'");
        let resolved = resolve(&configuration(dir.path(), &list), ANYBODY).unwrap();
        let names: Vec<_> = resolved.keys.iter().map(|key| key.name.as_str()).collect();
        assert_eq!((names, resolved.origin), (vec!["a", "b"], KeyOrigin::Listed));
        assert_eq!(resolved.warnings, Vec::<String>::new());
        assert_eq!(resolved.keys[0].hash, KeyHash::of(GOOD.as_bytes()));
        assert_eq!(resolved.keys[1].hash, KeyHash::of(b"sixteen-bytes-and-more"), "without the line break");
        assert!(!dir.path().join("data").exists(), "no key is generated");

        let both = format!("auth_key = 'another-key-of-ours'\n{list}");
        let resolved = resolve(&configuration(dir.path(), &both), ANYBODY).unwrap();
        let names: Vec<_> = resolved.keys.iter().map(|key| key.name.as_str()).collect();
        assert_eq!((names, resolved.origin), (vec!["auth_key", "a", "b"], KeyOrigin::Configured));
        assert_eq!(resolved.keys[0].scopes, Scopes::ALL);

        fs::create_dir(dir.path().join("data")).unwrap();
        private(&dir.path().join("data/auth_key"), GOOD);
        let config = configuration(dir.path(), &in_list("b", "key_file = 'DIR/k'"));
        let warnings = resolve(&config, ANYBODY).unwrap().warnings;
        assert!(warnings[0].contains("data/auth_key lets nobody in"), "{warnings:?}");
        assert_eq!(check(&config, ANYBODY).unwrap().warnings, warnings);

        let config = configuration(dir.path(), &in_list("a", "key_file = 'DIR/data/auth_key'"));
        assert_eq!(resolve(&config, ANYBODY).unwrap().warnings, Vec::<String>::new(), "the list names it");
        assert_eq!(check(&config, ANYBODY).unwrap().warnings, Vec::<String>::new());
    }

    #[test]
    fn every_key_of_the_list_is_held_to_the_rules() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("k");
        let of_file = in_list("shop", "key_file = 'DIR/k'");
        for (content, list, part) in [
            ("changeme\n", &of_file, "the auth key `shop` is publicly known"),
            ("short\n", &of_file, "the auth key `shop` is only 5 bytes long"),
            ("", &in_list("shop", &hash("changeme")), "the auth key `shop` is publicly known"),
            ("", &in_list("shop", &hash("s3cur3_t0k3n")), "the auth key `shop` is publicly known"),
            // The example of `auth_keys.hash`.
            ("", &in_list("shop", &hash("Hello World!")), "the auth key `shop` is publicly known"),
        ] {
            private(&file, content);
            let config = configuration(dir.path(), list);
            for error in [resolve(&config, ANYBODY).unwrap_err(), check(&config, ANYBODY).unwrap_err()] {
                let printed = error.to_string();
                assert!(printed.contains(part) && printed.contains("channelapi key create"), "{printed}");
                assert_eq!(error.exit_code(), 78);
            }
            let warnings = resolve(&config, THIS_MACHINE).unwrap().warnings;
            assert!(warnings[0].starts_with("THE AUTH KEY `shop` IS "), "{warnings:?}");
        }
        for (content, list, part) in [
            ("\n", &of_file, "k of the auth key `shop` is empty; write the key into it"),
            ("sixteen bytes and \n", &of_file, "the auth key `shop` starts or ends with a space"),
            ("", &in_list("shop", &hash("")), "the auth key `shop` is empty"),
        ] {
            private(&file, content);
            let error = resolve(&configuration(dir.path(), list), THIS_MACHINE).unwrap_err();
            assert!(error.to_string().contains(part) && error.exit_code() == 78, "{error}");
        }
        fs::remove_file(&file).unwrap();
        let error = resolve(&configuration(dir.path(), &of_file), THIS_MACHINE).unwrap_err();
        assert!(error.to_string().contains("cannot read the key file ") && error.exit_code() == 2, "{error}");
        assert!(error.source().is_none(), "the reason is told once");

        fs::write(&file, GOOD).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let warnings = resolve(&configuration(dir.path(), &of_file), ANYBODY).unwrap().warnings;
        assert!(warnings[0].contains("chmod 600"), "{warnings:?}");
    }

    #[test]
    fn no_hash_that_our_pages_print_lets_anybody_in_where_strangers_can_reach_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let pages = pages::example() + &pages::reference();
        let printed: BTreeSet<&str> =
            pages.split('"').filter(|quoted| quoted.starts_with("sha256:")).collect();
        assert_eq!(printed.len(), 2, "an example of the option, and one of the sample: {printed:?}");
        for hash in printed {
            let config = configuration(dir.path(), &in_list("shop", &format!("hash = '{hash}'")));
            for error in [resolve(&config, ANYBODY).unwrap_err(), check(&config, ANYBODY).unwrap_err()] {
                let text = error.to_string();
                assert!(text.contains("the auth key `shop` is publicly known"), "{hash}: {text}");
            }
            assert!(resolve(&config, THIS_MACHINE).is_ok(), "{hash}");
        }
    }

    #[test]
    fn one_key_has_one_name() {
        let dir = tempfile::tempdir().unwrap();
        private(&dir.path().join("k"), GOOD);
        let list = in_list("a", &hash(GOOD)) + &in_list("b", "key_file = 'DIR/k'");
        let error = resolve(&configuration(dir.path(), &list), ANYBODY).unwrap_err();
        assert!(error.to_string().starts_with("`a` and `b` are the same key"), "{error}");
        let single = format!("auth_key = '{GOOD}'\n{}", in_list("a", &hash(GOOD)));
        let error = check(&configuration(dir.path(), &single), ANYBODY).unwrap_err();
        assert!(error.to_string().starts_with("`auth_key` and `a` are the same key"), "{error}");
    }

    #[test]
    fn a_key_is_announced_before_its_end_and_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = |expires: &str| {
            configuration(dir.path(), &in_list("a", &format!("{}\nexpires = {expires}", hash(GOOD))))
        };
        let key = config("2030-01-31").auth_keys.remove(0);
        let end = key.expires.as_ref().unwrap().unix_millis();
        let about = |now| about_end(&key, now);
        assert_eq!(about(end - LAST_MILLIS), None);
        let soon = about(end - LAST_MILLIS + 1).unwrap();
        assert!(soon.contains("`a` ends at 2030-01-31, in 13 d;"), "{soon}");
        assert!(about(end - 1).unwrap().contains(", within an hour;"));
        assert!(about(end - 5 * HOUR_MILLIS).unwrap().contains(", in 5 h;"));
        assert!(about(end).unwrap().contains("ended at 2030-01-31 and lets nobody in"));
        let warnings = resolve(&config("2020-01-31"), ANYBODY).unwrap().warnings;
        assert!(warnings[0].contains("ended at 2020-01-31"), "{warnings:?}");
    }
}
