//! The proxies in front of the server, whose word about a client's address counts.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::value::{Shape, Value};

/// Proxies that are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// Whether whoever can open our unix socket is one.
    is_unix_trusted: bool,
}

/// What stands for a unix socket in the list.
const UNIX: &str = "unix";

impl TrustedProxies {
    /// Whether a connection from there, or from a unix socket, is a proxy's.
    pub fn names(&self, address: Option<IpAddr>) -> bool {
        match address {
            None => self.is_unix_trusted,
            Some(address) => {
                let address = address.to_canonical();
                self.networks.iter().any(|network| network.contains(&address))
            }
        }
    }
}

impl TrustedProxies {
    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.is_unix_trusted
    }

    /// Whether no other machine is believed.
    pub fn are_here(&self) -> bool {
        self.networks
            .iter()
            .all(|network| network.network().is_loopback() && network.broadcast().is_loopback())
    }
}

impl Value for TrustedProxies {
    const SHAPE: Shape = Shape::List;
    const PLACEHOLDER: &'static str = "PROXIES";
    const ACCEPTS: &'static str = "addresses and networks such as `10.0.0.5` and `10.0.0.0/8`, and `unix` for whoever connects to a unix socket; flags and variables separate them with commas";

    fn parse(text: &str) -> Result<Self, String> {
        let mut proxies = Self { networks: Vec::new(), is_unix_trusted: false };
        if text.trim().is_empty() {
            return Ok(proxies);
        }
        for item in text.split(',').map(str::trim) {
            if item == UNIX {
                proxies.is_unix_trusted = true;
            } else {
                proxies.networks.push(parse_network(item)?);
            }
        }
        Ok(proxies)
    }

    fn show(&self) -> String {
        let unix = self.is_unix_trusted.then(|| UNIX.to_owned());
        let items: Vec<String> = self.networks.iter().map(show_network).chain(unix).collect();
        if items.is_empty() { "(none)".to_owned() } else { items.join(", ") }
    }
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    if text.is_empty() {
        return Err("one of the proxies is empty; check for a comma too many".to_owned());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        let text = text.escape_debug();
        format!("`{text}` is not a proxy; write its address, a network such as 10.0.0.0/8, or unix")
    })?;
    let network = canonical(network);
    if network.prefix_len() == 0 {
        return Err(format!(
            "`{text}` is everybody, and then everybody could pretend to be somebody else; name the proxies alone"
        ));
    }
    if network.trunc() != network {
        let (first, own) = (network.trunc(), network.addr());
        return Err(format!(
            "`{text}` is not a network; write {first} for the network, or {own} for the address"
        ));
    }
    Ok(network)
}

/// A network of IPv4 as such, also if it is written as a part of IPv6: that is how addresses are compared.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let Some(address) = mapped.addr().to_ipv4_mapped() else { return network };
    let length = mapped.prefix_len().checked_sub(MAPPED_PREFIX_LENGTH);
    let of_ipv4 = length.and_then(|length| Ipv4Net::new(address, length).ok());
    of_ipv4.map_or(network, IpNet::V4)
}

/// Bits in front of an address of IPv4 that is written as one of IPv6.
const MAPPED_PREFIX_LENGTH: u8 = 96;

fn show_network(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        return network.addr().to_string();
    }
    network.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_networks_and_sockets_can_be_trusted() {
        let proxies = TrustedProxies::parse("127.0.0.1, 10.0.0.0/8,2001:db8::/32").unwrap();
        assert_eq!(proxies.show(), "127.0.0.1, 10.0.0.0/8, 2001:db8::/32");
        let names = |address: &str| proxies.names(Some(address.parse().unwrap()));
        for named in ["127.0.0.1", "10.255.0.1", "2001:db8::7", "::ffff:10.0.0.1"] {
            assert!(names(named), "{named}");
        }
        for other in ["127.0.0.2", "11.0.0.1", "2001:db9::7", "::1"] {
            assert!(!names(other), "{other}");
        }
        let mapped = TrustedProxies::parse("::ffff:10.0.0.0/104").unwrap();
        assert_eq!(mapped.show(), "10.0.0.0/8");
        assert!(mapped.names(Some(IpAddr::from([10, 255, 0, 1]))));
        assert!(!proxies.names(None), "a unix socket is not named");
        let unix = TrustedProxies::parse("unix").unwrap();
        assert!(unix.names(None) && !unix.names(Some(IpAddr::from([127, 0, 0, 1]))));
        assert_eq!(
            (unix.show().as_str(), TrustedProxies::parse("").unwrap().show().as_str()),
            ("unix", "(none)")
        );
    }

    #[test]
    fn what_names_nobody_or_everybody_is_refused() {
        let check = |text: &str, part: &str| {
            let message = TrustedProxies::parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        };
        check("proxy.example.com", "is not a proxy");
        check("10.0.0.0/33", "is not a proxy");
        check("10.0.0.1:80", "is not a proxy");
        check("10.0.0.1,", "comma too many");
        check("0.0.0.0/0", "everybody");
        check("::/0", "everybody");
        check("::ffff:0.0.0.0/96", "everybody");
        check("10.0.0.5/8", "write 10.0.0.0/8 for the network, or 10.0.0.5 for the address");
    }
}
