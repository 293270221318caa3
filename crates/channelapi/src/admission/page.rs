//! `docs/limits.md`: every limit that somebody outside can meet, with its value from where it is enforced.

mod row;

use channelapi_core::limits as core;
use row::{Row, bytes, fixed, set, time};
use std::fmt::Write as _;

const PROTOCOL: &str = "`disconnects{protocol_error}`";
const WEBSOCKET: &str = "`disconnects{websocket_error}`";
const IN_TIME: &str = "`disconnects{connect_timeout}`";

fn connections() -> Vec<Row> {
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

#[allow(clippy::too_many_lines, reason = "a table")]
fn http() -> Vec<Row> {
    vec![
        time("Head of a request", core::HTTP_HEADER_TIMEOUT, "closed", "`http_timeouts{head}`"),
        time(
            "Body of a request",
            core::HTTP_BODY_TIMEOUT,
            "408; each 16 KiB that have arrived give it another second",
            "`http_timeouts{body}`",
        ),
        time("Silence between two requests", core::HTTP_IDLE_TIMEOUT, "closed", "`http_timeouts{idle}`"),
        time(
            "An answer of which nothing is taken",
            core::HTTP_WRITE_TIMEOUT,
            "closed; whoever takes 1 KiB a second has longer",
            "`http_timeouts{answer}`",
        ),
        time(
            "An event stream of which nothing is taken",
            core::STREAM_STALL_TIMEOUT,
            "closed",
            "`http_timeouts{answer}`",
        ),
        time(
            "Bytes that the network does not confirm",
            core::TCP_USER_TIMEOUT,
            "the kernel closes",
            "`disconnects{lost}`",
        ),
        bytes("Head of a request", core::HTTP_HEADER_BYTES_MAX, "431", "`http_refused{too_large}`"),
        bytes("Path and query of a request", core::HTTP_TARGET_BYTES_MAX, "414", "`http_refused{too_large}`"),
        fixed(
            "Parameters of the query of a request to the API",
            core::QUERY_PARAMETERS_MAX,
            "400",
            "`requests_refused{invalid}`",
        ),
        fixed("Header fields", core::HTTP_HEADERS_MAX, "431", "`http_refused{too_large}`"),
        time(
            "Reading on in the body of a request that is refused or wants none",
            core::HTTP_DISCARD_TIMEOUT,
            "closed behind the answer; so it is after 1 MiB, or 4 MiB for the API",
            "`http_timeouts{body}`, `http_refused{too_large}`, none more if the request is refused",
        ),
        bytes(
            "Body of a request to the API",
            core::API_BODY_BYTES_MAX,
            "413",
            "`requests_refused{too_large}`",
        ),
        bytes("Data of a message", core::DATA_BYTES_MAX, "413", "`requests_refused{too_large}`"),
        fixed("Levels of the data of a message", core::DATA_DEPTH_MAX, "400", "`requests_refused{invalid}`"),
        fixed("Messages of a batch", core::BATCH_ITEMS_MAX, "413", "`requests_refused{too_large}`"),
        fixed("Fields of an object", core::FIELDS_MAX, "400", "`requests_refused{invalid}`"),
        bytes("Name of a channel", core::CHANNEL_NAME_BYTES_MAX, "400", "`requests_refused{invalid}`"),
        bytes("Name of an event", core::EVENT_NAME_BYTES_MAX, "400", "`requests_refused{invalid}`"),
        bytes(
            "Name of a consumer",
            core::CONSUMER_NAME_BYTES_MAX,
            "400",
            "`requests_refused{invalid}`, `acks_refused{bad_request}`, `joins_refused{bad_request}`",
        ),
        bytes("Idempotency key", core::IDEMPOTENCY_KEY_BYTES_MAX, "400", "`requests_refused{invalid}`"),
        fixed(
            "Idempotency keys that are remembered",
            core::IDEMPOTENCY_KEYS_MAX,
            "the oldest are forgotten before their 10 minutes are over",
            "`idempotency_keys_forgotten`",
        ),
        set(
            "Size of the log",
            "store.max_disk",
            "the oldest segment is given up with everything in it; clients that come back for it are told",
            "`publications_given_up`, `gaps`",
        ),
        bytes(
            "Messages that are kept in memory only, of all channels",
            core::MEMORY_HISTORY_BYTES_MAX,
            "the oldest are given up, of whatever channel; clients that come back for them are told",
            "`memory_publications_given_up`, `gaps`",
        ),
        fixed(
            "Channels of which nothing is kept but where they stand",
            core::IDLE_CHANNELS_MAX,
            "the longest idle are forgotten; clients that come back to them are told that something may be missing",
            "`channels_forgotten`, `gaps`",
        ),
        fixed("Messages of a page of history", core::HISTORY_LIMIT_MAX, "400", "`requests_refused{invalid}`"),
        fixed("Revocations", core::REVOCATIONS_MAX, "409", "`requests_refused{conflict}`"),
        set(
            "Messages a second of one key",
            "limits.publish_rate_per_key",
            "429 with `Retry-After`",
            "`requests_refused{key_rate}`",
        ),
        set(
            "Messages a second to one channel",
            "limits.publish_rate_per_channel",
            "429 with `Retry-After`",
            "`requests_refused{channel_rate}`",
        ),
        bytes(
            "Messages that are being stored",
            core::PUBLISHING_BYTES_MAX,
            "503 `overloaded` with `Retry-After`",
            "`requests_refused{overloaded}`",
        ),
        time(
            "Wait for room before the disk or the fan-out",
            core::PUBLISH_ROOM_WAIT,
            "503 `overloaded` with `Retry-After`",
            "`requests_refused{overloaded}`",
        ),
        time(
            "Wait for the disk",
            core::PUBLISH_TIMEOUT,
            "504 `indeterminate`, up to a second later",
            "`requests_refused{unavailable}`",
        ),
        fixed(
            "Consumers of one channel",
            usize::try_from(core::CONSUMERS_PER_CHANNEL_MAX).unwrap_or(0),
            "409, or an answer to `ack`",
            "`requests_refused{conflict}`, `acks_refused{consumers}`",
        ),
    ]
}

/// What becomes of keys when no others can be had.
const JWKS_KEPT: &str = "it is not used; the keys from before are, for a day";

#[allow(clippy::too_many_lines, reason = "a table")]
fn clients() -> Vec<Row> {
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

fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for (title, rows) in [("Connections", connections()), ("HTTP", http()), ("Clients", clients())] {
        _ = writeln!(
            page,
            "\n## {title}\n\n| Limit | Value | Beyond it | Counted as |\n| --- | --- | --- | --- |"
        );
        for (what, value, happens, counter) in rows {
            _ = writeln!(page, "| {what} | {value} | {happens} | {counter} |");
        }
    }
    page.push_str(CLOSING);
    page
}

const INTRODUCTION: &str = "\
# Limits

This page is printed from the limits themselves.

Whatever somebody outside can make grow has a limit, and whatever is refused is counted with its reason: the names in
the last column are those of [metrics](metrics.md), without `channelapi_` and `_total`. A value with an option behind it
can be set ([configuration](configuration.md)); the others are fixed.

**Why the others are fixed.** What can be set is what depends on who uses a server: how many clients there are and how they come, how much memory and disk there is.

- *Shapes* (names, levels, fields, fragments, parts of a batch or a packet) are what programs may rely on: one that works with one server
  works with all. They are several times what honest clients need, and other limits are counted from them.
- *Deadlines* of heads, bodies, handshakes, upgrades and answers have to fit each other and the heartbeat. No honest client comes near; a longer one would only
  give more time to those who hold connections without using them, and a shorter one would end slow networks.
- *Buffers* are shares of the memory, which `limits.memory` sets: where it is small, they are smaller. Set one by one, they could promise more than there is.
- *Reserves* of the machine (descriptors for the log and for publishers, connections that the kernel keeps) are counted from what it has, so that the server
  stays reachable when it is full.
- *Memories* of the server (revocations, idempotency keys, addresses, positions of consumers) are bounded so that nobody fills the
  memory with them; each is far more than a server needs that is used as it is meant.

**Who counts as an address.** Limits per address are for strangers. They count the address that connects, all of a /64
of IPv6 as one (those of NAT64, `64:ff9b::/96`, as the addresses of IPv4 inside), or the one that a proxy named in `http.trusted_proxies` speaks for. A loopback, private or unix-socket peer
that is not named there is not limited: it is a proxy, a test or a neighbour. So name your proxies, or all their clients
share no limit. What counts HTTP connections (`connections_refused`) knows of a proxy's clients only what the PROXY protocol announces:
a proxy that sends `X-Forwarded-For` has few connections for many clients, and limits how fast they come itself.
";

const CLOSING: &str = "
## What was chosen, and why

- **Joins have a rate of their own**, ten a second, and 128 of them may come at once: a client may be in 128 channels, and must be able to join them all again.
- **Everything else that a client sends counts as an event** but the answer to a ping, also what says nothing. Each confirmation covers everything before it:
  one a second is as good as one a message. Raise `limits.event_rate` for clients that confirm each of many messages.
- **Levels of nesting.** What clients send may be nested 32 levels deep (`disconnects{protocol_error}`). The data of messages comes from whoever holds a
  key and is passed on as it is; it may be nested 128 levels deep. Nothing is read that is in a text, but where the whole argument of `join_channel` is one,
  and of what is in that only texts and numbers.
- **What waits for a client is counted in bytes**, each piece as 128 more than it has, and not in messages: many small ones are joined on their way.
- **A client that takes nothing has no time limit of its own.** The next ping goes before whatever waits here, but not before what the kernel has
  taken, so it is gone when that has no answer in time (`disconnects{ping_timeout}`), or sooner when too much waits for it.
- **A small memory** holds less. Where the server may use fewer than 4 GiB (`limits.memory`, or what the container or the machine has), what
  waits for clients and publications that are kept in memory only get an eighth of it each at most, and a sixteenth each the newest part of the log,
  what is being stored, what waits for the fan-out, what is still to come as a whole, and a segment of the log; there is an idempotency key for each 4 KiB.
- **What is known of channels**, some 400 bytes of each and its name, and 32 bytes of each message that is kept of them, takes a quarter of the memory
  at most (`limits.memory`, or what the container or the machine has). Above it, a message to a channel that is new gets 507 `too_many_channels`,
  and so does a purge of one that is not known (`requests_refused{channels}`); the others go on. Above three quarters of it, channels of which nothing is kept are
  forgotten, the longest idle first, but for a sixteenth of the room, which they keep (`channels_forgotten`). The metrics `channelapi_index_bytes` and
  `channelapi_index_limit_bytes` say how much it is.
- **File descriptors of the log** are kept from clients whether it has them already or not: one for each segment of 64 MiB that `store.max_disk` has room for, so 151 by
  default, but never more than half of all. A log that may become larger needs a higher limit of open files (`LimitNOFILE`).
- **A user** is the `sub` of a JWT together with its issuer. Whoever comes back through the handshake door with its `pid` takes over the place that its former
  connection had. There is no limit unless you set one: only you know how many devices and pages a user has.
- **A client that is told to come back** gets `Retry-After`; stock clients take no notice of it and come back after their
  own delay, which is random and grows. An `EventSource` would take 429 or 503 for its end, and gets 200 and `retry` instead, counted as the same.
- **Clients cannot send anything to each other.** An event that means nothing here is counted and ignored.
";

#[test]
fn the_page_in_the_repository_is_the_one_we_print() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
    if std::env::var_os("PRINT_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let is_same = std::fs::read_to_string(path).unwrap_or_default() == page();
    assert!(
        is_same,
        "docs/limits.md differs; run `PRINT_DOCS=1 cargo test -p channelapi the_page_in_the_repository`"
    );
}

/// The names in the last column are those of metrics, or say why there is none.
#[test]
fn every_limit_says_how_it_is_counted() {
    let metrics = crate::metrics::page(&crate::metrics::Readings::default());
    for (what, _, _, counter) in connections().into_iter().chain(http()).chain(clients()) {
        for part in counter.split(", ") {
            let Some(name) = part.strip_prefix('`').and_then(|part| part.strip_suffix('`')) else {
                assert!(part.starts_with("none") || part == "as above", "{what}: {part}");
                continue;
            };
            let (metric, value) = name.split_once('{').unwrap_or((name, ""));
            let value = value.trim_end_matches('}');
            // A group of counters without its reason says nothing.
            let has_reasons = metrics.contains(&format!("channelapi_{metric}_total{{"));
            assert_eq!(has_reasons, !value.is_empty(), "{what}: {name}");
            let is_there = metrics.lines().any(|line| {
                line.starts_with(&format!("channelapi_{metric}_total"))
                    && (value.is_empty() || line.contains(&format!("=\"{value}\"")))
            });
            assert!(is_there, "{what}: {name}");
        }
    }
}
