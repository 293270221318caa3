//! The sections of a file that are lists: `[[policy]]`, `[[jwt]]` and `[[auth_keys]]`.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Reader, guess, kind, right_place};
use crate::config::{
    options::{AUTH_KEY_OPTIONS, AUTH_KEYS, JWT, JWT_OPTIONS},
    source::GivenItem,
};

/// How people speak of a list.
pub(super) struct Words {
    /// Its name in the file.
    pub(super) section: &'static str,
    /// One of its items.
    pub(super) one: &'static str,
    /// All of them.
    pub(super) several: &'static str,
}

const ISSUERS: Words = Words { section: JWT, one: "an issuer", several: "issuers" };

const KEYS: Words = Words { section: AUTH_KEYS, one: "an auth key", several: "auth keys" };

impl Reader<'_> {
    /// Hands each table of a list to `take`, with its place.
    pub(super) fn items(
        &mut self,
        words: &Words,
        value: &DeValue<'_>,
        span: Range<usize>,
        mut take: impl FnMut(&mut Self, &DeTable<'_>, Range<usize>),
    ) {
        let Words { section, one, several } = words;
        let DeValue::Array(items) = value else {
            let message = format!(
                "there can be several {several}; write [[{section}]], with two brackets, and its keys below"
            );
            return self.problem(span, message);
        };
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => take(self, table, item.span()),
                other => {
                    let found = kind(other);
                    let message =
                        format!("{one} is a section, not {found}; write [[{section}]] and its keys below");
                    self.problem(item.span(), message);
                }
            }
        }
    }

    pub(super) fn issuers(&mut self, value: &DeValue<'_>, span: Range<usize>) {
        self.items(&ISSUERS, value, span, Self::issuer);
    }

    fn issuer(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        let mut given = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if let Some(spec) = JWT_OPTIONS.iter().find(|spec| spec.name == name) {
                given.extend(self.option(spec, value.get_ref(), value.span()));
            } else {
                let message = format!("unknown key `{name}` in [[{JWT}]]");
                let place = right_place(Some(JWT), name)
                    .unwrap_or_else(|| guess(name, JWT_OPTIONS.iter().map(|spec| spec.name)));
                self.problem(key.span(), message + &place);
            }
        }
        let source = self.place(span.start);
        self.contents.issuers.push(GivenItem { source, given });
    }

    pub(super) fn auth_keys(&mut self, value: &DeValue<'_>, span: Range<usize>) {
        self.items(&KEYS, value, span, Self::auth_key);
    }

    fn auth_key(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        for problem in missing(table) {
            self.problem(span.clone(), problem.to_owned());
        }
        let mut given = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match AUTH_KEY_OPTIONS.iter().find(|spec| spec.name == name) {
                Some(spec) => given.extend(self.option(spec, value.get_ref(), value.span())),
                None => self.problem(key.span(), unknown_key(name)),
            }
        }
        let source = self.place(span.start);
        self.contents.auth_keys.push(GivenItem { source, given });
    }
}

/// What a key lacks, or has too much of.
fn missing(table: &DeTable<'_>) -> Vec<&'static str> {
    let has = |name: &str| table.contains_key(name);
    let mut missing = Vec::new();
    if !has("name") {
        missing.push("the auth key has no `name`; give it one for the logs, such as name = \"orders\"");
    }
    if !has("scopes") {
        missing.push(
            "the auth key has no `scopes`; say what it may do, such as scopes = [\"publish\", \"tokens\"]",
        );
    }
    if has("hash") && has("key_file") {
        missing.push("the auth key has both `hash` and `key_file`; remove one of them");
    }
    // A key that stands there itself is a problem of its own.
    if !has("hash") && !has("key_file") && !BARE.iter().any(|name| has(name)) {
        missing.push("the auth key has neither `hash` nor `key_file`; `channelapi key create` makes a key and its hash");
    }
    missing
}

/// What people call the key itself.
const BARE: [&str; 5] = ["key", "auth_key", "secret", "token", "value"];

fn unknown_key(name: &str) -> String {
    let message = format!("unknown key `{name}` in [[{AUTH_KEYS}]]");
    if BARE.contains(&name) {
        return format!(
            "{message}; write `hash`, which `channelapi key hash` makes of a key, or name a file with `key_file`"
        );
    }
    if let Some(place) = right_place(Some(AUTH_KEYS), name) {
        return message + &place;
    }
    message + &guess(name, AUTH_KEY_OPTIONS.iter().map(|spec| spec.name))
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let problems: Vec<String> =
            parse("channelapi.toml", text).problems.iter().map(ToString::to_string).collect();
        let problems: Vec<_> =
            problems.into_iter().filter(|problem| !problem.contains("the auth key has")).collect();
        assert_eq!(problems, [format!("channelapi.toml:{expected}")], "{text}");
    }

    #[test]
    fn keys_are_a_list() {
        let several =
            "there can be several auth keys; write [[auth_keys]], with two brackets, and its keys below";
        check("[auth_keys]\nname = 'a'", &format!("1:1: {several}"));
        check("auth_keys = 'a'", &format!("1:13: {several}"));
        check(
            "auth_keys = ['hunter2']",
            "1:14: an auth key is a section, not a string; write [[auth_keys]] and its keys below",
        );
        check(
            "auth_key = ['hunter2']",
            "1:12: auth_key is a list, but must be a string; write it in quotes, or several keys below [[auth_keys]]",
        );
        assert_eq!(parse("c", "auth_keys = []").problems, []);
    }

    #[test]
    fn unknown_keys_say_what_was_meant() {
        for (line, expected) in [
            ("scope = ['read']", "did you mean `scopes`?"),
            ("colour = 1", "`channelapi config doc` lists all keys"),
            ("port = 1", "`port` belongs at the top of the file, above the first [section]"),
            ("match = 'a'", "write it below [[policy]], as `match`"),
        ] {
            let name = line.split(' ').next().unwrap();
            check(
                &format!("[[auth_keys]]\n{line}"),
                &format!("2:1: unknown key `{name}` in [[auth_keys]]; {expected}"),
            );
        }
        check(
            "expires = 2030-01-31",
            "1:1: unknown key `expires`; write it below [[auth_keys]], as `expires`",
        );
        check("[[auth_kyes]]", "1:3: unknown key `auth_kyes`; did you mean `auth_keys`?");
    }
}
