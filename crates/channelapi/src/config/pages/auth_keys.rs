//! What the pages say about API keys.

use super::list::List;
use crate::config::options::{AUTH_KEY_OPTIONS, AUTH_KEYS};

pub(super) const LIST: List = List {
    name: AUTH_KEYS,
    options: AUTH_KEY_OPTIONS,
    about: &[ABOUT],
    advice: &[ROTATION],
    rules: RULES,
    sample: SAMPLE,
    alternatives: &["key_file"],
};

const ABOUT: &str = "Keys that may do less than everything, are for some channels only, or end. Any number of them, up to a \
                     hundred, can be valid at once, beside `auth_key` or without it.";

const ROTATION: &str = "To replace a key without a gap, add the new one, reload with SIGHUP, give it to the backends, and remove the \
                        old one, or let it end with `expires`.";

const RULES: &str = "A key in a `key_file` is held to the same rules as `auth_key`; a `hash` is refused if it is that of a \
                     publicly known key, or an example of this page.";

const SAMPLE: &str = r#"
```toml
# The shop may publish to its users and give them tokens, and nothing else.
[[auth_keys]]
name = "shop"
hash = "sha256:d9a8cae9b5c37e6e2ec49dbb1fb1e9bd0e57c3b7ba03b6ae3d1c9ba7cc6dfe1f"
scopes = ["publish", "tokens"]
channels = ["user-*"]

# A report that is needed until the end of the year.
[[auth_keys]]
name = "report-2029"
key_file = "/run/secrets/report_key"
scopes = ["read"]
expires = 2030-01-01
```
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{auth_keys::AuthKey, document, pages::list::tests::uncommented, scope::Scope};

    #[test]
    fn the_sample_is_valid_and_means_what_it_says() {
        let config = LIST.sampled();
        let [shop, report] = &config.auth_keys[..] else { panic!("{:?}", config.auth_keys) };
        let scopes = |key: &AuthKey| Scope::ALL.map(|scope| key.scopes.allow(scope));
        assert_eq!(scopes(shop), [true, false, true, false]);
        assert_eq!(scopes(report), [false, true, false, false]);
        assert!(shop.channels.is_some() && shop.expires.is_none());
        assert!(report.channels.is_none() && report.expires.is_some());
    }

    #[test]
    fn every_key_of_the_list_is_on_every_page() {
        LIST.is_on_every_page();
    }

    #[test]
    fn the_example_without_its_comment_signs_is_a_key() {
        let edited = uncommented(&LIST.example());
        let contents = document::parse("channelapi.toml", &edited);
        assert_eq!(contents.problems, [], "{edited}");
        let [key] = &contents.auth_keys[..] else { panic!("{edited}") };
        assert_eq!(key.given.len(), AUTH_KEY_OPTIONS.len() - 1, "{edited}");
    }
}
