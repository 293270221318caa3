//! The options: each is written down exactly once, in the table below.
//!
//! Its place gives the TOML key (`log.level`), from which follow the flag (`--log-level`) and the variable
//! (`CHANNELAPI_LOG_LEVEL`); its doc comment becomes the help text (first paragraph), the example file and the
//! reference page. `docs/configuration.md` is printed from here, and a test fails when it differs. What a `[[policy]]` or one of
//! the `[[auth_keys]]` can hold stands below the others; it has neither flag nor variable.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{
    acme::{Domains, Email, Url},
    auth_keys::{AuthKey, KeyName},
    jwt::{Algorithms, Issuer, JwksUrl, Names},
    moment::Moment,
    origins::Origins,
    pattern::{ChannelPatterns, NamePattern},
    policy::{Policy, Replay},
    proxies::TrustedProxies,
    scope::Scopes,
    secret::{KeyHash, Secret},
    source::{Resolver, Setting},
    units::ByteSize,
    value::{AcmeChallenge, Durability, FilePath, LogFormat, LogLevel, Shape, StoreDurability, Value},
};

/// What is known about an option besides its type.
#[derive(Debug)]
pub struct Spec {
    /// The heading it stands under.
    pub title: &'static str,
    /// The TOML table it lives in; `None` at the top of the file.
    pub section: Option<&'static str>,
    /// Its name inside the table.
    pub name: &'static str,
    /// Its full name, `section.name`.
    pub key: &'static str,
    /// The default as one would write it; `None` when there is no value by default.
    pub default: Option<&'static str>,
    /// A value to show in examples; the default if there is one.
    pub example: &'static str,
    /// The smallest and largest value, both allowed.
    pub range: Option<(&'static str, &'static str)>,
    /// Whether it can be written in the file; the original's options that we only recognise cannot.
    pub in_file: bool,
    /// How TOML writes it.
    pub shape: Shape,
    /// What `--help` calls its value.
    pub placeholder: &'static str,
    /// What can be written.
    pub accepts: &'static str,
    /// Whether it must never be shown.
    pub secret: bool,
    doc: &'static str,
}

impl Spec {
    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("CHANNELAPI_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// The variable that names a file holding the value; secrets have one.
    pub fn file_variable(&self) -> Option<String> {
        self.secret.then(|| format!("{}_FILE", self.variable()))
    }

    /// The description, one paragraph per item; the first says it all in one line.
    pub fn paragraphs(&self) -> Vec<String> {
        let lines: Vec<&str> = self.doc.lines().map(str::trim).collect();
        lines
            .split(|line| line.is_empty())
            .filter(|lines| !lines.is_empty())
            .map(|lines| lines.join(" "))
            .collect()
    }

    /// The first paragraph, as a help text: without a final period.
    pub fn summary(&self) -> String {
        self.paragraphs()[0].trim_end_matches('.').to_owned()
    }

    /// Reads a value of this option and holds it to the range.
    pub fn parse<T: Value>(&self, text: &str) -> Result<T, String> {
        let value = T::parse(text)?;
        let Some((low, high)) = self.range else { return Ok(value) };
        let bound = |text| T::parse(text).ok().and_then(|bound| bound.magnitude());
        let fits = bound(low) <= value.magnitude() && value.magnitude() <= bound(high);
        if fits { Ok(value) } else { Err(format!("`{text}` is out of range; write {low} to {high}")) }
    }
}

/// The option with this key.
pub fn spec(key: &str) -> &'static Spec {
    OPTIONS.iter().find(|spec| spec.key == key).expect("keys come from the table")
}

/// The option with this key, among those that the items of a list can hold.
pub fn list_spec(key: &str) -> &'static Spec {
    let mut all = LISTS.iter().flat_map(|(_, options)| *options);
    all.find(|spec| spec.key == key).expect("keys come from the table")
}

