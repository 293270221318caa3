//! Who sent a request, as far as limits per address care.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A client out there, at this address: its own, or the one that a trusted proxy gave.
    Stranger(IpAddr),
    /// This machine, its private network, a unix socket, or a trusted proxy on its own behalf. It may stand for many clients, so
    /// no limit per address holds for it.
    Neighbour,
}

impl Peer {
    /// The address under which limits count it. Whoever has one address of IPv6 has all of its /64.
    pub(crate) fn counted_as(self) -> Option<IpAddr> {
        match self {
            Self::Neighbour => None,
            Self::Stranger(IpAddr::V4(address)) => Some(address.into()),
            Self::Stranger(IpAddr::V6(address)) => {
                Some(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into())
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger(address) => address.fmt(f),
            Self::Neighbour => f.write_str("neighbour"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let counted = |address: &str| Peer::Stranger(address.parse().unwrap()).counted_as().unwrap();
        assert_eq!(counted("203.0.113.7"), counted("203.0.113.7"));
        assert_ne!(counted("203.0.113.7"), counted("203.0.113.8"));
        assert_eq!(counted("2001:db8:1:2::1"), counted("2001:db8:1:2:ffff::9"));
        assert_ne!(counted("2001:db8:1:2::1"), counted("2001:db8:1:3::1"));
        assert_eq!(Peer::Neighbour.counted_as(), None);
    }
}
