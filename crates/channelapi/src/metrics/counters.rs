//! What is counted where it happens.
//!
//! Invariants:
//! - Nothing is refused, dropped or closed without a counter here that says why.
//! - No label has a value that a client, a publisher or a channel can choose.

use super::declare::{Family, Total};
use channelapi_core::counters::{COUNTERS, Counter};

families! {
    /// Connections that were closed before they could say anything.
    "connections_refused" by "reason" in ConnectionRefused {
        /// There are as many connections as the process has file descriptors for.
        Node = "node",
        /// Their address has as many as `limits.connections_per_address` allows.
        Address = "address",
        /// Their address opened more in a second than `limits.connection_rate` allows.
        AddressRate = "address_rate",
        /// Memory is short, and there are as many as get an answer nevertheless.
        Memory = "memory",
        /// It sent no whole request, and had to make room for others.
        Handshakes = "handshakes",
        /// The process has no file descriptor left, or the kernel watches no further one for it.
        FileDescriptors = "file_descriptors",
        /// The TLS handshake failed or took too long.
        Tls = "tls",
        /// The PROXY header was missing, wrong or not allowed.
        Proxy = "proxy",
    }

    /// HTTP connections that were closed because what came over them is no request.
    "http_refused" by "reason" in HttpRefused {
        /// The head of a request, or the way its body is cut into chunks, breaks the rules of HTTP/1. The head was answered with 400.
        Malformed = "malformed",
        /// The head of a request is larger than 16 KiB, or has more than 100 fields, and was answered with 431 or 414; or the request has a
        /// body of more than a megabyte that nobody wants.
        TooLarge = "too_large",
        /// The client speaks HTTP/2, which nobody has offered to it.
        Http2 = "http2",
        /// What came after the handshake of TLS breaks its rules, or is a part of a record that is too long.
        Tls = "tls",
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

    /// HTTP connections between two requests that were closed in favour of others.
    "http_rests_ended" by "reason" in RestEnded {
        /// Their address needed room for another connection.
        Address = "address",
        /// Memory was short.
        Memory = "memory",
        /// The node had as many connections as it may.
        Node = "node",
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
        /// The JWT is not valid yet.
        NotYetValid = "not_yet_valid",
        /// The JWT has ended.
        Expired = "expired",
        /// The JWT was revoked.
        Revoked = "revoked",
        /// The JWT does not open the channel that was asked for.
        NotGranted = "not_granted",
        /// The address presented too many such tokens.
        TokenRate = "token_rate",
        /// The user has as many connections as `limits.connections_per_user` allows.
        User = "user",
        /// There was no token, or something that is not understood.
        BadRequest = "bad_request",
        /// There is no such namespace.
        Namespace = "namespace",
        /// The client is in as many channels as it may be.
        Channels = "channels",
        /// Memory is short.
        Memory = "memory",
        /// The token could not be looked up.
        Unavailable = "unavailable",
    }

    /// Confirmations of clients that were refused.
    "acks_refused" by "reason" in AckRefused {
        /// It is not understood.
        BadRequest = "bad_request",
        /// The client is not in the channel.
        NotJoined = "not_joined",
        /// The channel has no such offset yet.
        Ahead = "ahead",
        /// The id is of another history than the channel has.
        History = "history",
        /// The channel has too many consumers.
        Consumers = "consumers",
        /// Too many confirmations were under way, or the disk failed.
        Unavailable = "unavailable",
    }

    /// WebSockets that did not take over from polling, and were closed. The session stayed where it was.
    "upgrades_failed" by "reason" in UpgradeFailed {
        /// It did not prove in time that it can.
        Timeout = "timeout",
        /// It sent something else, or was gone before.
        Unproven = "unproven",
        /// The session has one already, or another is about to take over.
        Busy = "busy",
        /// The session ended meanwhile.
        Ended = "ended",
    }

    /// Requests to the HTTP API, to nothing that is here, or to the port that leads to HTTPS, and items of batches, that were refused.
    "requests_refused" by "reason" in RequestRefused {
        /// It carries no API key.
        NoKey = "no_key",
        /// Its API key is not known, or not valid any more.
        WrongKey = "wrong_key",
        /// Its API key is publicly known or too short, and it calls the server by a name that anybody could have made.
        WeakKey = "weak_key",
        /// Its API key lacks the scope.
        Scope = "scope",
        /// Its API key is not for this channel.
        Channel = "channel",
        /// It carries a key in its address, where it ends up in logs.
        Query = "query",
        /// The token or JWT that a stream was asked for with is not good, or is for other channels.
        Token = "token",
        /// The page's origin is not in `http.cors_origins`: it may not read streams, or not with an API key where every page may with a token.
        Origin = "origin",
        /// The address presented too many tokens for streams that are not good.
        TokenRate = "token_rate",
        /// The user has as many connections as `limits.connections_per_user` allows.
        User = "user",
        /// It asks for a stream, and its address has as many clients as `limits.connections_per_address` allows.
        Address = "address",
        /// It asks for a stream, and there are as many clients as `limits.connections` allows.
        Node = "node",
        /// There is no such route, method or thing.
        NotFound = "not_found",
        /// It would have been sent without encryption: the port only leads to HTTPS.
        Plain = "plain",
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
        /// Its channel is new, and what is known of the others takes all of the memory that it may.
        Channels = "channels",
        /// The disk failed, or nobody knows what came of the request.
        Unavailable = "unavailable",
    }

    /// Connections of clients that have ended, and event streams that the server has ended.
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
        /// Its token could not be looked up when it wanted to join: the disk, or where an issuer's keys are, did not answer. It may come back.
        Unavailable = "unavailable",
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
pub(super) static PANICS: Counter = Counter::new();

/// Lines of the log that were lost.
pub(crate) static LOG_LINES_DROPPED: Counter = Counter::new();

/// Connections of clients that were opened.
pub(crate) static OPENED: Counter = Counter::new();

/// Answers that were given up.
pub(crate) static ANSWERS_GIVEN_UP: Counter = Counter::new();

/// Sessions that changed from polling to WebSocket.
pub(crate) static UPGRADED: Counter = Counter::new();

/// Revocations that were made.
pub(crate) static REVOKED: Counter = Counter::new();

/// A client is told that something is missing, by whoever lets it in. The fan-out counts what it tells itself.
pub(crate) fn count_gap() {
    COUNTERS.gaps.count();
}

/// Clients and event streams that were put out because what they were let in with was revoked, or because a publisher wanted it so.
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
    /// Publications kept nowhere that a client lost because it had no room for them, or was served from history meanwhile.
    "volatile_losses" &COUNTERS.volatile_losses;
    /// Times a client was told that something is missing.
    "gaps" &COUNTERS.gaps;
    /// Times a publication was handed out that does not follow the one before it in its channel. Each is a bug worth reporting; the log
    /// names the channel.
    "publications_out_of_order" &COUNTERS.out_of_order;
    /// Publications of histories that were given up early because the log was over `store.max_disk`.
    "publications_given_up" &COUNTERS.given_up;
    /// Publications of channels that are kept in memory only (`durability = "memory"`), and were given up early because those of all such
    /// channels took more memory than they may.
    "memory_publications_given_up" &COUNTERS.given_up_in_memory;
    /// Channels of which nothing was kept but where they stand, and that were forgotten because there were too many, or because a full disk had no
    /// room for where they stand. Clients that come back to one, or to any channel of which nothing is known, with a place from before are told that
    /// something may be missing. A start counts those again of which the log still has a word.
    "channels_forgotten" &COUNTERS.channels_forgotten;
    /// Idempotency keys that were forgotten before their ten minutes were over, because there were more than a million.
    "idempotency_keys_forgotten" &COUNTERS.keys_forgotten;
    /// Renewals of tokens that were not made, because `state.db` could not be written and too many waited. Such a token lives no longer than before.
    "token_renewals_dropped" &COUNTERS.renewals_dropped;
    /// Connections of clients that were opened.
    "connections_opened" &OPENED;
    /// Answers, most of them to polls, that were given up with their connections, because memory was short and their clients did not take them.
    "answers_given_up" &ANSWERS_GIVEN_UP;
    /// Sessions that changed from polling to WebSocket.
    "upgrades" &UPGRADED;
    /// Revocations that were made.
    "revocations" &REVOKED;
    /// Clients and event streams that were put out because their token or JWT was revoked, or by a request to disconnect their channel.
    "clients_revoked" &PUT_OUT;
    /// Panics. Each ends one task, and is a bug worth reporting; the log says more.
    "panics" &PANICS;
    /// Lines of the log that were dropped because standard error was not read fast enough, or could not be written. Of the first kind, the log
    /// says how many, in their place.
    "log_lines_dropped" &LOG_LINES_DROPPED;
}
