//! Finds out who sent a request: whoever connected, or whom a trusted proxy says it speaks for.
//!
//! Invariant: what a client can write into a request never changes who it is. `X-Forwarded-For` and the PROXY protocol
//! count only on connections of proxies that the operator named.

use crate::config::proxies::TrustedProxies;
use crate::http::{Headers, Peer};
use hyper::header::HeaderName;
use std::net::{IpAddr, SocketAddr};
use std::sync::Once;
use tracing::warn;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// From the client itself.
    Direct(Peer),
    /// From a trusted proxy. Each of its requests says for whom.
    Proxied,
    /// From a trusted proxy that was to say for whom it is and names nobody. It counts as the proxy itself; what its requests say may be the
    /// words of a client.
    Unannounced,
}

impl Arrival {
    /// A connection from `address`, or from a unix socket.
    pub(super) fn of(address: Option<IpAddr>, trusted: Option<&TrustedProxies>) -> Self {
        if trusted.is_some_and(|trusted| trusted.names(address)) {
            return Self::Proxied;
        }
        let stranger = address.map(|address| address.to_canonical()).filter(|address| !is_near(*address));
        Self::Direct(stranger.map_or(Peer::Neighbour, Peer::Stranger))
    }

    /// A connection for which a trusted proxy gave the address of its client.
    pub(super) fn announced(client: IpAddr, trusted: Option<&TrustedProxies>) -> Self {
        if trusted.is_some_and(|trusted| trusted.names(Some(client))) {
            return Self::Proxied;
        }
        Self::Direct(Peer::Stranger(client.to_canonical()))
    }

    /// The address that the connection itself counts for.
    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Direct(peer) => peer.counted_as(),
            Self::Proxied | Self::Unannounced => None,
        }
    }

    /// Who sent a request on it.
    pub(super) fn peer(self, headers: &impl Headers, trusted: Option<&TrustedProxies>) -> Peer {
        match (self, trusted) {
            (Self::Direct(peer), _) => {
                if peer == Peer::Neighbour && headers.has(&X_FORWARDED_FOR) {
                    warn_once();
                }
                peer
            }
            (Self::Proxied, Some(trusted)) => forwarded(headers, trusted),
            (Self::Proxied, None) => Peer::Neighbour,
            (Self::Unannounced, _) => Peer::Proxy,
        }
    }
}

/// Says that limits per address do not hold for the clients of a proxy that is not named.
fn warn_once() {
    static WARNING: Once = Once::new();
    WARNING.call_once(|| {
        warn!("a proxy speaks for its clients but is not among http.trusted_proxies: they share no limit per address");
    });
}

/// Each proxy adds the address that it sees at the end. So the list is read backwards, past the proxies that are trusted, to
/// the first address that is not one of theirs; what stands before that is only what somebody claims.
fn forwarded(headers: &impl Headers, trusted: &TrustedProxies) -> Peer {
    let lines = headers.all(&X_FORWARDED_FOR).rev();
    let items = lines.flat_map(|line| line.rsplit(|byte| *byte == b','));
    for item in items {
        match parse_address(item) {
            Some(address) if trusted.names(Some(address)) => {}
            Some(address) => return Peer::Stranger(address),
            None => break,
        }
    }
    Peer::Proxy
}

