//! Whose name a request calls the server by.

use crate::http::Headers;
use hyper::header::HOST;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Domains that nobody can register: for this machine (RFC 6761 §6.3), for tests (§6.2), for the neighbourhood (RFC 6762 §3, RFC 8375), and
/// for networks of one's own, as ICANN has reserved it.
const PRIVATE_DOMAINS: [&str; 5] = ["localhost", "test", "local", "home.arpa", "internal"];

/// Whether a request calls the server by a name that no stranger can have made: an address, one word, or a name below a domain that
/// nobody can register. A page whose own name was made to lead here (DNS rebinding) is asked for under that name. What is no browser
/// may leave it out.
pub(super) fn is_private(headers: &impl Headers) -> bool {
    headers.all(&HOST).all(|host| std::str::from_utf8(host).is_ok_and(is_private_name))
}

fn is_private_name(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.split_once(']').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_below = |domain: &str| {
        let rest = name.len().checked_sub(domain.len()).and_then(|at| name.split_at_checked(at));
        rest.is_some_and(|(above, last)| last.eq_ignore_ascii_case(domain) && above.ends_with('.'))
    };
    !name.contains('.') || name.parse::<Ipv4Addr>().is_ok() || PRIVATE_DOMAINS.iter().any(|it| is_below(it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderMap, HeaderValue};

    #[test]
    fn names_that_strangers_can_make_are_told_from_those_that_they_cannot() {
        let check = |host: &[u8]| {
            let host = HeaderValue::from_bytes(host).unwrap();
            is_private(&HeaderMap::from_iter([(HOST, host)]))
        };
        for host in [
            "127.0.0.1:3000",
            "192.168.1.7",
            "[::1]:3000",
            "[::1]",
            "localhost",
            "localhost:3000",
            "LOCALHOST.",
            "app.localhost:80",
            "push",
            "push:3000",
            "host.docker.internal:3000",
            "printer.Local",
            "push.home.arpa",
            "",
            ".",
        ] {
            assert!(check(host.as_bytes()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:3000",
            "evil.example.:3000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evillocalhost.example",
            "notlocal.xlocal",
            "127.1",
            "0x7f.0.0.1",
            "[::1.evil.example",
            "[evil.example]",
            "localhost@evil.example",
        ] {
            assert!(!check(host.as_bytes()), "{host}");
        }
        assert!(!check(b"localhost.\xFF"), "no name at all");
        assert!(is_private(&HeaderMap::new()), "no browser");
    }
}
