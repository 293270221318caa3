//! `docs/limits.md`: every limit that somebody outside can meet, with its value from where it is enforced.

mod clients;
mod connections;
mod http;
mod row;

use std::fmt::Write as _;

fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for (title, rows) in
        [("Connections", connections::rows()), ("HTTP", http::rows()), ("Clients", clients::rows())]
    {
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
    for (what, _, _, counter) in connections::rows().into_iter().chain(http::rows()).chain(clients::rows()) {
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
