//! What the pages say about API keys.

use std::fmt::Write;

use super::{assignment, comment, list_entry, plain, wrap};
use crate::config::options::{AUTH_KEY_OPTIONS, AUTH_KEYS};

/// The part of the example file, at its end with the other lists.
pub(super) fn example() -> String {
    let mut page = "\n".to_owned();
    wrap(&mut page, &plain(ABOUT));
    let _ = writeln!(page, "\n#[[{AUTH_KEYS}]]");
    for spec in AUTH_KEY_OPTIONS {
        page.push('\n');
        comment(&mut page, &spec.paragraphs());
        if spec.name == "key_file" {
            // Together with a hash it would be a mistake.
            let _ = writeln!(page, "# {}", assignment(spec));
        } else {
            let _ = writeln!(page, "#{}", assignment(spec));
        }
    }
    page
}

/// The chapter of the reference page.
pub(super) fn reference() -> String {
    let mut page =
        format!("\n## {}\n\n{ABOUT}\n\n{ROTATION}\n\n{RULES}\n{SAMPLE}", AUTH_KEY_OPTIONS[0].title);
    for spec in AUTH_KEY_OPTIONS {
        list_entry(&mut page, AUTH_KEYS, spec);
    }
    page
}

const ABOUT: &str = "Keys that may do less than everything, are for some channels only, or end. Any number of them, up to a \
                     hundred, can be valid at once, beside `auth_key` or without it.";

const ROTATION: &str = "To replace a key without a gap, add the new one, reload with SIGHUP, give it to the backends, and remove the \
                        old one, or let it end with `expires`.";

const RULES: &str = "They are written in the file only: there are no flags and no variables for them. A key in a `key_file` is held \
                     to the same rules as `auth_key`; a `hash` is refused if it is that of a publicly known key.";

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
    use crate::config::{document, env, load, scope::Scope};

    #[test]
    fn the_sample_is_valid_and_means_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let toml = SAMPLE.trim().trim_start_matches("```toml").trim_end_matches("```");
        std::fs::write(&path, toml).unwrap();
        let config = load(vec![], Some(&path), env::load([]), &[]).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new());
        let [shop, report] = &config.auth_keys[..] else { panic!("{:?}", config.auth_keys) };
        let scopes =
            |key: &crate::config::auth_keys::AuthKey| Scope::ALL.map(|scope| key.scopes.allow(scope));
        assert_eq!(scopes(shop), [true, false, true, false]);
        assert_eq!(scopes(report), [false, true, false, false]);
        assert!(shop.channels.is_some() && shop.expires.is_none());
        assert!(report.channels.is_none() && report.expires.is_some());
    }

    #[test]
    fn every_key_of_the_list_is_on_every_page() {
        let (example, reference) = (example(), reference());
        for spec in AUTH_KEY_OPTIONS {
            assert!(example.contains(&format!("{} = ", spec.name)), "{example}");
            assert!(reference.contains(&format!("\n### `{}`\n", spec.key)), "{reference}");
        }
        assert!(reference.contains("there are no flags and no variables for them"));
    }

    #[test]
    fn the_example_without_its_comment_signs_is_a_key() {
        let edited: String = example()
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|setting| !setting.starts_with(' ')))
            .fold(String::new(), |text, line| text + line + "\n");
        let contents = document::parse("channelapi.toml", &edited);
        assert_eq!(contents.problems, [], "{edited}");
        let [key] = &contents.auth_keys[..] else { panic!("{edited}") };
        assert_eq!(key.given.len(), AUTH_KEY_OPTIONS.len() - 1, "{edited}");
    }
}
