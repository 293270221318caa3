//! Which web pages may use the server from a browser.
//!
//! Invariant: entries are stored exactly as a browser writes them in `Origin` (lower case, no default port, no
//! path), so that a comparison of bytes is the whole check and no pattern can be tricked.

use super::value::{Shape, Value};

/// The origins that browsers may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// `*`: every page. Safe, because credentials are explicit tokens and never cookies.
    Any,
    /// Only pages from these.
    Only(Vec<String>),
}

impl Origins {
    /// Whether a browser that sent this `Origin` header is welcome.
    pub fn allows(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Only(list) => list.iter().any(|allowed| allowed.as_bytes() == origin),
        }
    }
}

impl Value for Origins {
    const SHAPE: Shape = Shape::List;
    const PLACEHOLDER: &'static str = "ORIGINS";
    const ACCEPTS: &'static str =
        "`*`, or origins such as `https://app.example.com`; flags and variables separate them with commas";

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::Only(Vec::new()));
        }
        let items: Vec<&str> = text.split(',').map(str::trim).collect();
        if items == ["*"] {
            return Ok(Self::Any);
        }
        if items.contains(&"*") {
            return Err("`*` already allows every origin; write it alone, or leave it out".to_owned());
        }
        items.into_iter().map(parse_origin).collect::<Result<_, _>>().map(Self::Only)
    }

    fn show(&self) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Only(list) if list.is_empty() => "(none)".to_owned(),
            Self::Only(list) => list.join(", "),
        }
    }
}

fn parse_origin(text: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("`{}` is not an origin: {why}", text.escape_debug()));
    // What sandboxed frames and pages opened from a file send.
    if text == "null" {
        return Ok(text.to_owned());
    }
    if text.is_empty() {
        return Err("one of the origins is empty; check for a comma too many".to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let Some((scheme, host)) = lower.split_once("://") else {
        return refuse(&format!("the scheme is missing; write https://{lower}"));
    };
    if host.contains('*') {
        return refuse("patterns are not supported; list each origin, or allow every one with *");
    }
    if let Some((host, _)) = host.split_once(['/', '?', '#']) {
        return refuse(&format!("browsers send no path; write {scheme}://{host}"));
    }
    if host.contains('@') {
        return refuse("browsers send no user name; leave it out");
    }
    if !host.is_ascii() {
        return refuse("browsers send international names in their ASCII form; write it as xn--…");
    }
    let (name, port) = split_port(host);
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let name_fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if !(scheme_fits && name_fits && port_fits) {
        return refuse(
            "write it as a browser does, such as https://app.example.com or http://localhost:3000",
        );
    }
    Ok(match (scheme, port) {
        ("http", Some("80")) | ("https", Some("443")) | (_, None) => format!("{scheme}://{name}"),
        (_, Some(port)) => format!("{scheme}://{name}:{port}"),
    })
}

/// Splits `host:port`, leaving the colons of `[::1]` alone.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        match (Origins::parse(text), expected) {
            (Ok(origins), Ok(shown)) => assert_eq!(origins.show(), shown),
            (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
            (got, want) => panic!("{text}: {got:?}, wanted {want:?}"),
        }
    }

    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        check("*", Ok("*"));
        check("", Ok("(none)"));
        check("HTTPS://App.Example.com", Ok("https://app.example.com"));
        check("https://a.example:443, http://b.example:80", Ok("https://a.example, http://b.example"));
        check("http://localhost:3000,http://[::1]:3000", Ok("http://localhost:3000, http://[::1]:3000"));
        check("http://[::1]", Ok("http://[::1]"));
        check("capacitor://localhost,null", Ok("capacitor://localhost, null"));
    }

    #[test]
    fn origins_no_browser_sends_are_refused_with_the_right_spelling() {
        check("app.example.com", Err("write https://app.example.com"));
        check("https://a.example/", Err("write https://a.example"));
        check("https://a.example/path", Err("browsers send no path"));
        check("https://*.example.com", Err("patterns are not supported"));
        check("https://a.example,*", Err("write it alone"));
        check("https://a.example,", Err("comma too many"));
        check("https://me@a.example", Err("no user name"));
        check("https://bücher.example", Err("xn--"));
        for wrong in ["https://", "https://a:0", "https://a:99999", "https://a b", "1x://a", "https://:80"] {
            check(wrong, Err("write it as a browser does"));
        }
    }

    #[test]
    fn only_the_exact_origin_is_allowed() {
        let origins = Origins::parse("https://good.com").unwrap();
        assert!(origins.allows(b"https://good.com"));
        for evil in [
            "https://good.com.evil.com",
            "https://evilgood.com",
            "http://good.com",
            "https://good.com:8443",
            "null",
            "",
        ] {
            assert!(!origins.allows(evil.as_bytes()), "{evil}");
        }
        assert!(Origins::Any.allows(b"https://anything.example"));
        assert!(!Origins::parse("").unwrap().allows(b"https://good.com"));
    }
}
