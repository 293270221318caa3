//! What the server says when it is ready: where it is, what of it is open, and what to try first.

use crate::config::Config;
use crate::config::keys::{KeyOrigin, ResolvedKeys};
use crate::config::origins::Origins;
use crate::config::source::Source;
use crate::listener::Place;
use crate::logging::is_for_people;
use crate::output;
use std::fmt::Write as _;
use std::time::Duration;
use tracing::{info, warn};

/// Where the server listens.
pub(crate) struct Places {
    /// For clients, and for publishers, too, unless they have their own.
    pub(crate) public: Place,
    /// For publishers alone.
    pub(crate) internal: Option<Place>,
    /// Where plain HTTP is led to HTTPS.
    pub(crate) redirect: Option<Place>,
}

/// Tells people with a banner on standard output, and logs with one line.
pub(crate) fn announce(config: &Config, keys: &ResolvedKeys, places: &Places, started: Duration) {
    if is_for_people(config.log.format) {
        // Whoever read it may have gone, which is no reason not to serve.
        _ = output::try_write(&text(config, keys, places, started));
    }
    let started_ms = u64::try_from(started.as_millis()).unwrap_or(u64::MAX);
    let version = env!("CARGO_PKG_VERSION");
    let Places { public: address, internal, redirect } = places;
    let data_dir = config.data_dir.display();
    let [internal, redirect] = [internal, redirect].map(|place| place.as_ref().map(tracing::field::display));
    let key = place_of(keys);
    info!(%address, internal, redirect, version, %data_dir, key, started_ms, "ready");
    if config.is_public() {
        say_what_is_open(config);
    }
    if config.is_internal_open() {
        warn!(
            address = internal,
            "API keys and messages travel unencrypted to the internal listener, and every machine that can reach its address may try \
             keys there: set internal.address to 127.0.0.1, or internal.unix, or see to it that only publishers are in its network"
        );
    }
}

/// Tells whoever runs a server that other machines can reach what of it is open to them.
fn say_what_is_open(config: &Config) {
    match config.http.trusted_proxies.as_ref().filter(|proxies| !proxies.is_empty()) {
        _ if config.has_tls() => {}
        None => warn!(
            "keys, tokens and messages travel unencrypted, and whoever is on the way can use them: set tls.cert or acme.domains, or \
             put a proxy with TLS in front, and name it in http.trusted_proxies"
        ),
        Some(proxies) if proxies.are_here() => warn!(
            "the proxies of http.trusted_proxies are on this machine, but every machine that can reach this port comes past them, \
             unencrypted: set address to 127.0.0.1, or http.unix"
        ),
        Some(_) => info!(
            "whoever comes past the proxies of http.trusted_proxies comes unencrypted: let nobody but them reach this port"
        ),
    }
    if config.internal.port.is_none() && config.internal.unix.is_none() {
        info!(
            "the HTTP API can be reached wherever clients can; internal.port or internal.unix gives it a place of its own; event \
             streams go there with it, and browsers reach them through a proxy only"
        );
    }
    if matches!(config.http.cors_origins, Origins::Any) {
        info!("pages of every origin may connect, with a token; http.cors_origins limits them");
    }
}

/// Where the key is to be found, never what it is.
fn place_of(keys: &ResolvedKeys) -> String {
    let listed = keys.keys.len() - usize::from(keys.origin != KeyOrigin::Listed);
    let place = match &keys.origin {
        KeyOrigin::Configured => "as configured".to_owned(),
        KeyOrigin::Generated(path) => format!("generated, in {}", path.display()),
        KeyOrigin::Stored(path) => format!("in {}", path.display()),
        KeyOrigin::Listed => return format!("{listed} of the configuration file"),
    };
    if listed > 0 { format!("{place}, and {listed} more of the configuration file") } else { place }
}

/// The configured key as a shell puts it in, where a variable says it: whoever started the server from a shell has that there.
fn key_in_variable(config: &Config) -> Option<&'static str> {
    let setting = config.settings.iter().find(|setting| setting.key == "auth_key")?;
    match &setting.source {
        Source::Variable(name) if name == "CHANNELAPI_AUTH_KEY" => Some("$CHANNELAPI_AUTH_KEY"),
        Source::Variable(_) => Some("$(cat $CHANNELAPI_AUTH_KEY_FILE)"),
        _ => None,
    }
}

fn text(config: &Config, keys: &ResolvedKeys, places: &Places, started: Duration) -> String {
    let url = places.public.url();
    let api = places.internal.as_ref().unwrap_or(&places.public);
    let (curl, api) = (api.curl(), api.url());
    let data_dir = config.data_dir.display();
    let key = place_of(keys);
    let key_value = match &keys.origin {
        KeyOrigin::Configured => key_in_variable(config).unwrap_or("<key>").to_owned(),
        KeyOrigin::Listed => "<key>".to_owned(),
        KeyOrigin::Generated(path) | KeyOrigin::Stored(path) => format!("$(cat {})", path.display()),
    };
    let mut text = String::new();
    let lines = [
        format!("ChannelAPI {}   ready in {} ms", env!("CARGO_PKG_VERSION"), started.as_millis()),
        format!("├─ Page       {url}/   (send and receive a first message)"),
        format!("├─ Socket.IO  {url}/socket.io/   (Engine.IO 4: websocket and polling)"),
        format!("├─ HTTP API   {api}/channel/NAME   {api}/message/NAME"),
        format!("├─ Data       {data_dir}   (tokens, messages, keys; back it up)"),
        format!("├─ Key        {key}"),
        format!("└─ Try        curl -X POST {curl}/channel/demo -H \"Authorization: {key_value}\""),
    ];
    let redirect =
        places.redirect.as_ref().map(|place| format!("├─ Redirect   {}   (to HTTPS)", place.url()));
    let (before, after) = lines.split_at(2);
    for line in before.iter().chain(&redirect).chain(after) {
        writeln!(text, "{line}").expect("memory takes everything");
    }
    text
}