/// An address as proxies write it; some add the port.
fn parse_address(item: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(item).ok()?.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address: Option<IpAddr> = text.parse().ok();
    address.or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

/// Whether an address is on this machine or in a private network.
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value as _;
    use hyper::HeaderMap;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn stranger(address: &str) -> Peer {
        Peer::Stranger(address.parse().unwrap())
    }

    fn peer(trusted: &str, from: &str, forwarded: &[&str]) -> Peer {
        let trusted = TrustedProxies::parse(trusted).unwrap();
        let from = (from != "unix").then(|| from.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(X_FORWARDED_FOR.clone(), HeaderValue::from_str(line).unwrap());
        }
        Arrival::of(from, Some(&trusted)).peer(&headers, Some(&trusted))
    }

    #[test]
    fn whoever_is_near_and_not_named_is_a_neighbour() {
        for near in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "unix",
        ] {
            assert_eq!(peer("", near, &["203.0.113.7"]), Peer::Neighbour, "{near}");
        }
        for far in ["203.0.113.7", "100.64.0.1", "172.32.0.1", "2001:db8::1"] {
            assert_eq!(peer("", far, &["10.0.0.1"]), stranger(far));
        }
        assert_eq!(peer("", "::ffff:203.0.113.7", &[]), stranger("203.0.113.7"));
    }

    #[test]
    fn a_proxy_says_for_whom_it_speaks() {
        let check = |lines: &[&str], expected: Peer| {
            assert_eq!(peer("10.0.0.0/8", "10.0.0.1", lines), expected, "{lines:?}");
        };
        check(&["203.0.113.7"], stranger("203.0.113.7"));
        check(&["2001:db8::7"], stranger("2001:db8::7"));
        check(&["203.0.113.7:4711"], stranger("203.0.113.7"));
        check(&["[2001:db8::7]:4711"], stranger("2001:db8::7"));
        check(&["[2001:db8::7]"], stranger("2001:db8::7"));
        check(&["::ffff:203.0.113.7"], stranger("203.0.113.7"));
        check(&["203.0.113.7, 10.0.0.2, 10.0.0.3"], stranger("203.0.113.7"));
        check(&["203.0.113.7", "10.0.0.2"], stranger("203.0.113.7"));
        // Named as a client by a proxy, a private address counts like any other.
        check(&["192.168.0.9"], stranger("192.168.0.9"));
        // Its own requests.
        check(&[], Peer::Proxy);
        check(&["10.0.0.2"], Peer::Proxy);
        check(&["unknown"], Peer::Proxy);
        assert_eq!(peer("unix", "unix", &["203.0.113.7"]), stranger("203.0.113.7"));
    }

    #[test]
    fn what_a_client_claims_is_not_believed() {
        // In front of what the proxy added.
        for claimed in ["198.51.100.1", "10.0.0.9", "127.0.0.1", "unknown", "", "x\"', ,"] {
            let line = format!("{claimed}, 203.0.113.7");
            assert_eq!(peer("10.0.0.1", "10.0.0.1", &[&line]), stranger("203.0.113.7"), "{line}");
            assert_eq!(peer("10.0.0.1", "10.0.0.1", &[claimed, "203.0.113.7"]), stranger("203.0.113.7"));
        }
        // Without a proxy.
        assert_eq!(peer("10.0.0.1", "203.0.113.7", &["198.51.100.1"]), stranger("203.0.113.7"));
        assert_eq!(peer("203.0.113.8", "203.0.113.7", &["198.51.100.1"]), stranger("203.0.113.7"));
    }

    #[test]
    fn an_announced_client_counts_wherever_it_is() {
        let trusted = TrustedProxies::parse("10.0.0.1, 10.0.0.2").unwrap();
        let announced = |client: &str| Arrival::announced(client.parse().unwrap(), Some(&trusted));
        assert_eq!(announced("203.0.113.7"), Arrival::Direct(stranger("203.0.113.7")));
        assert_eq!(announced("192.168.0.9"), Arrival::Direct(stranger("192.168.0.9")));
        assert_eq!(announced("10.0.0.2"), Arrival::Proxied, "a chain of two");
    }

    /// Once, its header was believed, which a client had written.
    #[test]
    fn where_a_proxy_announces_nobody_nothing_else_does() {
        let trusted = TrustedProxies::parse("10.0.0.1").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(&X_FORWARDED_FOR, HeaderValue::from_static("203.0.113.7"));
        assert_eq!(Arrival::Proxied.peer(&headers, Some(&trusted)), stranger("203.0.113.7"));
        assert_eq!(Arrival::Unannounced.peer(&headers, Some(&trusted)), Peer::Proxy);
        assert_eq!(Arrival::Unannounced.address(), None);
    }

    /// Lines as clients may write them: words that mean something to us, in any order, and bytes that mean nothing.
    fn claims() -> impl Strategy<Value = Vec<HeaderValue>> {
        let words =
            ["10.0.0.1", "198.51.100.1", "::1", "[2001:db8::1]:80", "unknown", "unix", ",", " ", "\t", "\""];
        let word = prop_oneof![
            prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..8),
        ];
        let line = prop::collection::vec(word, 0..6).prop_map(|words| words.concat());
        let line = line.prop_filter_map("no header holds it", |line| HeaderValue::from_bytes(&line).ok());
        prop::collection::vec(line, 0..4)
    }

    proptest! {
        /// The proxy adds what it sees to the last line, or sends a line of its own; so does another one that is trusted, in front of us.
        #[test]
        fn nothing_that_a_client_writes_changes_who_it_is(claims in claims(), adds: bool, is_chain: bool) {
            let mut lines = claims;
            for seen in ["203.0.113.7"].into_iter().chain(is_chain.then_some("10.0.0.2")) {
                let claimed = if adds { lines.pop() } else { None };
                let line = claimed.map_or(seen.as_bytes().to_vec(), |line| [line.as_bytes(), b", ", seen.as_bytes()].concat());
                lines.push(HeaderValue::from_bytes(&line).unwrap());
            }
            let trusted = TrustedProxies::parse("10.0.0.0/8").unwrap();
            let headers: HeaderMap = lines.into_iter().map(|line| (X_FORWARDED_FOR.clone(), line)).collect();
            prop_assert_eq!(Arrival::Proxied.peer(&headers, Some(&trusted)), stranger("203.0.113.7"));
        }
    }
}
