//! What an authority for certificates is asked for, and where.

use channelapi_core::limits::ACME_DOMAINS_MAX;

use super::value::{Shape, Value, not};

/// Names for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domains(pub Vec<String>);

impl Value for Domains {
    const SHAPE: Shape = Shape::List;
    const PLACEHOLDER: &'static str = "DOMAINS";
    const ACCEPTS: &'static str =
        "names such as `push.example.com`; flags and variables separate them with commas";

    fn parse(text: &str) -> Result<Self, String> {
        let mut domains = Vec::new();
        for item in text.split(',').map(str::trim) {
            let domain = item.trim_end_matches('.').to_ascii_lowercase();
            if !is_domain(&domain) {
                let fix = if item.contains('*') {
                    "a wildcard can only be proven by DNS; list each name"
                } else {
                    "write a name of the DNS, such as push.example.com, international ones as xn--…"
                };
                return Err(not(item, "a domain", fix));
            }
            if domains.contains(&domain) {
                return Err(format!("`{domain}` is there twice; write it once"));
            }
            domains.push(domain);
        }
        if domains.len() > ACME_DOMAINS_MAX {
            return Err(format!(
                "{} are too many for one certificate; write {ACME_DOMAINS_MAX} at most",
                domains.len()
            ));
        }
        Ok(Self(domains))
    }

    fn show(&self) -> String {
        self.0.join(", ")
    }
}

impl Domains {
    /// A name that only an authority of one's own can certify, if there is one: it is none of the public DNS.
    pub fn local(&self) -> Option<&str> {
        let is_local = |domain: &&str| {
            !domain.contains('.')
                || [".localhost", ".local", ".internal"].iter().any(|end| domain.ends_with(end))
        };
        self.0.iter().map(String::as_str).find(is_local)
    }
}

/// No authority certifies addresses as names.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253
        && text.split('.').all(label)
        && text.rsplit('.').next().is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An address for letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(pub String);

impl Value for Email {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "EMAIL";
    const ACCEPTS: &'static str = "an email address";

    fn parse(text: &str) -> Result<Self, String> {
        let is_graphic = text.chars().all(|c| c.is_ascii_graphic() && !"?,;<>".contains(c));
        match text.split_once('@') {
            Some((name, domain))
                if is_graphic && !name.is_empty() && is_domain(&domain.to_ascii_lowercase()) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(not(text, "an email address", "write one, such as admin@example.com")),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// An address of the web that is fetched with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub String);

impl Value for Url {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "URL";
    const ACCEPTS: &'static str = "a URL that begins with `https://`";

    fn parse(text: &str) -> Result<Self, String> {
        let is_https =
            text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
        if is_https && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err(not(text, "a URL with TLS", "write one that begins with https://"))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: Value>(text: &str, expected: Result<&str, &str>) {
        match (T::parse(text), expected) {
            (Ok(value), Ok(shown)) => assert_eq!(value.show(), shown),
            (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
            (Ok(value), Err(_)) => panic!("{text} is taken as {}", value.show()),
            (Err(message), Ok(_)) => panic!("{text}: {message}"),
        }
    }

    #[test]
    fn domains_are_names_that_an_authority_certifies() {
        check::<Domains>("push.example.com", Ok("push.example.com"));
        check::<Domains>("Push.Example.com., a.example", Ok("push.example.com, a.example"));
        check::<Domains>("a.example,b.example,A.example.", Err("`a.example` is there twice"));
        check::<Domains>("xn--bcher-kva.example", Ok("xn--bcher-kva.example"));
        check::<Domains>("*.example.com", Err("list each name"));
        for wrong in [
            "",
            "a..example",
            "-a.example",
            "a_b.example",
            "127.0.0.1",
            "[::1]",
            "a.example:443",
            "https://a",
            "bücher.example",
            "a.example,",
        ] {
            check::<Domains>(wrong, Err("name of the DNS"));
        }
        let many: Vec<String> = (0..101).map(|number| format!("a{number}.example")).collect();
        check::<Domains>(&many.join(","), Err("too many"));
    }

    #[test]
    fn letters_and_directories_have_addresses() {
        check::<Email>("admin@example.com", Ok("admin@example.com"));
        for wrong in ["admin", "@example.com", "a b@example.com", "a@b?subject=x", "a@b@c"] {
            check::<Email>(wrong, Err("an email address"));
        }
        check::<Url>("https://localhost:14000/dir", Ok("https://localhost:14000/dir"));
        for wrong in ["http://ca.example/", "https://", "https:///x", "ca.example", "https://a b"] {
            check::<Url>(wrong, Err("begins with https://"));
        }
    }
}
