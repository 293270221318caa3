//! Where the server can be found, in the words of those who look for it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A port or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A port, with TLS or without.
    Port { address: SocketAddr, is_tls: bool },
    /// The file of a socket.
    Socket(PathBuf),
}

impl Place {
    /// How to open it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Port { address, is_tls: false } => format!("http://{}", reachable(*address)),
            Self::Port { address, is_tls: true } => format!("https://{}", reachable(*address)),
            Self::Socket(path) => format!("unix:{}:", path.display()),
        }
    }

    /// The same as curl takes it.
    pub(crate) fn curl(&self) -> String {
        match self {
            Self::Port { .. } => self.url(),
            Self::Socket(path) => format!("--unix-socket {} http://localhost", path.display()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { address, .. } => address.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that somebody on this machine can open: "everywhere" is no place to go to.
fn reachable(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => format!("localhost:{}", address.port()),
        IpAddr::V4(ip) if ip.is_loopback() => format!("localhost:{}", address.port()),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn links_can_be_opened() {
        for (address, expected) in [
            ("0.0.0.0:8888", "localhost:8888"),
            ("127.0.0.1:80", "localhost:80"),
            ("[::]:8888", "localhost:8888"),
            ("[::1]:8888", "[::1]:8888"),
            ("192.0.2.1:8888", "192.0.2.1:8888"),
        ] {
            assert_eq!(reachable(address.parse().unwrap()), expected);
        }
    }
}
