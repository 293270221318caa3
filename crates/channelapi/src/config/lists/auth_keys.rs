//! The `[[auth_keys]]`, checked.

use std::path::PathBuf;

use channelapi_core::limits::AUTH_KEYS_MAX;

use crate::config::{
    auth_keys::{AuthKey, Held},
    options::list_spec,
    secret::KeyHash,
    source::{GivenItem, Problem, Resolver, Source},
};

/// All keys of the file.
#[derive(Default)]
pub(in crate::config) struct Resolved {
    pub(in crate::config) keys: Vec<AuthKey>,
    pub(in crate::config) problems: Vec<Problem>,
}

/// Checks each key, and that no two are called the same.
pub(in crate::config) fn resolve(given: &[GivenItem]) -> Resolved {
    let mut resolved = Resolved::default();
    if let Some(first_too_many) = given.get(AUTH_KEYS_MAX) {
        let number = given.len();
        let message = format!("{number} auth keys are too many, the limit is {AUTH_KEYS_MAX}");
        resolved.problems.push(Problem::at(first_too_many.source.clone(), message));
        return resolved;
    }
    for item in given {
        let mut values = Resolver::new(&item.given);
        let key = AuthKey::resolve(&mut values);
        resolved.problems.extend(values.problems);
        let Some(key) = key else { continue };
        let key = AuthKey { settings: values.settings, ..key };
        resolved.problems.extend(key.is_second(&resolved.keys));
        resolved.keys.push(key);
    }
    resolved
}

impl AuthKey {
    /// Reads a key; `None` after a problem with what it is known by. What it lacks was noted when the file was read.
    fn resolve(values: &mut Resolver<'_>) -> Option<Self> {
        let name = values.take(list_spec("auth_keys.name"));
        let hash: Option<KeyHash> = values.take(list_spec("auth_keys.hash"));
        let key_file: Option<PathBuf> = values.take(list_spec("auth_keys.key_file"));
        let scopes = values.take(list_spec("auth_keys.scopes"));
        let channels = values.take(list_spec("auth_keys.channels"));
        let expires = values.take(list_spec("auth_keys.expires"));
        let held = hash.map(Held::Hash).or(key_file.map(Held::File))?;
        Some(Self { name, held, scopes, channels, expires, settings: Vec::new() })
    }

    fn is_second(&self, above: &[Self]) -> Option<Problem> {
        let same_name = |first: &&Self| first.name == self.name && !self.name.0.is_empty();
        if let Some(first) = above.iter().find(same_name) {
            let (name, place) = (&self.name.0, first.source("auth_keys.name"));
            let message = format!(
                "auth_keys.name: `{name}` is the name of another key ({place}); call this one differently"
            );
            return Some(Problem::at(self.source("auth_keys.name").clone(), message));
        }
        let Held::Hash(_) = self.held else { return None };
        let first = above.iter().find(|first| first.held == self.held)?;
        let (name, place) = (&first.name.0, first.source("auth_keys.hash"));
        let message = format!(
            "auth_keys.hash: this is the key of `{name}` ({place}); make one for each, or join their scopes and channels"
        );
        Some(Problem::at(self.source("auth_keys.hash").clone(), message))
    }

    /// Where the value of an option came from.
    fn source(&self, key: &str) -> &Source {
        &self.settings.iter().find(|setting| setting.key == key).expect("every option has a setting").source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Rejected, env, load, scope::Scope};
    use crate::config::{pattern::ChannelPatterns, value::Value as _};

    const HASH: &str = "sha256:7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069";

