//! Where the server is, and the key it is asked with.

use std::{fmt, net::IpAddr, path::PathBuf};

use hyper::{Uri, http::uri::Authority};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::secret::Secret;

/// The server to talk to, and how to be let in.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is.
    pub server: ServerUrl,
    /// Where its Socket.IO clients connect: elsewhere if the API has a port of its own.
    pub clients: ServerUrl,
    /// The key, if one was found.
    pub key: Option<Secret>,
    /// Where the key is from, or where all it was looked for.
    pub about_key: String,
    /// The certificates to trust instead of those of the system, where the server speaks TLS.
    pub ca_file: Option<PathBuf>,
    /// What looked like a mistake on the way.
    pub warnings: Vec<String>,
}

/// The address of a server: `https://host:port` or `http://host:port`, perhaps with a path that a proxy has put it under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Whether it speaks TLS.
    is_secure: bool,
    authority: Authority,
    /// Without a slash at its end.
    prefix: String,
}

/// Everything that could mean something in a URL, dots included: a channel may be called `..`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

impl ServerUrl {
    /// Reads what somebody typed. The address that Socket.IO clients are given does, too: `wss://` means `https://`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let example = "write it as http://127.0.0.1:8888";
        let Some((scheme, rest)) = text.split_once("://") else {
            let guess = format!("http://{text}");
            let guess = if Self::parse(&guess).is_ok() { guess } else { "http://127.0.0.1:8888".to_owned() };
            return Err(format!("`{text}` has no scheme; write it as {guess}"));
        };
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(format!("`{text}` is no address of a server; {example}")),
        };
        let uri: Uri =
            format!("http://{rest}").parse().map_err(|error| format!("`{text}`: {error}; {example}"))?;
        if uri.query().is_some() {
            return Err(format!("`{text}` has a query, the address of a server has none; {example}"));
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).cloned();
        let authority = authority.ok_or_else(|| format!("`{text}` names no host; {example}"))?;
        if authority.as_str().contains('@') {
            return Err("the address contains a user name; give the key with --key instead".to_owned());
        }
        if authority.as_str() != authority.host() && authority.port_u16().is_none() {
            return Err(format!("`{text}` has a port that is none; {example}"));
        }
        Ok(Self { is_secure, authority, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// The server that these settings start, seen from the same machine. `None` if its port is not known before.
    pub fn of_settings(address: IpAddr, port: u16, is_secure: bool) -> Option<Self> {
        let scheme = if is_secure { "https" } else { "http" };
        let host = match address {
            IpAddr::V4(address) if address.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(address) if address.is_unspecified() => "[::1]".to_owned(),
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        if port == 0 { None } else { Self::parse(&format!("{scheme}://{host}:{port}")).ok() }
    }

    /// Whether this is the machine we are on.
    pub fn is_this_machine(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Whether it speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// The host, as name lookups want it.
    pub(super) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.is_secure { 443 } else { 80 })
    }

    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// The path of a thing of the API.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// The path of something of a channel, whose name is one segment whatever it contains.
    pub(super) fn channel_path(&self, channel: &str, rest: &str) -> String {
        self.path(&format!("/v1/channels/{}{rest}", segment(channel)))
    }
}

/// Text as one piece of a path or of a query.
pub(super) fn segment(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, SEGMENT)
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, shown: &str, host: &str, port: u16) {
        let url = ServerUrl::parse(text).unwrap();
        assert_eq!((url.to_string().as_str(), url.host(), url.port()), (shown, host, port), "{text}");
    }

    #[track_caller]
    fn refuses(text: &str, part: &str) {
        let error = ServerUrl::parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }

    #[test]
    fn addresses_read_as_written() {
        reads("http://127.0.0.1:8888", "http://127.0.0.1:8888", "127.0.0.1", 8888);
        reads("http://push.example/", "http://push.example", "push.example", 80);
        reads("HTTP://push.example/a/b/", "http://push.example/a/b", "push.example", 80);
        reads("http://[::1]:80", "http://[::1]:80", "::1", 80);
        reads("https://push.example", "https://push.example", "push.example", 443);
        reads("HTTPS://push.example:8443/a/", "https://push.example:8443/a", "push.example", 8443);
        reads("wss://push.example", "https://push.example", "push.example", 443);
        reads("ws://push.example", "http://push.example", "push.example", 80);
    }

    #[test]
    fn what_is_no_address_is_answered_with_one() {
        refuses("localhost:9000", "write it as http://localhost:9000");
        refuses("127.0.0.1", "write it as http://127.0.0.1");
        refuses("", "write it as http://127.0.0.1:8888");
        refuses("ftp://a", "is no address of a server");
        refuses("http://", "write it as");
        refuses("http://a:99999", "write it as");
        refuses("http://u:p@a", "contains a user name");
        refuses("http://a/?b=c", "has a query");
    }

    #[test]
    fn a_channel_is_one_segment_of_the_path() {
        let url = ServerUrl::parse("http://a/push").unwrap();
        for (channel, path) in [
            ("demo-1_x", "/push/v1/channels/demo-1_x/messages"),
            ("a/b?c#d e", "/push/v1/channels/a%2Fb%3Fc%23d%20e/messages"),
            ("..", "/push/v1/channels/%2E%2E/messages"),
            ("ü", "/push/v1/channels/%C3%BC/messages"),
        ] {
            assert_eq!(url.channel_path(channel, "/messages"), path);
        }
    }

    #[test]
    fn the_server_of_the_settings_is_asked_where_it_can_be_reached() {
        for (address, port, is_secure, expected) in [
            ("0.0.0.0", 8888, false, Some("http://127.0.0.1:8888")),
            ("::", 1, false, Some("http://[::1]:1")),
            ("10.0.0.7", 80, false, Some("http://10.0.0.7:80")),
            ("0.0.0.0", 443, true, Some("https://127.0.0.1:443")),
            ("127.0.0.1", 0, false, None),
        ] {
            let url = ServerUrl::of_settings(address.parse().unwrap(), port, is_secure);
            assert_eq!(url.map(|url| url.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (url, here) in [
            ("http://localhost", true),
            ("http://127.0.0.9", true),
            ("http://[::1]:1", true),
            ("http://a", false),
        ] {
            assert_eq!(ServerUrl::parse(url).unwrap().is_this_machine(), here, "{url}");
        }
    }
}
