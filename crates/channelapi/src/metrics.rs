//! Every metric, declared once: its name, what it means, and where its value is from.
//!
//! Counting is one line where something happens, as `JoinRefused::Token.count()`: one relaxed addition, no lock, nothing to hand down.
//! `docs/metrics.md` is printed from here, and a test fails when it differs.
//!
//! Invariants:
//! - Nothing is refused, dropped or closed without a counter that says why.
//! - No label has a value that a client, a publisher or a channel can choose.

mod page;
mod process;

pub(crate) use page::{CONTENT_TYPE, page};
pub(crate) use process::{max_files, resident_bytes};

use channelapi_core::counters::{COUNTERS, Counter};

/// What the parts of the server say of themselves at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Readings {
    /// Connections of clients.
    pub(crate) connections: u64,
    /// Connections of clients there can be.
    pub(crate) connections_max: u64,
    /// Connections that speak HTTP.
    pub(crate) sockets: u64,
    /// Those of them that have not sent a whole request yet.
    pub(crate) handshakes: u64,
    /// Bytes that wait for clients.
    pub(crate) waiting_bytes: u64,
    /// Bytes of publications that are being stored.
    pub(crate) publishing_bytes: u64,
    /// Memory in use, as far as it counts for `memory_limit`.
    pub(crate) memory_used: u64,
    /// Memory that may be used.
    pub(crate) memory_limit: u64,
    /// Channels that somebody is in.
    pub(crate) channels: u64,
    /// Tasks of the runtime.
    pub(crate) tasks: u64,
    /// Whether the node would answer `/readyz` with yes.
    pub(crate) is_ready: bool,
    /// Bytes of the log.
    pub(crate) store_bytes: u64,
    /// Segments of the log.
    pub(crate) store_segments: u64,
    /// Channels that the log knows.
    pub(crate) store_channels: u64,
    /// When the certificate that is shown ends, in seconds since 1970. None without TLS, and while there is no certificate.
    pub(crate) certificate_end: Option<u64>,
}

/// A group of counters with a reason each.
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    /// The values of the label, and what they mean.
    values: &'static [(&'static str, &'static str)],
    counters: &'static [Counter],
}

/// One number that grows.
pub(crate) struct Total {
    name: &'static str,
    help: &'static str,
    counter: &'static Counter,
}

/// One number that goes up and down, or is read elsewhere.
pub(crate) struct Gauge {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    read: fn(&Readings) -> Option<f64>,
}