    fn load_text(text: &str) -> Result<Config, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let place = path.display().to_string();
        load(vec![], Some(&path), env::load([]), &[]).map_err(|Rejected { problems, .. }| {
            problems.iter().map(|problem| problem.to_string().replace(&place, "c.toml")).collect()
        })
    }

    fn key(lines: &str) -> String {
        format!("[[auth_keys]]\n{lines}\n")
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(load_text(text).unwrap_err(), expected, "{text}");
    }

    #[test]
    fn keys_are_read_in_every_spelling_toml_has() {
        let tables = key(&format!(
            "name = 'orders'\nhash = '{HASH}'\nscopes = ['publish', 'tokens']\nchannels = ['user-*', 'a,b']\nexpires = 2030-01-31"
        )) + &key(
            "name = 'reader'\nkey_file = '/run/key'\nscopes = ['read']\nexpires = '2030-01-31T12:00:00+02:00'",
        );
        let inline = format!(
            "auth_keys = [{{ name = 'orders', hash = '{}', scopes = ['publish', 'tokens'], channels = ['user-*', 'a,b'], expires = '2030-01-31' }},\n\
             {{ name = 'reader', key_file = '/run/key', scopes = ['read'], expires = 2030-01-31T12:00:00+02:00 }}]",
            HASH.to_uppercase().replace("SHA256", "sha256")
        );
        for text in [tables, inline] {
            let config = load_text(&text).unwrap();
            let [orders, reader] = &config.auth_keys[..] else { panic!("{text}") };
            assert_eq!((orders.name.as_str(), reader.name.as_str()), ("orders", "reader"));
            assert_eq!(orders.held, Held::Hash(KeyHash::of(b"Hello World!")));
            assert_eq!(reader.held, Held::File("/run/key".into()));
            assert!(orders.scopes.allow(Scope::Tokens) && !orders.scopes.allow(Scope::Read));
            let channels: Vec<_> = orders.channels.as_ref().unwrap().iter().collect();
            assert_eq!(channels, ["user-*", "a,b"], "a comma belongs to the name");
            assert_eq!(reader.channels.as_ref().map(ChannelPatterns::show), None);
            assert_eq!(orders.expires.as_ref().unwrap().unix_millis(), 1_896_048_000_000);
            assert_eq!(reader.expires.as_ref().unwrap().unix_millis(), 1_896_084_000_000);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        check(
            &key(""),
            &[
                "c.toml:1:1: the auth key has neither `hash` nor `key_file`; `channelapi key create` makes a key and its hash",
                "c.toml:1:1: the auth key has no `name`; give it one for the logs, such as name = \"orders\"",
                "c.toml:1:1: the auth key has no `scopes`; say what it may do, such as scopes = [\"publish\", \"tokens\"]",
            ],
        );
        check(
            &key(&format!("name = 'a'\nscopes = ['read']\nhash = '{HASH}'\nkey_file = '/k'")),
            &["c.toml:1:1: the auth key has both `hash` and `key_file`; remove one of them"],
        );
    }

    #[test]
    fn what_is_wrong_is_named_once_and_in_its_place() {
        for (line, expected) in [
            (
                "name = 'a b'",
                "2:8: auth_keys.name: `a b` is not a name; write letters, digits, dots, dashes and underscores",
            ),
            (
                "name = 'auth_key'",
                "2:8: auth_keys.name: `auth_key` is the name of the option; choose another",
            ),
            (
                "name = 7",
                "2:8: auth_keys.name is a number, but must be a string; write it in quotes: name = \"orders\"",
            ),
            (
                "scopes = ['write']",
                "2:10: auth_keys.scopes: `write` is not a scope; write publish / read / tokens / admin",
            ),
            (
                "scopes = []",
                "2:10: auth_keys.scopes: the list is empty, so the key could do nothing; write publish / read / tokens / admin",
            ),
            (
                "scopes = 'read'",
                "2:10: auth_keys.scopes is a string, but must be a list; write it in brackets: scopes = [\"read\"]",
            ),
            (
                "hash = 'md5:0'",
                "2:8: auth_keys.hash: it is not the hash of a key; `channelapi key hash` prints it, as sha256: and 64 hexadecimal digits",
            ),
            (
                "channels = []",
                "2:12: auth_keys.channels: the list holds nothing, or an empty pattern, and so no channel; write patterns, such as user-*, or leave it out for every channel",
            ),
            (
                "channels = ['']",
                "2:12: auth_keys.channels: the list holds nothing, or an empty pattern, and so no channel; write patterns, such as user-*, or leave it out for every channel",
            ),
            (
                "channels = ['a', '']",
                "2:12: auth_keys.channels: the pattern is empty; write one, such as user-*, or * for all channels",
            ),
            (
                "expires = '1h'",
                "2:11: auth_keys.expires: `1h` is not a point in time; write a date and time with Z or an offset, such as 2030-01-31T12:00:00Z, or a date, such as 2030-01-31",
            ),
        ] {
            let name = line.split(' ').next().unwrap();
            let others: Vec<String> =
                [("name", "'n'"), ("scopes", "['read']"), ("hash", &format!("'{HASH}'"))]
                    .iter()
                    .filter(|(other, _)| *other != name)
                    .map(|(name, value)| format!("{name} = {value}"))
                    .collect();
            let text = key(&format!("{line}\n{}", others.join("\n")));
            let problems = load_text(&text).unwrap_err();
            assert_eq!(problems, [format!("c.toml:{expected}")], "{text}");
        }
    }

    #[test]
    fn a_key_that_was_written_into_the_list_is_sent_elsewhere_and_not_quoted() {
        let problems = load_text(&key("name = 'a'\nscopes = ['read']\nkey = 'hunter2'")).unwrap_err();
        assert_eq!(
            problems[0],
            "c.toml:4:1: unknown key `key` in [[auth_keys]]; write `hash`, which `channelapi key hash` makes of a key, or name a file with `key_file`"
        );
        for text in [
            "[[auth_keys]]\nkey = 'hunter2",
            "[[auth_keys]]\nkey = hunter2",
            "auth_keys = [\n{ name = 'a', key = 'hunter2 },\n]",
            "[[auth_keys]]\nhash = 'hunter2'\nname = 'a'\nscopes = ['read']",
        ] {
            let printed = load_text(text).unwrap_err().join("\n");
            assert!(!printed.contains("hunter2"), "{printed}");
        }
    }

    #[test]
    fn every_key_has_a_name_and_a_secret_of_its_own() {
        let one = key(&format!("name = 'a'\nscopes = ['read']\nhash = '{HASH}'"));
        check(
            &(one.clone() + &key("name = 'a'\nscopes = ['read']\nkey_file = '/k'")),
            &[
                "c.toml:6:8: auth_keys.name: `a` is the name of another key (c.toml:2); call this one differently",
            ],
        );
        check(
            &(one.clone() + &one.replace("'a'", "'b'")),
            &[
                "c.toml:8:8: auth_keys.hash: this is the key of `a` (c.toml:4); make one for each, or join their scopes and channels",
            ],
        );
    }

    #[test]
    fn there_can_be_a_hundred_keys() {
        let numbered = |count: usize| {
            (0..count).fold(String::new(), |text, n| {
                text + &key(&format!("name = 'k{n}'\nscopes = ['read']\nkey_file = '/{n}'"))
            })
        };
        assert_eq!(load_text(&numbered(100)).unwrap().auth_keys.len(), 100);
        check(&numbered(101), &["c.toml:401:1: 101 auth keys are too many, the limit is 100"]);
    }
}
