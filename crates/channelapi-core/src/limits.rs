//! Every limit of the server, in one place: what the outside can grow has a bound here.
//!
//! Some numbers that look like limits are elsewhere, each beside the only code that it means something to:
//! - The protocol crate stands alone. It is told its limits when it is used, but for those that its formats have: the levels of a client's JSON
//!   (`socketio::DEPTH_MAX`), the bytes of a WebSocket's control frame, the largest number of an acknowledgement. So have the formats of the log,
//!   of positions and of PROXY headers.
//! - Where nothing is refused beyond it, a number is part of how something is done: what one system call, one buffer or one turn takes, how often
//!   something is looked at, what goes the short way and what the long one (`listener/fast_path.rs`).
//! - What makes a key or a secret good is judged in `config/keys/` and `identity/keys.rs`.
//! - The verbs that talk to a server have limits of their own, in `client/` and `cli/`: they protect the one who types.

use std::time::Duration;

mod crowds;
mod log;
mod small_memory;

pub use crowds::*;
pub use log::*;
pub use small_memory::*;

/// Bytes of a channel's name.
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;

/// Bytes of an event's name.
pub const EVENT_NAME_BYTES_MAX: usize = 64;

/// Fields of an object in the body of a request. None of ours has as many, and each is compared with each.
pub const FIELDS_MAX: usize = 32;

/// Bytes of an idempotency key, as a publisher gives it. What a batch makes of it for its items is up to four longer.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Bytes of a consumer's name.
pub const CONSUMER_NAME_BYTES_MAX: usize = 128;

/// Bytes of a text that may be a token at all. Ours have 43; the rest is room for tokens of another kind.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Bytes of the data of one publication.
pub const DATA_BYTES_MAX: usize = 256 * 1024;

/// Levels of nesting of the data of one publication.
pub const DATA_DEPTH_MAX: usize = 128;

/// Bytes of the body of a request to the HTTP API. More than the data, for the JSON around it and white space.
pub const API_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of publications that wait for the fan-out of this node. Above it, publishers wait.
pub const FANOUT_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Subscribers that are served before other tasks get a turn: about a millisecond of system calls.
pub const FANOUT_CHUNK: usize = 256;

/// A fan-out worker lets publications that overlap gather behind a round that took so long.
pub const FANOUT_GATHER_FROM: Duration = Duration::from_millis(2);

/// For which part of the round's time they may.
pub const FANOUT_GATHER_PART: u32 = 16;

/// For how long at most.
pub const FANOUT_GATHER_MAX: Duration = Duration::from_millis(5);

/// Jobs a fan-out worker takes at once. Publications of one channel among them are joined into one write.
pub const FANOUT_BATCH: usize = 128;

/// Bytes that connections of one worker hold together while publications of several channels are handed to them, which leave in one
/// write for each.
pub const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of publications that are joined into one write. Copying more costs more than the system calls it saves.
pub const JOINED_BYTES_MAX: usize = 16 * 1024;

/// Publications from history after which a client is told where it stands, so that a broken connection repeats no more than these.
/// Together with the checkpoint they are as many packets as one poll takes.
pub const CHECKPOINT_INTERVAL: usize = PACKETS_PER_POLL_MAX - 1;

/// Pages of history that are read from disk at once on behalf of connections that catch up.
pub const CATCH_UP_READERS: usize = 4;

/// How long a publisher waits for its answer before it is told that nobody knows.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Publications of one batch.
pub const BATCH_ITEMS_MAX: usize = 1000;

/// Bytes of a batch that are handed to the log at once: one message to many channels is many times its size.
pub const BATCH_CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// Messages of a page of history, unless the reader wants another number.
pub const HISTORY_LIMIT: usize = 100;

/// Messages of a page of history that a reader may want.
pub const HISTORY_LIMIT_MAX: usize = 1000;

