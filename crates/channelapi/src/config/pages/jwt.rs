//! What the pages say about issuers of JWTs.

use super::list::List;
use crate::config::options::{JWT, JWT_OPTIONS};

pub(super) const LIST: List = List {
    name: JWT,
    options: JWT_OPTIONS,
    about: &[ABOUT],
    advice: &[],
    rules: RULES,
    sample: SAMPLE,
    // Where keys can be; `jwks_url` stands for them.
    alternatives: &["secret", "secret_file", "public_key_file", "jwks_file"],
};

const ABOUT: &str = "JWTs let clients into channels, beside the tokens that the server gives out itself. Each `[[jwt]]` is one who \
                     issues them, with where its keys are and what it may open.";

const RULES: &str = "A JWT must have `exp`, not more than 366 days away; `nbf` and `iat` are held to. All three have ten \
                     seconds for clocks that differ: a JWT opens channels for as long after its end. \
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
    use crate::config::document;
    use crate::config::jwt::KeySource;
    use crate::config::pages::list::tests::{loaded, uncommented};

    #[test]
    fn the_sample_is_valid_and_means_what_it_says() {
        let config = LIST.sampled();
        let [login, shop] = &config.jwt[..] else { panic!("{:?}", config.jwt) };
        assert!(matches!(login.keys, KeySource::JwksUrl { .. }) && !login.allow_patterns);
        assert!(matches!(shop.keys, KeySource::SecretFile(_)) && shop.allow_patterns);
    }

    #[test]
    fn every_key_of_the_list_is_on_every_page() {
        LIST.is_on_every_page();
    }

    #[test]
    fn the_example_without_its_comment_signs_is_an_issuer() {
        let edited = uncommented(&LIST.example());
        let config = loaded(&edited);
        assert_eq!(
            config.map(|config| config.jwt.len()).map_err(|rejected| rejected.problems),
            Ok(1),
            "{edited}"
        );
        assert_eq!(document::parse("c.toml", &edited).issuers[0].given.len(), JWT_OPTIONS.len() - 4);
    }
}
