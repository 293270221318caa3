//! What the server says when it is ready: where it is, and what to try first.

use crate::config::Config;
use crate::config::keys::{KeyOrigin, ResolvedKey};
use crate::logging::is_for_people;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tracing::info;

/// Tells people with a banner on standard output, and logs with one line.
pub(crate) fn announce(config: &Config, key: &ResolvedKey, address: SocketAddr, started: Duration) {
    if is_for_people(config.log.format) {
        print!("{}", text(config, key, address, started));
    }
    let started_ms = u64::try_from(started.as_millis()).unwrap_or(u64::MAX);
    let version = env!("CARGO_PKG_VERSION");
    info!(%address, version, data_dir = %config.data_dir.display(), started_ms, "ready");
}

fn text(config: &Config, key: &ResolvedKey, address: SocketAddr, started: Duration) -> String {
    let url = format!("http://{}", reachable(address));
    let data_dir = config.data_dir.display();
    let key_line = match &key.origin {
        KeyOrigin::Configured => "as configured".to_owned(),
        KeyOrigin::Generated(path) => format!("generated, in {}", path.display()),
        KeyOrigin::Stored(path) => format!("in {}", path.display()),
    };
    let key_value = match &key.origin {
        KeyOrigin::Configured => "$CHANNELAPI_AUTH_KEY".to_owned(),
        KeyOrigin::Generated(path) | KeyOrigin::Stored(path) => format!("$(cat {})", path.display()),
    };
    let mut text = String::new();
    let lines = [
        format!("ChannelAPI {}   ready in {} ms", env!("CARGO_PKG_VERSION"), started.as_millis()),
        format!("├─ Page       {url}/   (send and receive a first message)"),
        format!("├─ Socket.IO  {url}/socket.io/   (Engine.IO 4: websocket and polling)"),
        format!("├─ HTTP API   {url}/channel/NAME   {url}/message/NAME"),
        format!("├─ Data       {data_dir}   (tokens; back it up)"),
        format!("├─ Key        {key_line}"),
        format!("└─ Try        curl -X POST {url}/channel/demo -H \"Authorization: {key_value}\""),
    ];
    for line in lines {
        writeln!(text, "{line}").expect("memory takes everything");
    }
    text
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