/// API keys. Each request is compared with all of them, which takes 10 ns each: with a hundred a microsecond, four times the hash
/// of what it presents.
pub const AUTH_KEYS_MAX: usize = 100;

/// Bytes of an API key. Every request carries it, inside [`HTTP_HEADER_BYTES_MAX`].
pub const AUTH_KEY_BYTES_MAX: usize = 4096;

/// Bytes of the name of an API key.
pub const AUTH_KEY_NAME_BYTES_MAX: usize = 64;

/// Policies. All of them may be looked through for a channel; patterns make do with few.
pub const POLICIES_MAX: usize = 1_000;

/// Bytes of the configuration file: a hundred times any real one, and few enough for a path that is not a file at all.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of a file that a variable names. No key is longer, and a path such as /dev/zero must not be read for ever.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of a file with certificates or a key. In one with all that may stand in it, and text around it, it is not a tenth.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of a file with certificates to trust. All that a system trusts is not a tenth.
pub const CA_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Certificates that are shown in a handshake. Two or three are usual; a bundle of all that a machine trusts has more than a hundred.
pub const CERTIFICATE_CHAIN_MAX: usize = 10;

/// Bytes of them, which leaves 1 KiB for what is around them in a message: clients take none of more than 64 KiB.
pub const CERTIFICATE_CHAIN_BYTES_MAX: usize = 63 * 1024;

/// Bytes of a request's own name for itself.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Bytes of the body of a request to the HTTP API that are read, and thrown away, so that its sender is told why it was refused.
pub const API_DISCARD_BYTES_MAX: usize = 4 * API_BODY_BYTES_MAX;

/// How often a stream without news says that it lives. Proxies usually give up a silent connection after a minute.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(15);

/// What is handed at a time to the connection of a stream or of a long answer, where it is not counted among what waits for clients.
pub const STREAM_PIECE_BYTES: usize = 16 * 1024;

/// How long a stream may not take a single byte, heartbeats included.
pub const STREAM_STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// Channels one connection may join.
pub const CHANNELS_PER_CONNECTION_MAX: usize = 128;

/// Channels that are remembered as left by clients that stay in others, about 50 bytes each.
pub const LEFT_CHANNELS_MAX: usize = 100_000;

/// Bytes that may wait for one connection before it is closed as slow.
/// 100,000 idle connections use none of it; 1,000 stalled ones use 1 GiB at most.
pub const OUTBOX_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that may wait for one connection before it is served from history instead, at its own pace.
pub const OUTBOX_LIVE_BYTES_MAX: usize = 512 * 1024;

/// What one entry of an outbox costs besides its bytes: its slot, and the allocation behind it.
pub const OUTBOX_ENTRY_BYTES: usize = 128;

/// Messages of one client that are handled before others get a turn.
pub const MESSAGES_PER_TURN: usize = 64;

/// Packets in one polling request.
pub const PACKETS_PER_POST_MAX: usize = 256;

/// Packets in the answer to one poll. python-engineio drops a connection whose server sends more at once.
pub const PACKETS_PER_POLL_MAX: usize = 16;

/// Fragments of one WebSocket message. Browsers and Node.js do not fragment what they send at all.
pub const FRAGMENTS_MAX: u16 = 64;

/// How long a WebSocket message may take from its first byte to its last. A client that sends other things meanwhile is closed with
/// the first of them that comes later.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Binary attachments of one Socket.IO packet. Joining and acknowledging need none.
pub const ATTACHMENTS_MAX: usize = 10;

/// How long a packet may wait for its attachments.
pub const ATTACHMENTS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a WebSocket may try to take over from polling.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a poll that arrives during an upgrade is held back, so that the upgrade can overtake it.
pub const PROBED_POLL_WAIT: Duration = Duration::from_millis(50);

/// How soon a poll looks again for room on the way of its answer. Nobody tells when there is some.
pub const POLL_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// How long a close may take on a connection whose peer does not read.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a closed polling session is remembered for the poll that fetches its last packets.
pub const CLOSED_SESSION_LINGER: Duration = Duration::from_secs(5);

