//! Limits of connections, whatever comes over them.

use super::row::{Row, bytes, fixed, set, time};
use channelapi_core::limits as core;

pub(super) fn rows() -> Vec<Row> {
    vec![
        set(
            "Clients of the node, event streams among them",
            "limits.connections",
            "503 with `Retry-After`",
            "`handshakes_refused{node}`, `requests_refused{node}`",
        ),
        (
            "Connections of the node",
            "file descriptors less those of the log, and of the rest less 1 %, at least 32; for strangers less 1.5 %, at least 48".into(),
            "503 with `Retry-After`, closed; strangers' connections between two requests are closed, a part of them and the longest silent first; if there is none and it is no stranger who comes: others that say nothing for 10 s",
            "`connections_refused{node}`, `http_rests_ended{node}`",
        ),
        (
            "File descriptors",
            "those of the process".into(),
            "503 with `Retry-After` through a spare one",
            "`connections_refused{file_descriptors}`",
        ),
        set(
            "Clients of one address, event streams among them",
            "limits.connections_per_address",
            "429 with `Retry-After`",
            "`handshakes_refused{address}`, `requests_refused{address}`",
        ),
        set(
            "HTTP connections of one address",
            "limits.connections_per_address",
            "those between two requests are closed, a part of them and the longest silent first, and there may be one in 16 more until they are; if there is none: 429 with `Retry-After`, closed; with TLS closed",
            "`http_rests_ended{address}`, `connections_refused{address}`",
        ),
        set(
            "Connections and event streams of one user",
            "limits.connections_per_user",
            "`connect_error` with `too_many_connections`, or the answer to `join_channel`; event streams: 429 with `Retry-After`",
            "`joins_refused{user}`, `requests_refused{user}`",
        ),
        set(
            "New connections a second of one address",
            "limits.connection_rate",
            "429 with `Retry-After`, closed; with TLS closed",
            "`connections_refused{address_rate}`",
        ),
        set("of which at once", "limits.connection_burst", "as above", "as above"),
        fixed(
            "Further ones for each of them with which a client opens a session",
            core::FURTHER_CONNECTIONS as usize,
            "they count for the rate",
            "none",
        ),
        set(
            "Connections that have said nothing, and again those without a whole request",
            "limits.handshakes",
            "the oldest of the address with the most is closed; of either kind there are no more than a third of the connections that the node has left for them, and strangers and others are counted apart",
            "`connections_refused{handshakes}`",
        ),
        time("Handshake of TLS", core::TLS_HANDSHAKE_TIMEOUT, "closed", "`connections_refused{tls}`"),
        bytes(
            "Part of a TLS record, or of a handshake, that waits for its rest",
            core::TLS_INCOMING_BYTES_MAX,
            "closed",
            "`connections_refused{tls}`, `http_refused{tls}`, `disconnects{lost}`",
        ),
        time(
            "PROXY header of a trusted proxy",
            core::PROXY_HEADER_TIMEOUT,
            "closed",
            "`connections_refused{proxy}`",
        ),
        bytes("of which what is behind its fixed part", core::PROXY_HEADER_BYTES_MAX, "as above", "as above"),
        fixed(
            "Connections that the kernel keeps waiting",
            usize::try_from(core::ACCEPT_BACKLOG).unwrap_or(0),
            "the kernel lets the client try again",
            "none: the kernel does it",
        ),
        fixed(
            "Addresses remembered without a connection",
            core::ADDRESSES_REMEMBERED_MAX,
            "the others are forgotten, with their rates",
            "none",
        ),
        set(
            "Memory",
            "limits.memory",
            "above 85 %: 503 with `Retry-After`, joins are closed, as are new HTTP connections of strangers while there are 64 besides those of clients that poll (two each) or stream, and those of them that say nothing for `socketio.ping_interval` and 5 s; above 95 %: the slowest are closed, and answers that are not taken, and half of the HTTP connections between two requests",
            "`connections_refused{memory}`, `http_rests_ended{memory}`, `handshakes_refused{memory}`, `joins_refused{memory}`, `requests_refused{memory}`, `disconnects{memory}`, `answers_given_up`",
        ),
        bytes(
            "Requests and messages whose rest is still to come, or that wait for what was sent before them",
            core::RECEIVING_BYTES_MAX,
            "503 `overloaded`; a poll's request gets 503, and its client is closed, as is a WebSocket; 4 KiB always find room. Strangers together, and whoever sends with one API key, may fill half of it",
            "`requests_refused{overloaded}`, `disconnects{memory}`",
        ),
    ]
}
