//! What a setting can be: how each type is written, read from text, checked and shown.
//!
//! Flags, variables and the file all arrive here as text, so a value means the same wherever it is written and a
//! wrong one is refused with the same words. A refusal quotes the value (never a secret) and says what to write.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// How a TOML file writes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `"text"`
    Text,
    /// `"64KiB"`, and a bare number is passed on as text, for the type to accept or to ask for a unit.
    Quantity,
    /// `8888`
    Integer,
    /// `true`
    Boolean,
    /// `true`, `false` or a number.
    Amount,
    /// `["a", "b"]`; flags and variables separate the items with commas.
    List,
    /// `["a", "b"]`, of items that may hold commas; only in the file. As text they are lines.
    Lines,
    /// `2030-01-31T12:00:00Z`, with or without quotes.
    Moment,
}

impl Shape {
    /// The text of a value as TOML writes it.
    pub fn toml(self, text: &str) -> String {
        match self {
            Self::Text | Self::Quantity => quoted(text),
            Self::Integer | Self::Boolean | Self::Amount | Self::Moment => text.to_owned(),
            Self::List => list(text.split(',').map(str::trim)),
            Self::Lines => list(text.split('\n')),
        }
    }
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.map(quoted).collect();
    format!("[{}]", items.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A type that an option can have.
pub trait Value: Sized {
    /// How the file writes it.
    const SHAPE: Shape;
    /// What `--help` calls the value.
    const PLACEHOLDER: &'static str;
    /// What the reference page says can be written.
    const ACCEPTS: &'static str;
    /// Whether it must never be shown.
    const SECRET: bool = false;

    /// Reads the value, or says what is wrong with it and what to write instead.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as it would be written; secrets are masked.
    fn show(&self) -> String;

    /// The value as a number, for the types that have a range.
    fn magnitude(&self) -> Option<u128> {
        None
    }

    /// The value nobody has set.
    fn from_default(default: Option<&str>) -> Self {
        let text = default.expect("only an Option is declared without a default");
        Self::parse(text).expect("a test parses every default")
    }
}

impl<T: Value> Value for Option<T> {
    const SHAPE: Shape = T::SHAPE;
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;
    const ACCEPTS: &'static str = T::ACCEPTS;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "(not set)".to_owned(), T::show)
    }

    fn from_default(_: Option<&str>) -> Self {
        None
    }
}

impl Value for u16 {
    const SHAPE: Shape = Shape::Integer;
    const PLACEHOLDER: &'static str = "PORT";
    const ACCEPTS: &'static str = "a number from 0 to 65535";

