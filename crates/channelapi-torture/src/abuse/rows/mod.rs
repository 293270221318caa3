//! The attacks, by what they attack.

mod announced;
mod channels;
mod frames;
mod http;
mod joins;
pub(super) mod jwts;
mod limits;
mod origins;
mod packets;
mod polling;
mod secrets;
mod sessions;
mod slow;
mod strangers;
mod tls;

use super::case::Case;

/// On a server as it is started without a word.
pub(super) fn on_default_server() -> Vec<Case> {
    [
        // Those that wait for the server's deadlines begin first.
        slow::cases(),
        sessions::cases(),
        polling::cases(),
        frames::cases(),
        packets::cases(),
        joins::cases(),
        limits::of_clients(),
        channels::cases(),
        http::cases(),
        strangers::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// On a server that lets only some pages connect.
pub(super) fn on_guarded_server() -> Vec<Case> {
    origins::cases()
}

/// On a server that writes down as much as it can.
pub(super) fn on_talkative_server() -> Vec<Case> {
    secrets::cases()
}

pub(super) use secrets::keeps_secrets;

/// Its configuration.
pub(super) fn talkative() -> String {
    secrets::configuration()
}

/// On a server behind a proxy, where an address may do little.
pub(super) fn behind_a_proxy() -> Vec<Case> {
    limits::cases()
}

/// On a server behind a proxy that announces its clients, with issuers of JWTs of all kinds.
pub(super) fn behind_an_announcing_proxy() -> Vec<Case> {
    // Those that wait for the server's deadlines begin first.
    [announced::cases(), jwts::cases()].into_iter().flatten().collect()
}

/// On a server that speaks TLS: what is about that, and once more what is about frames and packets, through it.
pub(super) fn behind_tls() -> Vec<Case> {
    // Those that wait for the server's deadlines begin first.
    [tls::cases(), frames::cases(), packets::cases(), joins::cases()].into_iter().flatten().collect()
}

/// Its configuration.
pub(super) fn announced_and_issued() -> String {
    [announced::CONFIGURATION, &jwts::configuration()].concat()
}

/// The configurations of the two others.
pub(super) const PROXIED: &str = limits::CONFIGURATION;
pub(super) const GUARDED: &str = origins::CONFIGURATION;
