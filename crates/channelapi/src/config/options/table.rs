//! The options that flags, variables and the file can set. Their order is that of the reference page.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{Spec, declare::first, spec};
use crate::config::{
    acme::{Domains, Email, Url},
    auth_keys::AuthKey,
    jwt::Issuer,
    origins::Origins,
    policy::Policy,
    proxies::TrustedProxies,
    secret::Secret,
    source::{Resolver, Setting},
    units::ByteSize,
    value::{AcmeChallenge, FilePath, LogFormat, LogLevel, StoreDurability},
};

options! {
    "Server" {
        /// Port to listen on.
        ///
        /// `0` takes any free port, which the log names. When neither the flag nor `CHANNELAPI_PORT` is set, plain
        /// `PORT` is used, because many hosting platforms assign the port that way.
        port: u16 = "8888";

        /// Address to listen on.
        ///
        /// `0.0.0.0` is reachable from everywhere, `127.0.0.1` from this machine only, for example behind a proxy
        /// on the same machine.
        address: IpAddr = "0.0.0.0";

        /// Directory that holds everything the server must remember.
        ///
        /// It is created if it is missing. Back it up, and give each server a directory of its own.
        data_dir: PathBuf = "./data";

        /// Key that backends present in the Authorization header.
        ///
        /// Without one, a key is generated on the first start and kept in `auth_key` inside the data directory,
        /// readable by its owner alone. Keys that are publicly known or shorter than 16 bytes are refused, except
        /// with `debug`, or where only this machine can reach the HTTP API: on a loopback address or a unix socket,
        /// without `http.trusted_proxies` unless the API has its own listener (`[internal]`). A weak key counts only in
        /// requests whose `Host` nobody can have made to lead here: an address, one word such as `localhost`, or a name below
        /// `localhost`, `test`, `local`, `home.arpa` or `internal`.
        ///
        /// Prefer `CHANNELAPI_AUTH_KEY_FILE` or `CHANNELAPI_AUTH_KEY`: a flag can be read in the list of processes
        /// by every user of the machine.
        ///
        /// This key may do everything. Others, which may do less, are a list: see [API keys](#api-keys). With that list and
        /// without `auth_key`, none is generated, and only the list counts: a key that was generated before lets nobody in any
        /// more, unless `CHANNELAPI_AUTH_KEY_FILE` or a `key_file` of the list names it.
        auth_key: Option<Secret>;

        /// Development mode: log more, and tolerate a weak key.
        ///
        /// Unless they are set themselves, `log.level` becomes `debug` and `log.format` becomes `pretty`. A weak
        /// key is then a warning instead of a refusal; requests without the key are refused as ever. Debuggers may attach, and
        /// a crash may leave a core, which without this option the server forbids.
        debug: bool = "false";
    }

    /// What HTTP clients, browsers above all, may do.
    "HTTP" http: Http {
        /// Origins whose pages may connect from a browser.
        ///
        /// The default allows every page, which is safe because credentials are explicit tokens and never cookies.
        /// A page that connects with `withCredentials: true` needs its origin in a list, because browsers do not
        /// accept "every page" together with credentials.
        ///
        /// A list is enforced on WebSocket and polling alike, also for the server's own page at `/`: to try that out, name the address
        /// at which it is opened, such as `https://push.example.com`. `[]` is no page at all. Clients that are not browsers send no
        /// origin and are not affected.
        cors_origins: Origins = "*";

        /// Unix socket to listen on, instead of `address` and `port`.
        ///
        /// For a proxy on the same machine. The file is created with permissions for its owner and group, and removed at the
        /// end; one that a killed server left behind is replaced.
        unix: Option<FilePath>, like "/run/channelapi/public.sock";

        /// Proxies that are believed when they say for whom a request is.
        ///
        /// Limits per address count whoever connects. When that is one of these, they count the last address in
        /// `X-Forwarded-For` that is not one of these instead. Without this option the header means nothing, as anybody
        /// can send it.
        trusted_proxies: Option<TrustedProxies>, like "127.0.0.1,10.0.0.0/8";

        /// Whether the trusted proxies begin each connection with a PROXY header, version 1 or 2.
        ///
        /// Then a connection of theirs without one is closed, on `tls.redirect_port` as well. From everybody else such a header is a
        /// malformed request.
        proxy_protocol: bool = "false";
    }

    /// A listener of its own for publishers.
    "Internal listener" internal: Internal {
        /// Port where publishers are served, and nowhere else.
        ///
        /// When this or `internal.unix` is set, the HTTP API answers there only, and the public port serves Socket.IO
        /// clients, the page, `/healthz` and `/readyz`. Event streams go with the API: browsers then need Socket.IO, or a proxy to
        /// `/v1/channels/…/stream`. It speaks plain HTTP. `0` takes any free port, which the log names.
        port: Option<u16>, like "8889";

        /// Address of the internal port.
        address: IpAddr = "127.0.0.1";

        /// Unix socket where publishers are served, instead of `internal.port`.
        ///
        /// Whoever may open the file may talk to the API, and needs the key as everywhere.
        unix: Option<FilePath>, like "/run/channelapi/api.sock";
    }

    /// Encryption on the public port.
    "TLS" tls: Tls {
        /// Certificate to show, with those between it and its root, as PEM.
        ///
        /// With `tls.key` it turns the public port into one that speaks TLS 1.2 and 1.3, and nothing else.
        cert: Option<FilePath>, like "/etc/channelapi/fullchain.pem";

        /// Key of the certificate, as PEM, not encrypted.
        key: Option<FilePath>, like "/etc/channelapi/key.pem";

        /// How often to look whether the certificate or its key has changed.
        ///
        /// SIGHUP looks at once. New connections get the new certificate, those that are open stay. A pair that cannot be used
        /// is named in the log, and the one before stays in use.
        reload_interval: Duration = "1m" in "100ms" ..= "1d";

        /// Port that speaks plain HTTP and sends browsers on to HTTPS.
        ///
        /// Usually 80. It serves nothing else, but for the proofs of `acme.challenge = "http-01"`.
        redirect_port: Option<u16>, like "80";
    }

    /// Certificates from an authority, such as Let's Encrypt.
    "ACME" acme: Acme {
        /// Names to get a certificate for, all of which lead to this server.
        ///
        /// It is got at the first start, kept in `acme` inside the data directory, and renewed when two thirds of its life are over.
        domains: Option<Domains>, like "push.example.com";

        /// Whether you agree to the terms of the authority.
        ///
        /// Nothing is asked of it otherwise. For Let's Encrypt they are at <https://letsencrypt.org/repository/>.
        terms_agreed: bool = "false";

        /// Where the authority may write to.
        email: Option<Email>, like "admin@example.com";

        /// How the authority sees that a name is yours.
        ///
        /// `tls-alpn-01`: it connects to port 443 of the name, which must lead to `port`. `http-01`: it asks on port 80, which
        /// must lead to `tls.redirect_port`.
        challenge: AcmeChallenge = "tls-alpn-01";

        /// Directory of the authority.
        directory: Url = "https://acme-v02.api.letsencrypt.org/directory";

        /// Certificate by which the authority itself is recognised, as PEM.
        ///
        /// For an authority of your own. Without it, those count that this machine trusts.
        ca_file: Option<FilePath>, like "/etc/channelapi/ca.pem";
    }

    /// How connections to Socket.IO clients are kept.
    "Socket.IO" socketio: Socketio {
        /// Time between two pings to a client.
        ///
        /// Proxies cut connections that are silent for longer than their own limit, often 60 seconds; stay below.
        ping_interval: Duration = "25s" in "100ms" ..= "10m";

        /// Time a client has to answer a ping before it counts as gone.
        ping_timeout: Duration = "20s" in "100ms" ..= "10m";

        /// Time a client has to complete the Socket.IO handshake after it connected.
        connect_timeout: Duration = "10s" in "100ms" ..= "10m";

        /// Largest packet a client may send.
        ///
        /// Clients only join channels and acknowledge, so they need little. What backends publish is not affected.
        max_payload: ByteSize = "64KiB" in "1KiB" ..= "1MiB";
    }

    /// How publications are kept on disk.
    "Store" store: Store {
        /// How safely a publication is kept before its publisher is answered.
        ///
        /// `fsync`: it is on disk, and survives a power cut; what arrives together is written together. `relaxed`: it is
        /// with the operating system, and survives the end of this process, also a crash; a power cut may take the last
        /// moments. A policy can choose otherwise for some channels, also `memory`, which needs no disk at all.
        durability: StoreDurability = "fsync";

        /// Disk space for publications.
        ///
        /// Above it the oldest are given up, of whatever channel, 64 MiB at a time; clients that come back for them are
        /// told of the gap. Leave some room on the disk for tokens and for the moment before space is given back.
        max_disk: ByteSize = "10GB" in "128MiB" ..= "1000TB";
    }

    /// How much of each channel is kept, unless a policy says otherwise.
    "History" history: History {
        /// Number of publications kept of each channel, the newest.
        ///
        /// Of `max_messages`, `max_age` and `max_bytes` the one that is reached first decides. `0` keeps none: clients get
        /// what is published while they are connected, and nothing that they missed. A policy can choose otherwise for
        /// some channels.
        max_messages: u64 = "1000" in "0" ..= "1000000";

        /// Age at which a publication is given up, within ten seconds.
        max_age: Duration = "24h" in "1s" ..= "3650d";

        /// Size of what is kept of each channel, with what the store adds to each publication.
        ///
        /// The largest publication there can be takes a little over 256 KiB. With less than that, large ones are delivered
        /// but not kept.
        max_bytes: ByteSize = "4MiB" in "1KiB" ..= "1TiB";
    }

    /// What strangers can make the server do. `docs/limits.md` lists all limits, also those that cannot be set.
    "Limits" limits: Limits {
        /// Connections of clients at once, event streams among them.
        ///
        /// Beyond it, new ones are answered 503 with `Retry-After`. `0` is as many as the process may have file descriptors,
        /// but for those of the log (`docs/limits.md`) and a reserve of 2 %, at least 64, for publishers and for the store. It is never
        /// more: a start says so if fewer than this, or fewer than a thousand, have room.
        connections: u64 = "0" in "0" ..= "100000000";

        /// Connections of clients at once from one address, event streams among them.
        ///
        /// Limits per address are for strangers: a loopback, private or unix-socket peer that is not among
        /// `http.trusted_proxies` is not limited, and a whole /64 of IPv6 is one address. As many HTTP connections may be open beside them;
        /// beyond that, those between two requests are closed in favour of new ones, the longest silent first. `0` is no limit.
        connections_per_address: u64 = "2048" in "0" ..= "100000000";

        /// Connections of clients, and event streams, at once that JWTs of one user have let in.
        ///
        /// A user is the `sub` of a JWT, together with its issuer; whoever has no JWT, or one without `sub`, is not counted. Beyond it,
        /// a client is refused with the code `too_many_connections`. One that comes back takes the place of the connection that it
        /// had before, even if the server has not noticed that it is dead; others count until then, which takes `socketio.ping_interval` and
        /// `socketio.ping_timeout`. So leave some room. `0` is no limit.
        connections_per_user: u64 = "0" in "0" ..= "100000000";

        /// New connections a second from one address.
        ///
        /// More are closed at once. A client that opens its session with one of them may open two further ones, which do not count: that is
        /// what a client needs which begins by polling. `0` is no limit.
        connection_rate: u64 = "200" in "0" ..= "1000";

        /// New connections that one address may open at once before `connection_rate` counts.
        ///
        /// A whole company behind one address must be able to come back after a restart.
        connection_burst: u64 = "1000" in "1" ..= "100000";

        /// Connections that have not sent a whole request yet.
        ///
        /// So many may have said nothing, and as many may be in the middle of a handshake or a request. Beyond it, one is closed
        /// for each that comes: the oldest of the address that has the most. Strangers and others are counted apart (`docs/limits.md`), and
        /// neither have more than a third of the connections for which the node still has file descriptors.
        handshakes: u64 = "1024" in "16" ..= "1000000";

        /// Events a second from one client, confirmations (`ack`) included, joins not.
        ///
        /// A client that sends more is disconnected and does not come back by itself. A confirmation covers everything before
        /// it, so that one a second is enough. `0` is no limit.
        event_rate: u64 = "20" in "0" ..= "1000";

        /// Events that one client may send at once before `event_rate` counts.
        event_burst: u64 = "50" in "1" ..= "100000";

        /// Joins a second from one client.
        ///
        /// As with `event_rate`; `0` is no limit.
        join_rate: u64 = "10" in "0" ..= "1000";

        /// Joins that one client may send at once before `join_rate` counts.
        ///
        /// The default lets a client join at once as many channels as it may be in.
        join_burst: u64 = "128" in "1" ..= "100000";

        /// Tokens that are not good, in a minute from one address.
        ///
        /// Beyond it, its clients are refused until the next ones are due. One of the last eight again counts a sixteenth: clients that come back with a token that was
        /// rotated are no guesses; nor are JWTs that are signed well and have ended, or are not valid yet. `0` is no limit.
        failed_tokens: u64 = "300" in "0" ..= "100000";

        /// Requests with an unknown session, in a minute from one address.
        ///
        /// Beyond it, they are answered 429. After a restart, each polling client sends one such request. `0` is no limit.
        unknown_sessions: u64 = "100" in "0" ..= "100000";

        /// Messages a second that one API key may publish.
        ///
        /// Beyond it, requests are answered 429 with `Retry-After`. `0`, the default, is no limit: whoever publishes holds a key,
        /// and what the disk cannot take is answered 503.
        publish_rate_per_key: u64 = "0" in "0" ..= "1000000";

        /// Messages a second that may be published to one channel.
        ///
        /// As with `publish_rate_per_key`.
        publish_rate_per_channel: u64 = "0" in "0" ..= "1000000";

        /// Memory that all clients together may have waiting for them.
        ///
        /// Beyond it, the slowest clients are closed until there is room, each time one of the address for which most waits; they come back
        /// and are served from history. It is never more than an eighth of the memory that the server may use.
        slow_clients_memory: ByteSize = "256MiB" in "1MiB" ..= "1TiB";

        /// Memory the server may use.
        ///
        /// Above 85 % of it, new clients, joins and messages are refused with 503 and `Retry-After`; above 95 %, the slowest clients
        /// are closed, too. `0` is the limit of the container (cgroup), or of the machine when there is none, and it is never
        /// more than that. A log that runs keeps its part of it, which holds the newest messages, until a restart.
        memory: ByteSize = "0" in "0" ..= "1000TiB";
    }

    /// What is logged, and how.
    "Logging" log: Log {
        /// How much is logged: this level and everything more serious.
        level: LogLevel = "info";

        /// How a log line is written.
        ///
        /// `pretty` is for people, `json` for log collectors; `auto` is pretty on a terminal and JSON elsewhere. Lines go to standard
        /// error. The server does not wait for whoever reads them: up to a megabyte is kept, and what has no room is dropped,
        /// and counted by `channelapi_log_lines_dropped_total`; the log says how many lines are missing where they are.
        format: LogFormat = "auto";
    }

    /// How the server stops.
    "Stopping" drain: Drain {
        /// Time that SIGTERM leaves to connections before the server exits.
        ///
        /// The server stops accepting at once and asks clients, event streams among them, to reconnect, spread over up to half of this
        /// time, so that they do not all arrive at the next server together. `0s` exits immediately. Docker kills after 10 seconds unless it is
        /// told otherwise.
        timeout: Duration = "8s" in "0s" ..= "1h";

        /// Time between SIGTERM and the moment when the server stops accepting.
        ///
        /// `/readyz` says no from SIGTERM on, while everything else goes on, so that a load balancer can notice and send nothing more
        /// here. It is added to `timeout`. A second signal ends the process at once, and so does the first while the server starts.
        delay: Duration = "0s" in "0s" ..= "10m";
    }

    /// Where the original kept its tokens. Recognised so that old command lines still start.
    "Redis" redis: Redis (flags_only) {
        /// Redis host of the original's command line.
        host: Option<String>;

        /// Redis port of the original's command line.
        port: Option<u16>;
    }
}