/// How long an HTTP connection may say nothing between two requests: longer than the minute after which proxies usually give up
/// theirs, so that they never send a request into a connection that we close.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long to read, and throw away, the body of a request that was refused before it was read.
pub const HTTP_DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the first byte of a connection may take, and then the head of an HTTP request.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the body of an HTTP request may take, beside the time that it earns by arriving.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a body that buy it another second. The largest one may take a minute and a quarter, so that a publisher behind a line of
/// 128 kbit/s gets it through; one that trickles in earns nothing, and holds no more memory than it has sent.
pub const HTTP_BODY_RATE_MIN: u64 = 16 * 1024;

/// Bytes of a body that are copied behind the head of its answer; what is longer stays where it is, and is written from there. A second
/// piece costs the kernel more than copying so few bytes costs us.
pub const ANSWER_COPIED_BYTES_MAX: usize = 1024;

/// Bytes of the head of an HTTP request.
pub const HTTP_HEADER_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the path and the query of an HTTP request.
pub const HTTP_TARGET_BYTES_MAX: usize = 8 * 1024;

/// After about what time, from half of it to one and a half, an `EventSource` asks again that cannot have its stream now. What it is
/// refused for passes in seconds, and each time costs a request; browsers that are told nothing take three to five seconds.
pub const STREAM_RETRY: Duration = Duration::from_secs(5);

/// Parameters of the query of a request to the API: several times as many as any route has.
pub const QUERY_PARAMETERS_MAX: usize = 16;

/// Header fields of an HTTP request.
pub const HTTP_HEADERS_MAX: usize = 100;

/// How long a client may take for the handshake of TLS.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a TLS record, or of the fragments of one handshake message, that are kept until the rest comes. The largest record there
/// can be takes a little over 18 KiB; a client's hello takes two.
pub const TLS_INCOMING_BYTES_MAX: usize = 20 * 1024;

/// Names in a certificate. More than these no authority puts into one.
pub const ACME_DOMAINS_MAX: usize = 100;

/// How long an authority may take for one certificate, with all its names.
pub const ACME_ORDER_TIMEOUT: Duration = Duration::from_mins(5);

/// How long it may take to see the proofs, and again to issue.
pub const ACME_POLL_TIMEOUT: Duration = Duration::from_secs(90);

/// How long to wait before an authority is asked again; each time twice as long.
pub const ACME_RETRY_MIN: Duration = Duration::from_mins(1);

/// The longest wait: an authority lets nobody fail more than a few times an hour.
pub const ACME_RETRY_MAX: Duration = Duration::from_hours(6);

/// How long a trusted proxy may take to say for whom a connection is.
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a binary PROXY header behind its fixed part: addresses take 216 at most, the rest is room for what proxies add.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// How long an HTTP client may take no byte of an answer.
pub const HTTP_WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer that a client must take in a second, on the average, once it has made us wait.
pub const HTTP_WRITE_RATE_MIN: u64 = 1024;

/// How long the network may take to confirm what was sent, before a connection counts as lost.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may be silent before the kernel asks whether the peer is still there, and how often it asks then.
pub const TCP_KEEPALIVE: Duration = Duration::from_mins(1);

/// See [`TCP_KEEPALIVE`].
pub const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes that the kernel takes for a connection before the network does: what is written later waits for us, where a ping may overtake it.
/// Over a line of 64 kbit/s these take two seconds; left to itself the kernel would take megabytes.
pub const TCP_UNSENT_BYTES_MAX: u32 = 16 * 1024;

/// Connections that the kernel keeps for us until we accept them.
pub const ACCEPT_BACKLOG: i32 = 4096;

/// File descriptors that clients never get: one in so many of all there may be, and [`FILES_RESERVE_MIN`] at least.
pub const FILES_RESERVE_FRACTION: usize = 50;

