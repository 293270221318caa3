//! What the pages say about issuers of JWTs.

use std::fmt::Write;

use super::{assignment, comment, list_entry, plain, wrap};
use crate::config::options::{JWT, JWT_OPTIONS};

/// Where keys can be; together they would be a mistake. The first stands for them in the example.
const SOURCES: [&str; 5] = ["jwks_url", "secret", "secret_file", "public_key_file", "jwks_file"];

/// The part of the example file, at its end with the other lists.
pub(super) fn example() -> String {
    let mut page = "\n".to_owned();
    wrap(&mut page, &plain(ABOUT));
    let _ = writeln!(page, "\n#[[{JWT}]]");
    for spec in JWT_OPTIONS {
        page.push('\n');
        comment(&mut page, &spec.paragraphs());
        let space = if SOURCES[1..].contains(&spec.name) { " " } else { "" };
        let _ = writeln!(page, "#{space}{}", assignment(spec));
    }
    page
}

/// The chapter of the reference page.
pub(super) fn reference() -> String {
    let mut page = format!("\n## {}\n\n{ABOUT}\n\n{RULES}\n{SAMPLE}", JWT_OPTIONS[0].title);
    for spec in JWT_OPTIONS {
        list_entry(&mut page, JWT, spec);
    }
    page
}

const ABOUT: &str = "JWTs let clients into channels, beside the tokens that the server gives out itself. Each `[[jwt]]` is one who \
                     issues them, with where its keys are and what it may open.";

const RULES: &str = "They are written in the file only: there are no flags and no variables for them. A JWT must have `exp`, not more \
                     than 366 days away; `nbf` and `iat` are held to, with ten seconds for clocks that differ. \
                     [clients.md](clients.md#jwt) says what else is in one, and `channelapi jwt verify` why one is not taken.";

const SAMPLE: &str = r#"
```toml
# The company's login, for the application that calls itself push.
[[jwt]]
issuer = "https://login.example.com"
audience = ["push"]
jwks_url = "https://login.example.com/.well-known/jwks.json"

# The shop's own backend: only for its users, and all channels of one at once.
[[jwt]]
issuer = "shop"
secret_file = "/run/secrets/shop_jwt"
grants = ["shop:*"]
allow_patterns = true
```
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::jwt::KeySource;
    use crate::config::{document, env, load};

    #[test]
    fn the_sample_is_valid_and_means_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let toml = SAMPLE.trim().trim_start_matches("```toml").trim_end_matches("```");
        std::fs::write(&path, toml).unwrap();
        let config = load(vec![], Some(&path), env::load([]), &[]).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new());
        let [login, shop] = &config.jwt[..] else { panic!("{:?}", config.jwt) };
        assert!(matches!(login.keys, KeySource::JwksUrl { .. }) && !login.allow_patterns);
        assert!(matches!(shop.keys, KeySource::SecretFile(_)) && shop.allow_patterns);
    }

    #[test]
    fn every_key_of_the_list_is_on_every_page() {
        let (example, reference) = (example(), reference());
        for spec in JWT_OPTIONS {
            assert!(example.contains(&format!("{} = ", spec.name)), "{example}");
            assert!(reference.contains(&format!("\n### `{}`\n", spec.key)), "{reference}");
        }
    }

    #[test]
    fn the_example_without_its_comment_signs_is_an_issuer() {
        let edited: String = example()
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|setting| !setting.starts_with(' ')))
            .fold(String::new(), |text, line| text + line + "\n");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, &edited).unwrap();
        let config = load(vec![], Some(&path), env::load([]), &[]);
        assert_eq!(
            config.map(|config| config.jwt.len()).map_err(|rejected| rejected.problems),
            Ok(1),
            "{edited}"
        );
        assert_eq!(document::parse("c.toml", &edited).issuers[0].given.len(), JWT_OPTIONS.len() - 4);
    }
}
