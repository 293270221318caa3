//! Who sent a request, as far as limits per address care.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Once;
use tracing::warn;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A client out there, at this address: its own, or the one that a trusted proxy gave.
    Stranger(IpAddr),
    /// This machine, its private network, or a unix socket. It may stand for many clients, so no limit per address holds for it.
    Neighbour,
    /// A trusted proxy that names nobody else, or says that it does not know: on its own behalf, or for clients of whom it does not tell. So no limit holds for it either.
    Proxy,
}

impl Peer {
    /// The address under which limits count it. Whoever has one address of IPv6 has all of its /64, but for those that come from IPv4
    /// by NAT64: they share one /64, and count as what they have there.
    pub(crate) fn counted_as(self) -> Option<IpAddr> {
        match self {
            Self::Neighbour | Self::Proxy => None,
            Self::Stranger(IpAddr::V4(address)) => Some(address.into()),
            Self::Stranger(IpAddr::V6(address)) => Some(match behind_nat64(address) {
                Some(address) => address.into(),
                None => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            }),
        }
    }

    /// The same for what only clients ask for. A proxy that asks for it without a name asks for all of its clients.
    pub(crate) fn counted_as_client(self) -> Option<IpAddr> {
        static WARNING: Once = Once::new();
        if self == Self::Proxy {
            WARNING.call_once(|| {
                warn!(
                    "a proxy among http.trusted_proxies does not say for whom it asks: let it set X-Forwarded-For (with http.proxy_protocol: \
                     its PROXY header) to the address of its client, which must not be among http.trusted_proxies itself; until then \
                     its clients share no limit per address"
                );
            });
        }
        self.counted_as()
    }
}

/// The address of IPv4 inside one of `64:ff9b::/96` (RFC 6052, section 2.1). Nobody is trusted, or taken for a neighbour, by it: who
/// chooses such an address may not have the other.
fn behind_nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, _, _] = address.segments() else { return None };
    let [.., a, b, c, d] = address.octets();
    Some(Ipv4Addr::new(a, b, c, d))
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger(address) => address.fmt(f),
            Self::Neighbour => f.write_str("neighbour"),
            Self::Proxy => f.write_str("proxy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let counted = |address: &str| Peer::Stranger(address.parse().unwrap()).counted_as().unwrap();
        assert_eq!(counted("203.0.113.7"), counted("203.0.113.7"));
        assert_ne!(counted("203.0.113.7"), counted("203.0.113.8"));
        assert_eq!(counted("2001:db8:1:2::1"), counted("2001:db8:1:2:ffff::9"));
        assert_ne!(counted("2001:db8:1:2::1"), counted("2001:db8:1:3::1"));
        assert_eq!([Peer::Neighbour, Peer::Proxy].map(Peer::counted_as), [None, None]);
    }

    /// Once, all of IPv4 was one address behind NAT64.
    #[test]
    fn whoever_comes_by_nat64_counts_as_what_it_is_in_ipv4() {
        let counted = |address: &str| Peer::Stranger(address.parse().unwrap()).counted_as().unwrap();
        assert_eq!(counted("64:ff9b::203.0.113.7"), counted("203.0.113.7"));
        // Even if nothing like it should be on the way, it is a stranger's.
        assert_eq!(counted("64:ff9b::10.0.0.1"), counted("10.0.0.1"));
        for other in ["64:ff9b:1::203.0.113.7", "64:ff9b::1:203.0.113.7", "64:ff9c::203.0.113.7"] {
            assert!(counted(other).is_ipv6(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn an_address_of_ipv4_counts_the_same_whichever_way_it_comes(bits: u32) {
            let direct = IpAddr::V4(Ipv4Addr::from_bits(bits));
            let translated = Ipv6Addr::from_bits(0x64_ff9b << 96 | u128::from(bits));
            prop_assert_eq!(Peer::Stranger(translated.into()).counted_as(), Some(direct));
            prop_assert_eq!(Peer::Stranger(direct).counted_as(), Some(direct));
        }
    }
}