    fn parse(text: &str) -> Result<Self, String> {
        // `parse` would take `+80`, which the other places a port is written in do not.
        if text.starts_with('+') {
            return Err(not(text, "a port number", "write the digits alone, such as 8888"));
        }
        text.parse().map_err(|_| not(text, "a port number", "write a number from 0 to 65535, such as 8888"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    const SHAPE: Shape = Shape::Integer;
    const PLACEHOLDER: &'static str = "N";
    const ACCEPTS: &'static str = "a whole number";

    fn parse(text: &str) -> Result<Self, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(not(text, "a count", "write the digits alone, such as 1000"));
        }
        text.parse().map_err(|_| format!("`{text}` is more than anything can be counted to; write less"))
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn magnitude(&self) -> Option<u128> {
        Some(u128::from(*self))
    }
}

impl Value for bool {
    const SHAPE: Shape = Shape::Boolean;
    const PLACEHOLDER: &'static str = "BOOL";
    const ACCEPTS: &'static str =
        "`true` or `false`; flags and variables also take `1`/`0`, `yes`/`no`, `on`/`off`, `t`/`f`, `y`/`n`";

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" | "y" | "on" => Ok(true),
            "false" | "f" | "0" | "no" | "n" | "off" => Ok(false),
            _ => Err(not(text, "yes or no", "write true or false")),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for IpAddr {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "IP";
    const ACCEPTS: &'static str = "an IPv4 or IPv6 address, or `localhost`";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "localhost" {
            return Ok(Self::V4(Ipv4Addr::LOCALHOST));
        }
        if text.parse::<std::net::SocketAddr>().is_ok() {
            return Err(not(text, "an IP address", "leave the port out, it has its own option, `port`"));
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map_err(|_| {
            let fix = "write 0.0.0.0 (reachable from everywhere), 127.0.0.1 (this machine only) or an address of this machine";
            not(text, "an IP address", fix)
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for PathBuf {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "DIR";
    const ACCEPTS: &'static str = "a path; a relative one starts at the working directory";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("the path is empty; write one, such as /var/lib/channelapi".to_owned()),
            _ if text.contains('\0') => Err("a path cannot contain a NUL character".to_owned()),
            _ if text == "~" || text.starts_with("~/") => Err(format!(
                "`{text}` starts with ~, which only a shell replaces; write the home directory in full"
            )),
            _ => Ok(Self::from(text)),
        }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// The path of a file; unlike a directory it is not created by just anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(pub PathBuf);

impl std::ops::Deref for FilePath {
    type Target = std::path::Path;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Value for FilePath {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "FILE";
    const ACCEPTS: &'static str = PathBuf::ACCEPTS;

    fn parse(text: &str) -> Result<Self, String> {
        PathBuf::parse(text).map(Self)
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

impl Value for String {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "HOST";
    const ACCEPTS: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(not(text, "a host name", "write one, such as redis.example.com"));
        }
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

/// An option with a fixed set of words.
macro_rules! choice {
    (
        $(#[$meta:meta])* $name:ident, $placeholder:literal, $what:literal, $accepts:literal {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal $( | $alias:literal )* , )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl $name {
            /// The word that selects it.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Value for $name {
            const SHAPE: Shape = Shape::Text;
            const PLACEHOLDER: &'static str = $placeholder;
            const ACCEPTS: &'static str = $accepts;

            fn parse(text: &str) -> Result<Self, String> {
                match text.to_ascii_lowercase().as_str() {
                    $( $word $( | $alias )* => Ok(Self::$variant), )+
                    _ => Err(not(text, $what, concat!("write ", $( $word, " / ", )+ "…").trim_end_matches(" / …"))),
                }
            }

            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

choice! {
    /// How much is logged: this level and everything more serious.
    LogLevel, "LEVEL", "a log level", "`error`, `warn`, `info`, `debug` or `trace`" {
        /// Something is broken and somebody must act.
        Error = "error",
        /// Worth a look.
        Warn = "warn" | "warning",
        /// The life of the server.
        Info = "info",
        /// What single connections do.
        Debug = "debug",
        /// Every packet.
        Trace = "trace",
    }
}

choice! {
    /// How a log line is written.
    LogFormat, "FORMAT", "a log format", "`auto`, `pretty` or `json`" {
        /// Pretty on a terminal, JSON everywhere else.
        Auto = "auto",
        /// For people.
        Pretty = "pretty",
        /// One JSON object a line, for log collectors.
        Json = "json",
    }
}

choice! {
    /// How safely a publication is kept, unless a policy says otherwise.
    StoreDurability, "HOW", "how the store can keep publications", "`fsync` or `relaxed`" {
        /// It survives a power cut.
        Fsync = "fsync",
        /// It survives the end of the process.
        Relaxed = "relaxed",
    }
}

choice! {
    /// How safely a publication of some channels is kept.
    Durability, "HOW", "a durability", "`fsync`, `relaxed` or `memory`" {
        /// It survives a power cut.
        Fsync = "fsync",
        /// It survives the end of the process.
        Relaxed = "relaxed",
        /// It lives as long as the process.
        Memory = "memory",
    }
}

choice! {
    /// How a name is proven.
    AcmeChallenge, "HOW", "a challenge", "`tls-alpn-01` or `http-01`" {
        /// In a handshake on port 443.
        TlsAlpn = "tls-alpn-01",
        /// On port 80.
        Http = "http-01",
    }
}

impl From<StoreDurability> for Durability {
    fn from(durability: StoreDurability) -> Self {
        match durability {
            StoreDurability::Fsync => Self::Fsync,
            StoreDurability::Relaxed => Self::Relaxed,
        }
    }
}

/// The one sentence every refusal has: what was written, what it is not, and the fix.
pub(super) fn not(text: &str, what: &str, fix: &str) -> String {
    if text.is_empty() {
        return format!("the value is empty; {fix}");
    }
    format!("`{}` is not {what}; {fix}", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: Value>(text: &str, shown: &str) {
        assert_eq!(T::parse(text).map(|value| value.show()).as_deref(), Ok(shown), "{text}");
    }

    #[track_caller]
    fn refuse<T: Value>(text: &str, part: &str) {
        let message = T::parse(text).map(|value| value.show()).expect_err(text);
        assert!(message.contains(part), "{text}: {message}");
    }

    #[test]
    fn ports_are_numbers_that_tcp_has() {
        check::<u16>("8888", "8888");
        check::<u16>("0", "0");
        check::<u16>("65535", "65535");
        for wrong in ["65536", "-1", "+80", "80x", "8 8", "0x50", ""] {
            refuse::<u16>(wrong, "write ");
        }
        refuse::<u16>("http", "`http` is not a port number; write a number from 0 to 65535");
    }

    #[test]
    fn counts_are_digits() {
        check::<u64>("0", "0");
        check::<u64>("1000000", "1000000");
        for wrong in ["-1", "+1", "1_000", "1k", "1.5"] {
            refuse::<u64>(wrong, "is not a count; write the digits alone, such as 1000");
        }
        refuse::<u64>("", "the value is empty");
        refuse::<u64>("99999999999999999999", "write less");
    }

    #[test]
    fn switches_take_the_words_people_use() {
        for yes in ["true", "True", "t", "1", "yes", "Y", "on"] {
            check::<bool>(yes, "true");
        }
        for no in ["false", "FALSE", "f", "0", "no", "n", "off"] {
            check::<bool>(no, "false");
        }
        refuse::<bool>("maybe", "`maybe` is not yes or no; write true or false");
        refuse::<bool>("", "the value is empty");
    }

    #[test]
    fn addresses_are_ip_addresses() {
        check::<IpAddr>("0.0.0.0", "0.0.0.0");
        check::<IpAddr>("localhost", "127.0.0.1");
        check::<IpAddr>("::1", "::1");
        check::<IpAddr>("[::]", "::");
        refuse::<IpAddr>("0.0.0.0:80", "leave the port out");
        refuse::<IpAddr>("[::1]:80", "leave the port out");
        refuse::<IpAddr>("example.com", "127.0.0.1 (this machine only)");
        refuse::<IpAddr>("*", "0.0.0.0 (reachable from everywhere)");
    }

    #[test]
    fn paths_are_taken_literally() {
        check::<PathBuf>("./data", "./data");
        refuse::<PathBuf>("", "the path is empty");
        refuse::<PathBuf>("~/data", "only a shell replaces");
    }

    #[test]
    fn choices_name_all_their_words() {
        check::<LogLevel>("WARNING", "warn");
        check::<LogLevel>("trace", "trace");
        refuse::<LogLevel>("loud", "write error / warn / info / debug / trace");
        check::<LogFormat>("json", "json");
        refuse::<LogFormat>("xml", "write auto / pretty / json");
        check::<Durability>("Memory", "memory");
        refuse::<Durability>("ram", "`ram` is not a durability; write fsync / relaxed / memory");
        refuse::<StoreDurability>("memory", "write fsync / relaxed");
    }

    #[test]
    fn refusals_cannot_smuggle_terminal_controls() {
        refuse::<u16>("\u{1b}[2J", r"`\u{1b}[2J`");
    }
}
