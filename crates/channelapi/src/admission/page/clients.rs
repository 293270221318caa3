//! Limits of clients, by whatever transport or door they come.

use super::row::{Row, bytes, fixed, set, time};
use channelapi_core::limits as core;

const PROTOCOL: &str = "`disconnects{protocol_error}`";
const WEBSOCKET: &str = "`disconnects{websocket_error}`";
const IN_TIME: &str = "`disconnects{connect_timeout}`";

/// What becomes of keys when no others can be had.
const JWKS_KEPT: &str = "it is not used; the keys from before are, for a day";

#[allow(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    vec![
        set(
            "Packet of a client, and body of a polling request",
            "socketio.max_payload",
            "WebSocket: closed with 1009; polling: 413, closed",
            "`disconnects{websocket_error}`, `disconnects{protocol_error}`",
        ),
        fixed("Packets of one polling request", core::PACKETS_PER_POST_MAX, "400, closed", PROTOCOL),
        fixed(
            "Packets of one answer to a poll",
            core::PACKETS_PER_POLL_MAX,
            "the next poll gets the others",
            "none: nothing is lost",
        ),
        fixed(
            "Fragments of a WebSocket message",
            usize::from(core::FRAGMENTS_MAX),
            "closed with 1009",
            WEBSOCKET,
        ),
        time(
            "A WebSocket message, from its first byte to its last",
            core::MESSAGE_TIMEOUT,
            "closed",
            IN_TIME,
        ),
        fixed("Attachments of a packet", core::ATTACHMENTS_MAX, "closed", PROTOCOL),
        time("Wait for attachments", core::ATTACHMENTS_TIMEOUT, "closed", IN_TIME),
        set("Time to enter a namespace", "socketio.connect_timeout", "closed", IN_TIME),
        time(
            "Upgrade from polling to WebSocket",
            core::UPGRADE_TIMEOUT,
            "the WebSocket is closed, polling goes on",
            "`upgrades_failed{timeout}`",
        ),
        set("Time to answer a ping", "socketio.ping_timeout", "closed", "`disconnects{ping_timeout}`"),
        set(
            "Events a second of one client",
            "limits.event_rate",
            "disconnected (`41`), does not come back by itself",
            "`disconnects{limit}`",
        ),
        set("of which at once", "limits.event_burst", "as above", "as above"),
        set("Joins a second of one client", "limits.join_rate", "as above", "as above"),
        set("of which at once", "limits.join_burst", "as above", "as above"),
        fixed(
            "Channels of one client",
            core::CHANNELS_PER_CONNECTION_MAX,
            "disconnected (`41`), or `connect_error`",
            "`joins_refused{channels}`",
        ),
        bytes("A token", core::TOKEN_BYTES_MAX, "as one that is not good", "`joins_refused{token}`"),
        fixed(
            "Renewals of tokens that wait for the disk",
            core::TOKEN_RENEWALS_MAX,
            "the token lives no longer than before, until it is used again",
            "`token_renewals_dropped`",
        ),
        bytes(
            "Subject, id and issuer of a JWT",
            core::CLAIM_BYTES_MAX,
            "as one that is not good",
            "`joins_refused{token}`",
        ),
        fixed("Claims of a JWT", core::JWT_CLAIMS_MAX, "as one that is not good", "`joins_refused{token}`"),
        time(
            "How long a JWT lives",
            core::JWT_LIFETIME_MAX,
            "as one that is not good",
            "`joins_refused{token}`",
        ),
        fixed(
            "Keys of an issuer that are tried for a JWT that names none",
            core::JWT_KEYS_TRIED_MAX,
            "as one that is not good",
            "`joins_refused{token}`",
        ),
        fixed(
            "Levels of arrays and objects in a JWT",
            core::JWT_DEPTH_MAX,
            "as one that is not good",
            "`joins_refused{token}`",
        ),
        time(
            "Time that a JWT still opens channels after its end, for clocks that differ",
            core::JWT_LEEWAY,
            "`token_expired`, or disconnected",
            "`joins_refused{expired}`",
        ),
        time(
            "Time that a JWT opens channels before its beginning",
            core::JWT_LEEWAY,
            "`token_not_yet_valid`",
            "`joins_refused{not_yet_valid}`",
        ),
        bytes("A JWKS", core::JWKS_BYTES_MAX, JWKS_KEPT, "`jwks_fetches{failed}`"),
        time("Fetching a JWKS", core::JWKS_TIMEOUT, JWKS_KEPT, "`jwks_fetches{failed}`"),
        fixed("Keys of a JWKS", core::JWKS_KEYS_MAX, JWKS_KEPT, "`jwks_fetches{failed}`"),
        set(
            "Tokens that are not good, a minute of one address",
            "limits.failed_tokens",
            "`connect_error` with `too_many_attempts`; new connections: 429",
            "`joins_refused{token_rate}`, `handshakes_refused{token_rate}`",
        ),
        set(
            "Unknown sessions, a minute of one address",
            "limits.unknown_sessions",
            "429",
            "`handshakes_refused{unknown_session_rate}`",
        ),
        bytes(
            "What the kernel takes for one connection before the network does",
            core::TCP_UNSENT_BYTES_MAX as usize,
            "waits with us, where a ping goes ahead of it",
            "none: nothing is refused",
        ),
        bytes(
            "What waits for one client that is live",
            core::OUTBOX_LIVE_BYTES_MAX,
            "served from history from then on, at its own pace",
            "`catch_ups`",
        ),
        bytes(
            "What waits for one client at all, answers to its own events included",
            core::OUTBOX_BYTES_MAX,
            "closed",
            "`disconnects{slow}`",
        ),
        set(
            "What waits for all clients",
            "limits.slow_clients_memory",
            "the slowest are closed, of the address for which most waits",
            "`disconnects{slow_node}`",
        ),
        (
            "of which answers to polls that are on their way",
            "half; to an address, no more once it has more than it leaves".into(),
            "small ones go, larger ones wait until others are taken",
            "none: nothing is lost",
        ),
        fixed(
            "Confirmations under way",
            core::ACKS_UNDER_WAY_MAX,
            "answered `unavailable`",
            "`acks_refused{unavailable}`",
        ),
    ]
}