/// Turns the table into the structs, the list of [`Spec`]s and the code that fills the one by the other.
macro_rules! options {
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
    (@example) => { "…" };
    (@example $example:literal) => { $example };
    (@range) => { None };
    (@range $low:literal $high:literal) => { Some(($low, $high)) };
    (@in_file) => { true };
    (@in_file flags_only) => { false };
    (
        @spec $title:literal, $section:expr, $name:expr, $key:expr, $in_file:expr,
        $default:expr, $example:expr, $range:expr, $type:ty, $doc:expr
    ) => {
        Spec {
            title: $title, section: $section, name: $name, key: $key, in_file: $in_file,
            default: $default, example: $example, range: $range,
            shape: <$type as Value>::SHAPE, placeholder: <$type as Value>::PLACEHOLDER,
            accepts: <$type as Value>::ACCEPTS, secret: <$type as Value>::SECRET, doc: $doc,
        }
    };
    (
        $top_title:literal {
            $( $( #[doc = $doc:literal] )+ $field:ident : $type:ty $( , like $like:literal )?
                $( = $default:literal $( in $low:literal ..= $high:literal )? )? ; )+
        }
        $(
            $( #[doc = $about:literal] )+
            $title:literal $section:ident : $Section:ident $( ($flags_only:ident) )? {
                $( $( #[doc = $sdoc:literal] )+ $sfield:ident : $stype:ty $( , like $slike:literal )?
                    $( = $sdefault:literal $( in $slow:literal ..= $shigh:literal )? )? ; )+
            }
        )+
        $(
            [[$list:literal]] $LIST:ident $LIST_OPTIONS:ident $list_title:literal {
                $( $( #[doc = $ldoc:literal] )+ $lname:literal : $ltype:ty, like $lexample:literal ; )+
            }
        )+
    ) => {
        /// Everything the server can be told, checked and complete.
        #[derive(Debug, Clone)]
        pub struct Config {
            $( $( #[doc = $doc] )+ pub $field: $type, )+
            $( $( #[doc = $about] )+ pub $section: $Section, )+
            /// What is different for some channels; the first that matches decides.
            pub policy: Vec<Policy>,
            /// API keys besides `auth_key`.
            pub auth_keys: Vec<AuthKey>,
            /// Whose JWTs are good.
            pub jwt: Vec<Issuer>,
            /// The file that was read, if there was one.
            pub file: Option<PathBuf>,
            /// Every option with its value as text (secrets masked) and where it came from.
            pub settings: Vec<Setting>,
            /// What the operator should hear about: suspicious, but no reason not to start.
            pub warnings: Vec<String>,
        }

        $(
            $( #[doc = $about] )+
            #[derive(Debug, Clone)]
            pub struct $Section { $( $( #[doc = $sdoc] )+ pub $sfield: $stype, )+ }

            impl $Section {
                /// Whether the file may have this section.
                const IN_FILE: bool = options!(@in_file $( $flags_only )?);
            }
        )+

        /// Every option, in the order of the reference page.
        pub static OPTIONS: &[Spec] = &[
            $( options!(@spec $top_title, None, stringify!($field), stringify!($field), true,
                options!(@default $( $default )?), options!(@example $( $like )? $( $default )?),
                options!(@range $( $( $low $high )? )?), $type,
                concat!($( $doc, "\n" ),+)), )+
            $( $( options!(@spec $title, Some(stringify!($section)), stringify!($sfield),
                concat!(stringify!($section), ".", stringify!($sfield)), $Section::IN_FILE,
                options!(@default $( $sdefault )?), options!(@example $( $slike )? $( $sdefault )?),
                options!(@range $( $( $slow $shigh )? )?), $stype,
                concat!($( $sdoc, "\n" ),+)), )+ )+
        ];

        $(
            #[doc = concat!("The list `[[", $list, "]]`.")]
            pub const $LIST: &str = $list;

            /// What its items can hold. They are found in the file alone, as no flag or variable could say of which it speaks.
            pub static $LIST_OPTIONS: &[Spec] = &[
                $( options!(@spec $list_title, Some($LIST), $lname, concat!($list, ".", $lname), true,
                    None, $lexample, None, $ltype, concat!($( $ldoc, "\n" ),+)), )+
            ];
        )+

        /// The sections that are lists, and what their items can hold.
        pub static LISTS: &[(&str, &[Spec])] = &[ $( ($LIST, $LIST_OPTIONS), )+ ];

        impl Config {
            /// Takes each option's value out of the layers, noting every problem on the way.
            pub(super) fn resolve(values: &mut Resolver<'_>) -> Self {
                Self {
                    $( $field: values.take(spec(stringify!($field))), )+
                    $( $section: $Section {
                        $( $sfield: values.take(spec(concat!(stringify!($section), ".", stringify!($sfield)))), )+
                    }, )+
                    policy: Vec::new(),
                    auth_keys: Vec::new(),
                    jwt: Vec::new(),
                    file: None,
                    settings: Vec::new(),
                    warnings: Vec::new(),
                }
            }
        }
    };
}

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
        /// on a loopback address or with `debug`.
        ///
        /// Prefer `CHANNELAPI_AUTH_KEY_FILE` or `CHANNELAPI_AUTH_KEY`: a flag can be read in the list of processes
        /// by every user of the machine.
        ///
        /// This key may do everything. Others, which may do less, are a list: see [API keys](#api-keys). With that list and
        /// without `auth_key`, none is generated, and only the list counts.
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
        /// A list is enforced on WebSocket and polling alike. Clients that are not browsers send no origin and are
        /// not affected.
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
        /// Then a connection of theirs without one is closed. From everybody else such a header is a malformed request.
        proxy_protocol: bool = "false";
    }

    /// A listener of its own for publishers.
    "Internal listener" internal: Internal {
        /// Port where publishers are served, and nowhere else.
        ///
        /// When this or `internal.unix` is set, the HTTP API answers there only, and the public port serves Socket.IO
        /// clients, the page and `/healthz`. It speaks plain HTTP. `0` takes any free port, which the log names.
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

        /// Age at which a publication is given up.
        max_age: Duration = "24h" in "1s" ..= "3650d";

        /// Size of what is kept of each channel, with what the store adds to each publication.
        ///
        /// The largest publication there can be takes a little over 256 KiB. With less than that, large ones are delivered
        /// but not kept.
        max_bytes: ByteSize = "4MiB" in "1KiB" ..= "1TiB";
    }

    /// What strangers can make the server do. `docs/limits.md` lists all limits, also those that cannot be set.
    "Limits" limits: Limits {
        /// Connections of clients at once.
        ///
        /// Beyond it, new ones are answered 503 with `Retry-After`. `0` is as many as the process may have file descriptors,
        /// but for a reserve of 2 %, at least 64, for publishers and for the store.
        connections: u64 = "0" in "0" ..= "100000000";

        /// Connections of clients at once from one address.
        ///
        /// Limits per address are for strangers: a loopback, private or unix-socket peer that is not among
        /// `http.trusted_proxies` is not limited, and a whole /64 of IPv6 is one address. `0` is no limit.
        connections_per_address: u64 = "2048" in "0" ..= "100000000";

        /// New connections a second from one address.
        ///
        /// More are closed at once. `0` is no limit.
        connection_rate: u64 = "200" in "0" ..= "1000";

        /// New connections that one address may open at once before `connection_rate` counts.
        ///
        /// A whole company behind one address must be able to come back after a restart.
        connection_burst: u64 = "1000" in "1" ..= "100000";

        /// Connections that have not sent a whole request yet.
        ///
        /// Beyond it, the one that has waited longest is closed for each that comes: whoever opens connections and says
        /// nothing loses them first.
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
        /// Beyond it, its clients are refused until the next ones are due. `0` is no limit.
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
        /// Beyond it, the slowest clients are closed until there is room; they come back and are served from history.
        slow_clients_memory: ByteSize = "256MiB" in "1MiB" ..= "1TiB";

        /// Memory the server may use.
        ///
        /// Above 85 % of it, new clients, joins and messages are refused with 503 and `Retry-After`; above 95 %, the slowest clients
        /// are closed, too. `0` is the limit of the container (cgroup), or of the machine when there is none.
        memory: ByteSize = "0" in "0" ..= "1000TiB";
    }

    /// What is logged, and how.
    "Logging" log: Log {
        /// How much is logged: this level and everything more serious.
        level: LogLevel = "info";

        /// How a log line is written.
        ///
        /// `pretty` is for people, `json` for log collectors; `auto` is pretty on a terminal and JSON elsewhere.
        format: LogFormat = "auto";
    }

    /// How the server stops.
    "Stopping" drain: Drain {
        /// Time that SIGTERM leaves to connections before the server exits.
        ///
        /// The server stops accepting at once and asks clients to reconnect, spread over up to half of this
        /// time, so that they do not all arrive at the next server together. `0s` exits immediately. Docker kills after 10 seconds unless it is
        /// told otherwise.
        timeout: Duration = "8s" in "0s" ..= "1h";

        /// Time between SIGTERM and the moment when the server stops accepting.
        ///
        /// `/readyz` says no from SIGTERM on, while everything else goes on, so that a load balancer can notice and send nothing more
        /// here. It is added to `timeout`. A second signal ends the process at once.
        delay: Duration = "0s" in "0s" ..= "10m";
    }

    /// Where the original kept its tokens. Recognised so that old command lines still start.
    "Redis" redis: Redis (flags_only) {
        /// Redis host of the original's command line.
        host: Option<String>;

        /// Redis port of the original's command line.
        port: Option<u16>;
    }

    [["auth_keys"]] AUTH_KEYS AUTH_KEY_OPTIONS "API keys" {
        /// Name of the key, for logs and figures.
        ///
        /// 1 to 64 letters, digits, dots, dashes and underscores. Every key needs one of its own.
        "name": KeyName, like "orders";

        /// Hash of the key, so that the file holds no secret.
        ///
        /// `channelapi key create` makes a new key and prints this line for it, `channelapi key hash` prints it for a key that
        /// exists.
        "hash": Option<KeyHash>, like "sha256:7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069";

        /// File that holds the key itself, instead of its hash.
        ///
        /// A line break at its end is not part of the key.
        "key_file": Option<PathBuf>, like "/run/secrets/orders_key";

        /// What the key may do.
        ///
        /// `publish`: publish. `read`: history, event streams, and what there is to know of channels and consumers. `tokens`: give
        /// out, replace and revoke the tokens that clients join with. `admin`: all of these, purging, and setting and removing
        /// consumers. docs/http-api.md lists what each route needs.
        "scopes": Scopes, like "publish";

        /// Channels that the key is for.
        ///
        /// Patterns as those of a policy. Left out, it is for every channel.
        "channels": Option<ChannelPatterns>, like "user-*";

        /// Time from which on the key lets nobody in any more.
        ///
        /// Left out, it never ends. Two weeks before, each start and each reload is a warning.
        "expires": Option<Moment>, like "2030-01-31T12:00:00Z";
    }

    [["jwt"]] JWT JWT_OPTIONS "JWT" {
        /// Who issues the JWTs: what they have as `iss`, to the letter.
        ///
        /// With a single `[[jwt]]` it may be left out; then `iss` means nothing. Several entries with one issuer are for the time in
        /// which it changes its keys: a JWT is good if one of them takes it.
        "issuer": Option<String>, like "https://login.example.com";

        /// Whom the JWTs are for: one of these must be their `aud`, or in it.
        ///
        /// Left out, they must have no `aud` at all: one that names somebody else, as an ID token names an application, opens
        /// nothing here.
        "audience": Option<Names>, like "push";

        /// Algorithms that the JWTs are signed with.
        ///
        /// Left out, it is the usual one of each key: `HS256` for a secret, `RS256` for RSA, the one that goes with a curve, and in a
        /// JWKS what each key says of itself. A key is never used with another algorithm, whatever a JWT says.
        "algorithms": Option<Algorithms>, like "RS256";

        /// Secret that the issuer signs with.
        ///
        /// 32 bytes or more that nobody can guess. One of this and the next four must be there; prefer a file.
        "secret": Option<Secret>, like "…";

        /// File that holds such a secret.
        ///
        /// A line break at its end is not part of the secret.
        "secret_file": Option<PathBuf>, like "/run/secrets/jwt";

        /// File with the issuer's public key in PEM form.
        ///
        /// RSA of 2048 bits or more, P-256, P-384 or Ed25519.
        "public_key_file": Option<PathBuf>, like "/etc/channelapi/issuer.pem";

        /// File with the issuer's public keys as a JWKS.
        "jwks_file": Option<PathBuf>, like "/etc/channelapi/jwks.json";

        /// Address of the issuer's public keys, a JWKS.
        ///
        /// They are fetched at the start, every five minutes, and when a JWT names a key that is not among them, at most once a
        /// minute. If that fails, the keys from before are used for up to a day. Redirects are not followed.
        "jwks_url": Option<JwksUrl>, like "https://login.example.com/.well-known/jwks.json";

        /// File with the certificates to trust behind `jwks_url`, in PEM form.
        ///
        /// Left out, it is whom the system trusts.
        "ca_file": Option<PathBuf>, like "/etc/channelapi/ca.pem";

        /// Fetch keys over plain HTTP, too.
        ///
        /// Whoever can change what travels there can let in whom they like.
        "insecure_http": Option<bool>, like "false";

        /// Claim of the JWTs that names the channels which they open.
        ///
        /// Left out, it is `channels`. It is an array of up to 128 names.
        "channels_claim": Option<String>, like "channels";

        /// Channels that this issuer may open at most.
        ///
        /// Patterns as those of a policy. Left out, it may open every channel that its JWTs name.
        "grants": Option<ChannelPatterns>, like "user:*";

        /// Whether the JWTs may name channels by patterns, such as `user:42:*`.
        ///
        /// Left out or `false`, a name with a star in it opens nothing. With `true`, `*` stands for any run of characters, and `["*"]`
        /// opens all that `grants` does.
        "allow_patterns": Option<bool>, like "false";
    }

    [["policy"]] POLICY POLICY_OPTIONS "Policies" {
        /// Names of channels: `*` stands for any run of characters, everything else for itself.
        ///
        /// `user-*` matches `user-42` and `user-`, `*` matches every channel. Every policy needs a pattern of its own; one
        /// that can never come first, because another above matches all its channels, is an error.
        "match": NamePattern, like "user-*";

        /// How safely a publication is kept before its publisher is answered.
        ///
        /// As in `[store]`, and `memory`: without any disk, for as long as the server runs. Left out, it is as in `[store]`.
        "durability": Durability, like "fsync";

        /// What a client gets that joins without saying where it stands.
        ///
        /// `false`, or left out: only what is published from then on. A number: that many of the newest publications first.
        /// `true`: everything that is kept. Clients that say where they stand get what they missed, whatever is set here.
        "replay_on_join": Replay, like "false";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_key() {
        let level = spec("log.level");
        assert_eq!((level.section, level.name), (Some("log"), "level"));
        assert_eq!((level.flag().as_str(), level.variable().as_str()), ("log-level", "CHANNELAPI_LOG_LEVEL"));
        assert_eq!(level.file_variable(), None);

        let key = spec("auth_key");
        assert_eq!((key.section, key.flag().as_str()), (None, "auth-key"));
        assert_eq!(key.file_variable().as_deref(), Some("CHANNELAPI_AUTH_KEY_FILE"));
    }

    #[test]
    fn no_two_options_share_a_name() {
        for (index, one) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[index + 1..] {
                assert_ne!(one.flag(), other.flag());
                assert_ne!(one.variable(), other.variable());
            }
        }
    }

    #[test]
    fn every_option_explains_itself() {
        for spec in OPTIONS.iter().chain(LISTS.iter().flat_map(|(_, options)| *options)) {
            let summary = spec.summary();
            assert!(summary.len() > 10 && summary.len() <= 90, "{}: {summary}", spec.key);
            assert!(!spec.accepts.is_empty() && !spec.placeholder.is_empty(), "{}", spec.key);
        }
    }

    #[test]
    fn defaults_are_inside_their_ranges() {
        let mut values = Resolver::new(&[]);
        let config = Config::resolve(&mut values);
        assert_eq!((config.port, config.data_dir.to_str()), (8888, Some("./data")));
        assert_eq!(
            (config.socketio.ping_interval, config.socketio.ping_timeout),
            (Duration::from_secs(25), Duration::from_secs(20))
        );
        assert_eq!(config.socketio.max_payload.bytes(), 65_536);
        assert!(
            config.auth_key.is_none()
                && config.redis.host.is_none()
                && !config.debug
                && !config.is_loopback()
        );

        for spec in OPTIONS.iter().filter(|spec| spec.range.is_some()) {
            let text = spec.default.unwrap();
            let parsed = match spec.placeholder {
                "SIZE" => spec.parse::<ByteSize>(text).map(|_| ()),
                "N" => spec.parse::<u64>(text).map(|_| ()),
                _ => spec.parse::<Duration>(text).map(|_| ()),
            };
            assert_eq!(parsed, Ok(()), "{}", spec.key);
        }
    }

    #[test]
    fn ranges_are_enforced_at_both_ends() {
        let interval = spec("socketio.ping_interval");
        for (text, fits) in [("99ms", false), ("100ms", true), ("10m", true), ("601s", false), ("0s", false)]
        {
            assert_eq!(interval.parse::<Duration>(text).is_ok(), fits, "{text}");
        }
        for (text, fits) in [("0", true), ("1000000", true), ("1000001", false)] {
            assert_eq!(spec("history.max_messages").parse::<u64>(text).is_ok(), fits, "{text}");
        }
        for (text, fits) in [("127MiB", false), ("128MiB", true), ("48TiB", true), ("1000TiB", false)] {
            assert_eq!(spec("store.max_disk").parse::<ByteSize>(text).is_ok(), fits, "{text}");
        }
        let message = interval.parse::<Duration>("1d").unwrap_err();
        assert_eq!(message, "`1d` is out of range; write 100ms to 10m");
        assert!(
            spec("socketio.max_payload")
                .parse::<ByteSize>("2MiB")
                .unwrap_err()
                .contains("write 1KiB to 1MiB")
        );
    }
}