/// Declares enums whose variants are counters.
macro_rules! families {
    ($(
        $( #[doc = $help:literal] )+
        $metric:literal by $label:literal in $name:ident {
            $( $( #[doc = $about:literal] )+ $variant:ident = $value:literal, )+
        }
    )+) => {
        $(
            $( #[doc = $help] )+
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            #[allow(dead_code, reason = "some reasons are counted only by what is not built on every system")]
            pub(crate) enum $name { $( $( #[doc = $about] )+ $variant, )+ }

            impl $name {
                const VALUES: &[(&'static str, &'static str)] = &[ $( ($value, concat!($( $about ),+)), )+ ];

                fn counters() -> &'static [Counter] {
                    static COUNTERS: [Counter; $name::VALUES.len()] = [const { Counter::new() }; $name::VALUES.len()];
                    &COUNTERS
                }

                /// Counts one.
                pub(crate) fn count(self) {
                    Self::counters()[self as usize].count();
                }

                /// The word that stands for it in metrics and logs.
                #[allow(dead_code, reason = "not every family is named elsewhere")]
                pub(crate) fn as_str(self) -> &'static str {
                    Self::VALUES[self as usize].0
                }
            }
        )+

        /// All groups, in the order of the page.
        fn families() -> Vec<Family> {
            vec![ $( Family {
                name: concat!("channelapi_", $metric, "_total"),
                help: concat!($( $help ),+),
                label: $label,
                values: $name::VALUES,
                counters: $name::counters(),
            }, )+ ]
        }
    };
}

/// Declares single counters, which are statics here or fields of the core's.
macro_rules! totals {
    ($( $( #[doc = $help:literal] )+ $metric:literal $counter:expr; )+) => {
        /// All single counters, in the order of the page.
        fn totals() -> Vec<Total> {
            vec![ $( Total {
                name: concat!("channelapi_", $metric, "_total"),
                help: concat!($( $help ),+),
                counter: $counter,
            }, )+ ]
        }
    };
}

/// Declares what is read when somebody asks.
macro_rules! gauges {
    ($( $( #[doc = $help:literal] )+ $metric:literal $kind:literal |$now:pat_param| $read:expr; )+) => {
        /// All of them, in the order of the page.
        fn gauges() -> Vec<Gauge> {
            vec![ $( Gauge {
                name: $metric,
                help: concat!($( $help ),+),
                kind: $kind,
                read: |$now| $read,
            }, )+ ]
        }
    };
}

families! {
    /// Connections that were closed before they could say anything.
    "connections_refused" by "reason" in ConnectionRefused {
        /// There are as many connections as the process has file descriptors for.
        Node = "node",
        /// Their address has as many as `limits.connections_per_address` allows.
        Address = "address",
        /// Their address opened more in a second than `limits.connection_rate` allows.
        AddressRate = "address_rate",
        /// It sent no whole request, and had to make room for others.
        Handshakes = "handshakes",
        /// The process has no file descriptor left.
        FileDescriptors = "file_descriptors",
        /// The TLS handshake failed or took too long.
        Tls = "tls",
        /// The PROXY header was missing, wrong or not allowed.
        Proxy = "proxy",
    }

    /// HTTP connections that were closed because what came over them is no request.
    "http_refused" by "reason" in HttpRefused {
        /// The head of a request breaks the rules of HTTP/1. It was answered with 400.
        Malformed = "malformed",
        /// The head of a request is larger than 16 KiB, or has more than 100 fields. It was answered with 431 or 414.
        TooLarge = "too_large",
        /// The client speaks HTTP/2, which nobody has offered to it.
        Http2 = "http2",
    }

    /// HTTP connections that were closed because their client took too long.
    "http_timeouts" by "stage" in HttpTimeout {
        /// The head of a request did not arrive in time.
        Head = "head",
        /// Nothing was asked for a long time. This is the usual end of a kept connection.
        Idle = "idle",
        /// The client did not take its answer.
        Answer = "answer",
        /// The body of a request did not arrive in time.
        Body = "body",
    }

    /// Requests of clients to `/socket.io/` that were refused.
    "handshakes_refused" by "reason" in HandshakeRefused {
        /// It is no valid request of Engine.IO 4 or WebSocket.
        BadRequest = "bad_request",
        /// The page's origin is not in `http.cors_origins`.
        Origin = "origin",
        /// The session is unknown: it has ended, or never was.
        UnknownSession = "unknown_session",
        /// The address asked for too many unknown sessions.
        UnknownSessionRate = "unknown_session_rate",
        /// There are as many connections as `limits.connections` allows.
        Node = "node",
        /// The address has as many as `limits.connections_per_address` allows.
        Address = "address",
        /// The address presented too many tokens that are not good.
        TokenRate = "token_rate",
        /// Memory is short.
        Memory = "memory",
        /// The server is stopping.
        Draining = "draining",
    }

    /// Attempts to enter or to join a channel that were refused.
    "joins_refused" by "reason" in JoinRefused {
        /// The token is unknown, or has died or was revoked, or a JWT is not valid.
        Token = "token",
        /// The JWT has ended.
        Expired = "expired",
        /// The JWT was revoked.
        Revoked = "revoked",
        /// The JWT does not open the channel that was asked for.
        NotGranted = "not_granted",
        /// The address presented too many such tokens.
        TokenRate = "token_rate",
        /// There was no token, or something that is not understood.
        BadRequest = "bad_request",
        /// The client is in as many channels as it may be.
        Channels = "channels",
        /// Memory is short.
        Memory = "memory",
        /// The token could not be looked up.
        Unavailable = "unavailable",
    }

    /// Requests to the HTTP API, and items of batches, that were refused.
    "requests_refused" by "reason" in RequestRefused {
        /// It carries no API key.
        NoKey = "no_key",
        /// Its API key is not known, or not valid any more.
        WrongKey = "wrong_key",
        /// Its API key lacks the scope.
        Scope = "scope",
        /// Its API key is not for this channel.
        Channel = "channel",
        /// It carries a key in its address, where it ends up in logs.
        Query = "query",
        /// The address presented too many tokens for streams that are not good.
        TokenRate = "token_rate",
        /// There is no such route, method or thing.
        NotFound = "not_found",
        /// Something in it is not understood or not allowed.
        Invalid = "invalid",
        /// It is too large.
        TooLarge = "too_large",
        /// Its body did not arrive in time.
        Timeout = "timeout",
        /// It contradicts what is stored, as a used idempotency key does.
        Conflict = "conflict",
        /// The key publishes more than `limits.publish_rate_per_key` allows.
        KeyRate = "key_rate",
        /// The channel gets more than `limits.publish_rate_per_channel` allows.
        ChannelRate = "channel_rate",
        /// Too much waits for the disk or for the subscribers.
        Overloaded = "overloaded",
        /// Memory is short.
        Memory = "memory",
        /// The disk is full.
        StorageFull = "storage_full",
        /// The disk failed, or nobody knows what came of the request.
        Unavailable = "unavailable",
    }

    /// Connections of clients that have ended.
    "disconnects" by "reason" in Disconnected {
        /// The client said goodbye.
        Client = "client",
        /// The network did.
        Lost = "lost",
        /// A ping stayed without an answer.
        PingTimeout = "ping_timeout",
        /// The client did not read what was sent to it.
        Slow = "slow",
        /// All clients together read so little of what was sent to them that the slowest had to go.
        SlowNode = "slow_node",
        /// Memory was short, and much waited for this client.
        Memory = "memory",
        /// The client was here again, with another connection.
        Replaced = "replaced",
        /// The server was stopping.
        Drain = "drain",
        /// The client entered no namespace, or did not finish what it began, in time.
        ConnectTimeout = "connect_timeout",
        /// The client broke the rules of Engine.IO or Socket.IO.
        Protocol = "protocol_error",
        /// The client broke the rules of WebSocket, or a limit of it.
        WebSocket = "websocket_error",
        /// The client sent more events or joins than `limits.event_rate` or `limits.join_rate` allows.
        Limit = "limit",
        /// What the client was let in with has expired.
        Expired = "expired",
        /// What the client was let in with was revoked.
        Revoked = "revoked",
    }

    /// Events of clients.
    "events" by "event" in EventReceived {
        /// `join_channel`.
        Join = "join_channel",
        /// `ack`.
        Ack = "ack",
        /// `auth`.
        Auth = "auth",
        /// One that means nothing here. It was ignored.
        Unknown = "unknown",
    }

    /// Clients that came back with what they were told when they were here before.
    "resumes" by "result" in Resumed {
        /// Nothing was missing.
        Complete = "complete",
        /// Something was missing, and the client was told so.
        Gap = "gap",
    }

    /// Fetches of an issuer's public keys.
    "jwks_fetches" by "result" in JwksFetched {
        /// There were keys in the answer.
        Fetched = "fetched",
        /// There was no answer, or none that can be used. The keys from before are used for a day.
        Failed = "failed",
    }

    /// Times the files of the certificate were found changed.
    "certificate_reloads" by "result" in CertificateReloaded {
        /// New connections get the new certificate.
        Shown = "shown",
        /// The files hold none that can be used, or cannot be read. The certificate from before stays.
        /// Files that cannot be read count each time that they are looked at.
        Failed = "failed",
    }

    /// Certificates that were asked of an authority.
    "certificate_orders" by "result" in CertificateOrdered {
        /// It gave one, and new connections get it.
        Issued = "issued",
        /// It gave none. It is asked again later; the log says when, and why.
        Failed = "failed",
    }

    /// Things that cannot be, and were. Each is a bug worth reporting; the log says more.
    "invariant_violations" by "invariant" in InvariantViolated {
        /// An upgraded connection was not the kind of socket that was accepted.
        UpgradedSocket = "upgraded_socket",
    }
}

/// Panics in this process.
static PANICS: Counter = Counter::new();

/// Connections of clients that were opened.
pub(crate) static OPENED: Counter = Counter::new();

/// Sessions that changed from polling to WebSocket.
pub(crate) static UPGRADED: Counter = Counter::new();

/// Revocations that were made.
pub(crate) static REVOKED: Counter = Counter::new();

/// Connections and event streams that were ended because what they were let in with was revoked.
pub(crate) static PUT_OUT: Counter = Counter::new();

totals! {
    /// Publications that were stored, or sent without being stored.
    "publications" &COUNTERS.publications;
    /// Requests that repeated a publication under its idempotency key, and stored nothing.
    "publication_repeats" &COUNTERS.repeats;
    /// Publications handed to clients and event streams, once for each.
    "deliveries" &COUNTERS.deliveries;
    /// Bytes of these, with what the protocol adds.
    "delivered_bytes" &COUNTERS.delivered_bytes;
    /// Times a client had no room for what came live, and was served from history from then on.
    "catch_ups" &COUNTERS.catch_ups;
    /// Publications kept nowhere that a client lost because it had no room for them.
    "volatile_losses" &COUNTERS.volatile_losses;
    /// Times a client was told that something is missing.
    "gaps" &COUNTERS.gaps;
    /// Connections of clients that were opened.
    "connections_opened" &OPENED;
    /// Sessions that changed from polling to WebSocket.
    "upgrades" &UPGRADED;
    /// Revocations that were made.
    "revocations" &REVOKED;
    /// Clients that were put out because their JWT was revoked.
    "clients_revoked" &PUT_OUT;
    /// Panics. Each ends one task, and is a bug worth reporting; the log says more.
    "panics" &PANICS;
}

gauges! {
    /// Connections of clients.
    "channelapi_connections" "gauge" |now| Some(float(now.connections));
    /// Connections of clients there can be: `limits.connections`, or what the file descriptors allow.
    "channelapi_connections_max" "gauge" |now| Some(float(now.connections_max));
    /// Connections that speak HTTP, those of publishers and of polling clients.
    "channelapi_http_connections" "gauge" |now| Some(float(now.sockets));
    /// Connections that have not sent a whole request yet; `limits.handshakes` says how many of them can be silent, and how many can be in
    /// the middle of one.
    "channelapi_handshakes" "gauge" |now| Some(float(now.handshakes));
    /// Bytes that wait for clients that do not read fast enough; `limits.slow_clients_memory` says how many there can be.
    "channelapi_waiting_bytes" "gauge" |now| Some(float(now.waiting_bytes));
    /// Bytes of publications that are being stored.
    "channelapi_publishing_bytes" "gauge" |now| Some(float(now.publishing_bytes));
    /// Memory in use, as far as it counts for the limit: of the container, or of the process.
    "channelapi_memory_used_bytes" "gauge" |now| Some(float(now.memory_used));
    /// Memory that may be used: `limits.memory`, or the limit of the container or the machine.
    "channelapi_memory_limit_bytes" "gauge" |now| Some(float(now.memory_limit));
    /// Channels that somebody is in.
    "channelapi_channels" "gauge" |now| Some(float(now.channels));
    /// Tasks of the runtime: a few for the server, and one or more for each connection.
    "channelapi_tasks" "gauge" |now| Some(float(now.tasks));
    /// Whether `/readyz` says yes.
    "channelapi_ready" "gauge" |now| Some(f64::from(u8::from(now.is_ready)));
    /// Bytes of the log on disk.
    "channelapi_store_bytes" "gauge" |now| Some(float(now.store_bytes));
    /// Segments of the log.
    "channelapi_store_segments" "gauge" |now| Some(float(now.store_segments));
    /// Channels that the log knows, also those of which nothing is kept but where they stand.
    "channelapi_store_channels" "gauge" |now| Some(float(now.store_channels));
    /// When the certificate that new connections get ends, in seconds since 1970. Missing without TLS, and until there is one.
    "channelapi_certificate_end_time_seconds" "gauge" |now| now.certificate_end.map(float);
    /// Memory of the process.
    "process_resident_memory_bytes" "gauge" |_| resident_bytes().map(float);
    /// Open file descriptors.
    "process_open_fds" "gauge" |_| process::open_files().map(float);
    /// File descriptors there can be.
    "process_max_fds" "gauge" |_| max_files().map(float);
    /// Processor time of the process.
    "process_cpu_seconds_total" "counter" |_| process::cpu_seconds();
    /// When the process was started, in seconds since 1970.
    "process_start_time_seconds" "gauge" |_| process::start_seconds();
}

/// The name and help text of the metric that tells which program this is; its value is always 1.
const BUILD_INFO: (&str, &str) = ("channelapi_build_info", "Which version this is; the value says nothing.");

/// Metrics are floating-point numbers; above 2^53 they are rounded.
#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn float(number: u64) -> f64 {
    number as f64
}

/// Counts panics from now on, beside saying them as before.
pub(crate) fn count_panics() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.count();
        say(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn what_is_counted_is_shown() {
        let before = JoinRefused::counters()[JoinRefused::Channels as usize].value();
        JoinRefused::Channels.count();
        let line = format!("channelapi_joins_refused_total{{reason=\"channels\"}} {}\n", before + 1);
        assert!(page(&Readings::default()).contains(&line), "{line}");
        assert_eq!(JoinRefused::Channels.as_str(), "channels");
    }

    /// Whether it stands for itself as a name and between quotes.
    fn is_plain(text: &str) -> bool {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    }

    #[test]
    fn names_are_unique_and_say_their_unit() {
        let mut names = HashSet::new();
        let all = families().into_iter().map(|family| (family.name, family.help, true));
        let all = all.chain(totals().into_iter().map(|total| (total.name, total.help, true)));
        let gauges = gauges().into_iter().map(|gauge| (gauge.name, gauge.help, gauge.kind == "counter"));
        for (name, help, is_counter) in all.chain(gauges) {
            assert!(names.insert(name), "{name} is there twice");
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(help.trim().ends_with('.') && help.len() > 10, "{name}: {help}");
            assert!(is_plain(name) && !help.contains(['\n', '\\']), "{name} would have to be escaped");
        }
        for family in families() {
            assert!(family.values.iter().all(|(value, _)| is_plain(value)) && is_plain(family.label));
            let values: HashSet<_> = family.values.iter().map(|(value, _)| value).collect();
            assert_eq!(values.len(), family.values.len(), "{}", family.name);
        }
    }

    #[test]
    fn a_panic_counts_and_is_still_said() {
        let before = PANICS.value();
        count_panics();
        _ = std::thread::spawn(|| panic!("on purpose")).join();
        assert!(PANICS.value() > before);
    }
}