/// The smallest reserve of file descriptors: for the store, the log, and some publishers.
pub const FILES_RESERVE_MIN: usize = 64;

/// Above this part of the memory, in percent, nothing new is taken.
pub const MEMORY_HIGH_PERCENT: u64 = 85;

/// Above this part, what is slow is closed.
pub const MEMORY_CRITICAL_PERCENT: u64 = 95;

/// Below this part, all is well again.
pub const MEMORY_CALM_PERCENT: u64 = 80;

/// Bytes of requests and messages whose rest is still to come, of all connections. Whoever sends more has to come again.
pub const RECEIVING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Of them, all strangers together may fill one in so many, and so may everybody who publishes with one API key.
pub const RECEIVING_ONE_FRACTION: usize = 2;

/// Bytes of one request or message that find room in any case.
pub const RECEIVING_FREE_BYTES: usize = 4 * 1024;

/// Of the bytes that may wait for all clients, one in so many may be on its way. Even of the smallest limit that can be set, it is more than
/// the largest publication.
pub const ON_THEIR_WAY_FRACTION: usize = 2;

/// The longest time between two closes while a node drains, but for chance: with few clients, a stop is soon over.
pub const DRAIN_PACE_MAX: Duration = Duration::from_millis(100);

/// How long a drain may take when the disk has failed: clients should go elsewhere soon.
pub const FENCED_DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the last answers may take to reach the network when everything else is done, and a request that has begun to arrive for its rest.
pub const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Consumers of one channel, whose names clients choose. The ack of one more is refused.
pub const CONSUMERS_PER_CHANNEL_MAX: u64 = 10_000;

/// How often consumers' positions are written, at most: an ack waits this long, while all others join it in one write.
pub const ACK_INTERVAL: Duration = Duration::from_millis(100);

/// Consumers whose acks wait in memory, at most 1 KiB each with the longest names. Acks of others wait before they are looked at.
pub const ACKS_WAITING_MAX: usize = 32_768;

/// How long a consumer is remembered that acknowledges nothing. Afterwards it gets everything again that is kept.
pub const CONSUMER_IDLE_MAX: Duration = Duration::from_hours(90 * 24);

/// How often it is written down that a consumer acknowledges what it had before: it is not idle, and each time would cost a write.
pub const CONSUMER_RENEWAL_STEP: Duration = Duration::from_hours(24);

/// How often idle consumers are looked for.
pub const CONSUMER_PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// How long a token lives after it was made or last used to join, unless somebody chose another time.
pub const TOKEN_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The shortest lifetime of a token that can be chosen.
pub const TOKEN_LIFETIME_MIN: Duration = Duration::from_secs(1);

/// The longest one: ten years.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// A join renews its token on disk only if that adds at least this much, so that reconnecting clients cost no writes. For a
/// token that lives shorter than ten times as long, it is a tenth of its lifetime.
pub const TOKEN_RENEWAL_STEP: Duration = Duration::from_mins(10);

/// How often renewals are written. A `kill -9` costs a token this much of its seven days, never the token.
pub const TOKEN_RENEWAL_INTERVAL: Duration = Duration::from_mins(1);

/// Renewals that wait in memory, about 50 bytes each. Half of them are written early; one that finds no room is not made.
pub const TOKEN_RENEWALS_MAX: usize = 65_536;

/// Tokens kept in memory, about 150 bytes each; the others are read from disk when they join.
pub const TOKEN_CACHE_MAX: usize = 65_536;

/// Bytes of a text in a JWT that is remembered: its subject, its id, its issuer. The longest name that identity providers give anybody
/// is half of that.
pub const CLAIM_BYTES_MAX: usize = 255;

/// Claims of one JWT. Comparing each with each must stay cheap.
pub const JWT_CLAIMS_MAX: usize = 256;

/// Levels of arrays and objects in a JWT.
pub const JWT_DEPTH_MAX: usize = 32;

/// How far the clocks of this machine and of who signs JWTs may be apart.
pub const JWT_LEEWAY: Duration = Duration::from_secs(10);

/// How long before the end of its JWT a client is told to bring a new one. With the grace it has more than half a minute for it.
pub const JWT_NOTICE: Duration = Duration::from_secs(10);

/// How long after the end of its JWT a client that is connected may stay, to bring a new one.
pub const JWT_GRACE: Duration = Duration::from_secs(25);

/// The longest life of a JWT. Revocations are remembered for as long, and then nothing is left that they speak of.
pub const JWT_LIFETIME_MAX: Duration = Duration::from_hours(366 * 24);

/// Entries of `[[jwt]]` in the configuration.
pub const JWT_ISSUERS_MAX: usize = 32;

/// Bytes of a file with a secret, a public key or a JWKS.
pub const KEY_FILE_BYTES_MAX: u64 = 256 * 1024;

/// Bytes of an answer with a JWKS.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the head of such an answer.
pub const JWKS_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Keys of a JWKS. A provider that changes its keys has two or three.
pub const JWKS_KEYS_MAX: usize = 64;

/// Keys that are tried on one JWT: more than one only where a JWKS has several of the same name.
pub const JWT_KEYS_TRIED_MAX: usize = 4;

/// How long fetching a JWKS may take, from the name lookup to the last byte. A client waits for as long at most.
pub const JWKS_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a JWKS is fetched anew. A key that was removed from it is not known any more after twice as long.
pub const JWKS_REFRESH: Duration = Duration::from_mins(5);

/// How soon a JWKS may be fetched again because a JWT names a key that is not in it, or because fetching it failed.
pub const JWKS_PAUSE: Duration = Duration::from_mins(1);

/// How long the keys of a JWKS are used that cannot be fetched any more.
pub const JWKS_STALE_MAX: Duration = Duration::from_hours(24);

/// Revocations that are remembered, in memory and on disk, with at most 1 KiB each and usually a tenth of that. One more is refused.
pub const REVOCATIONS_MAX: usize = 100_000;

/// Revocations of a page, unless somebody wants another number.
pub const REVOCATIONS_LIMIT: usize = 100;

/// Revocations of a page that somebody may want.
pub const REVOCATIONS_LIMIT_MAX: usize = 1000;

/// How often revocations that have served their time are removed.
pub const REVOCATION_PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// Pause between two looks at all connections for what was revoked, so that many revocations at once cost no more than a few looks.
pub const REVOCATION_PAUSE: Duration = Duration::from_millis(200);

/// Connections that are looked at for what was revoked before others get a turn.
pub const REVOCATION_CHUNK: usize = 1024;

/// Confirmations of clients that are answered when they are on disk; more are refused.
pub const ACKS_UNDER_WAY_MAX: usize = 16_384;

/// How often dead tokens are removed from disk.
pub const TOKEN_PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// How long a dead token stays on disk, in case the machine's clock was wrong.
pub const TOKEN_PRUNE_MARGIN: Duration = Duration::from_hours(24);

/// Requests that wait for the state store; more wait before they are queued.
pub const STATE_QUEUE_MAX: usize = 4096;

/// How long the state store waits for a file that somebody else has locked, a backup for instance.
pub const STATE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes that are made durable together.
pub const STATE_BATCH_MAX: usize = 512;

/// How long a publisher waits for room in front of the log, or of the workers of the fan-out, before it is told to come again.
pub const PUBLISH_ROOM_WAIT: Duration = Duration::from_secs(5);

/// Bytes of publications that are being stored at once, with what is known of each. More are refused: a disk that stands still
/// must not fill the memory with what waits for it.
pub const PUBLISHING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Channels of which is remembered how much they got lately, about 300 bytes each with the longest names, while there is a limit
/// for each.
pub const PACED_MAX: usize = 65_536;
