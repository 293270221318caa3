//! API keys as backends meet them: what each may do, and how they change while the server runs.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_mins(1);

const MASTER: &str = "master-key-of-everything";
const PUBLISHER: &str = "publisher-key-0123456789";
const READER: &str = "reader-key-0123456789-abc";
const TOKENS: &str = "tokens-key-0123456789-abc";
const ADMIN: &str = "admin-key-0123456789-abcd";
const SHOP: &str = "shop-key-0123456789-abcde";
const PAST: &str = "past-key-0123456789-abcde";

/// A key of the list, in a file of its own.
fn key(name: &str, key: &str, scopes: &str, more: &str) -> (String, String) {
    let lines =
        format!("[[auth_keys]]\nname = '{name}'\nkey_file = '{name}.key'\nscopes = [{scopes}]\n{more}\n");
    (lines, key.to_owned())
}

fn usual_keys() -> Vec<(String, String)> {
    vec![
        key("publisher", PUBLISHER, "'publish'", ""),
        key("reader", READER, "'read'", ""),
        key("tokens", TOKENS, "'tokens'", ""),
        key("admin", ADMIN, "'admin'", ""),
        key("shop", SHOP, "'publish', 'tokens', 'read'", "channels = ['user-*', 'a,b']"),
        key("past", PAST, "'admin'", "expires = 2020-01-01"),
    ]
}

struct Server {
    dir: TempDir,
    address: String,
    running: Child,
    log: Receiver<String>,
    heard: Vec<String>,
}

impl Server {
    fn start(top: &str, keys: &[(String, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_configuration(dir.path(), top, keys);
        let mut running = Command::new(env!("CARGO_BIN_EXE_channelapi"))
            .current_dir(dir.path())
            .args(["--log-format", "json"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = mpsc::channel();
        let stderr = running.stderr.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                _ = sender.send(line);
            }
        });
        let mut server = Self { dir, address: String::new(), running, log, heard: Vec::new() };
        let ready = server.wait_for("\"ready\"");
        let (_, rest) = ready.split_once("\"address\":\"").unwrap();
        rest.split('"').next().unwrap().clone_into(&mut server.address);
        server
    }

    /// The next line of the log with this text.
    fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no {part} in {:#?}", self.heard));
            self.heard.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    fn reload(&mut self, top: &str, keys: &[(String, String)], outcome: &str) {
        write_configuration(self.dir.path(), top, keys);
        self.hang_up(outcome);
    }

    /// Lets the server read its files again, as they are.
    fn hang_up(&mut self, outcome: &str) {
        let pid = Pid::from_raw(i32::try_from(self.running.id()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        self.wait_for(outcome);
    }

    fn ask(&self, method: &str, path: &str, key: &str, body: &str) -> Answer {
        self.ask_with(method, path, &format!("Authorization: {key}\r\n"), body)
    }

    fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Answer::parse(&text)
    }

    /// Opens an event stream and reads its head.
    fn stream(&self, path: &str, key: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n\r\n").unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.kill().unwrap();
        self.running.wait().unwrap();
    }
}

fn write_configuration(dir: &Path, top: &str, keys: &[(String, String)]) {
    let lists: String = keys.iter().map(|(lines, _)| lines.as_str()).collect();
    for (lines, key) in keys {
        let (_, rest) = lines.split_once("key_file = '").unwrap();
        fs::write(dir.join(rest.split('\'').next().unwrap()), format!("{key}\n")).unwrap();
    }
    let level = if top.contains("log.level") { "" } else { "log.level = 'trace'\n" };
    let all = format!("{level}port = 0\naddress = '127.0.0.1'\n{top}\n{lists}");
    fs::write(dir.join("channelapi.toml"), all).unwrap();
}

#[derive(Debug)]
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, body: body.to_owned() }
    }

    /// Checks the status, and that the body contains this.
    #[track_caller]
    fn check(&self, status: u16, part: &str) {
        assert!(self.status == status && self.body.contains(part), "{status} {part}: {self:?}");
    }
}

/// Every route with the scope that it needs; a body that it takes.
const ROUTES: [(&str, &str, &str, &str); 15] = [
    ("POST", "/message/a", "publish", r#"{"message":1}"#),
    ("POST", "/channel/a", "tokens", ""),
    ("POST", "/v1/channels/a/messages", "publish", r#"{"data":1}"#),
    ("POST", "/v1/channels/a/messages", "publish", r#"{"data":1,"volatile":true}"#),
    ("POST", "/v1/messages", "publish", r#"{"channels":["a"],"data":1}"#),
    ("GET", "/v1/channels/a/messages", "read", ""),
    ("GET", "/v1/channels/a/messages/1", "read", ""),
    ("GET", "/v1/channels/a", "read", ""),
    ("GET", "/v1/channels/a/consumers", "read", ""),
    ("GET", "/v1/channels/a/consumers/c", "read", ""),
    ("POST", "/v1/channels/a/tokens", "tokens", ""),
    ("DELETE", "/v1/channels/a/tokens", "tokens", ""),
    ("DELETE", "/v1/channels/a/messages", "admin", ""),
    ("PUT", "/v1/channels/a/consumers/c", "admin", r#"{"offset":0}"#),
    ("DELETE", "/v1/channels/a/consumers/c", "admin", ""),
];

#[test]
fn each_scope_opens_its_routes_and_no_other() {
    let server = Server::start(&format!("auth_key = '{MASTER}'"), &usual_keys());
    for (method, path, scope, body) in ROUTES {
        for (key, name) in [
            (PUBLISHER, "publish"),
            (READER, "read"),
            (TOKENS, "tokens"),
            (ADMIN, "admin"),
            (MASTER, "admin"),
        ] {
            let answer = server.ask(method, path, key, body);
            if name == scope || name == "admin" {
                assert!((200..300).contains(&answer.status), "{method} {path} {name}: {answer:?}");
            } else if path.starts_with("/v1") {
                answer.check(403, r#""code":"missing_scope""#);
                answer.check(403, &format!("The API key does not have the scope `{scope}`."));
            } else {
                answer.check(
                    403,
                    &format!(
                        r#"{{"success": false, "message": "The API key does not have the scope `{scope}`."}}"#
                    ),
                );
            }
        }
        let stranger = server.ask(method, path, "wrong", body);
        stranger.check(
            403,
            if path.starts_with("/v1") {
                r#""code":"forbidden""#
            } else {
                r#"{"success": false, "message": "The Authorization header does not carry the API key."}"#
            },
        );
        let past = server.ask(method, path, &format!("Bearer {PAST}"), body);
        past.check(
            403,
            if path.starts_with("/v1") {
                r#""code":"key_expired""#
            } else {
                r#"{"success": false, "message": "The API key has expired."}"#
            },
        );
    }
    let token = server.ask("POST", "/channel/a", TOKENS, "").body;
    let token = token.split('"').nth(5).unwrap().to_owned();
    let path = format!("/v1/tokens/{token}");
    server.ask("DELETE", &path, READER, "").check(403, "missing_scope");
    server.ask("DELETE", &path, TOKENS, "").check(200, r#""revoked":true"#);
    server.ask("GET", "/v1/channels/a/stream", PUBLISHER, "").check(403, "missing_scope");
    drop(server.stream("/v1/channels/a/stream", READER));
    server.ask("GET", "/v1/nothing", PUBLISHER, "").check(404, "not_found");
    server.ask("GET", "/v1/nothing", "wrong", "").check(403, "forbidden");
}

#[test]
fn a_key_reaches_its_channels_and_no_other() {
    let server = Server::start(&format!("auth_key = '{MASTER}'"), &usual_keys());
    for (channel, is_own) in [
        ("user-1", true),
        ("user-", true),
        ("a%2Cb", true),
        ("users", false),
        ("a", false),
        ("b", false),
        ("user%2D1x%2Fy", true),
        ("USER-1", false),
    ] {
        for (method, path, body) in [
            ("POST", format!("/message/{channel}"), r#"{"message":1}"#),
            ("POST", format!("/channel/{channel}"), ""),
            ("POST", format!("/v1/channels/{channel}/messages"), r#"{"data":1}"#),
            ("GET", format!("/v1/channels/{channel}/messages"), ""),
            ("POST", format!("/v1/channels/{channel}/tokens"), ""),
        ] {
            let answer = server.ask(method, &path, SHOP, body);
            if is_own {
                assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
            } else if path.starts_with("/v1") {
                answer.check(403, r#""code":"channel_not_allowed""#);
            } else {
                answer.check(403, r#"{"success": false, "message": "The API key is not for this channel."}"#);
            }
        }
    }

    let batch = r#"{"channels":["user-7","elsewhere",""],"data":1}"#;
    let answer = server.ask("POST", "/v1/messages", SHOP, batch);
    answer.check(200, r#"{"stored":1,"failed":2,"results":[{"channel":"user-7","status":201,"#);
    answer.check(200, r#"{"channel":"elsewhere","status":403,"code":"channel_not_allowed","detail":"The API key is not for this channel."}"#);
    answer.check(200, r#"{"channel":"","status":400,"code":"invalid_channel""#);
    server.ask("GET", "/v1/channels/elsewhere", MASTER, "").check(200, r#""next_offset":1,"#);

    let token = |channel: &str| {
        let answer = server.ask("POST", &format!("/channel/{channel}"), MASTER, "");
        answer.body.split('"').nth(5).unwrap().to_owned()
    };
    let (own, other) = (token("user-9"), token("elsewhere"));
    server.ask("DELETE", &format!("/v1/tokens/{other}"), SHOP, "").check(403, "channel_not_allowed");
    assert_eq!(token("elsewhere"), other, "it still opens its channel");
    server.ask("DELETE", "/v1/tokens/unknown", SHOP, "").check(404, "not_found");
    server.ask("DELETE", &format!("/v1/tokens/{own}"), SHOP, "").check(200, r#""revoked":true"#);
}

#[test]
fn a_key_in_a_url_is_refused_and_never_logged() {
    let mut server = Server::start(&format!("auth_key = '{MASTER}'"), &usual_keys());
    for name in ["key", "api_key", "auth_key", "Authorization", "access_token", "x-api-key"] {
        for (method, path, body) in [
            ("POST", "/message/a", r#"{"message":1}"#),
            ("POST", "/channel/a", ""),
            ("POST", "/v1/channels/a/messages", r#"{"data":1}"#),
            ("GET", "/v1/channels/a/stream", ""),
        ] {
            // Also of a stranger, and also with the right key in its right place.
            for header in ["", &format!("Authorization: {MASTER}\r\n")] {
                let path = format!("{path}?a=1&{name}={PUBLISHER}");
                let answer = server.ask_with(method, &path, header, body);
                answer.check(400, "Send it in the header Authorization, and replace this one");
                answer.check(
                    400,
                    if path.starts_with("/v1") {
                        r#""code":"key_in_url""#
                    } else {
                        r#"{"success": false, "message": ""#
                    },
                );
            }
        }
    }
    server.ask("GET", "/v1/channels/a", MASTER, "").check(200, r#""next_offset":1,"#);
    server.reload("", &usual_keys(), "the configuration is reloaded");
    let log = server.heard.join("\n");
    for secret in [MASTER, PUBLISHER, READER, TOKENS, ADMIN, SHOP, PAST] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn each_refusal_is_counted_with_its_reason() {
    let server = Server::start(&format!("auth_key = '{MASTER}'"), &usual_keys());
    let count = |counter: &str| -> u64 {
        let page = server.ask("GET", "/metrics", MASTER, "").body;
        let value = page.lines().find_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    };
    let message = r#"{"message":1}"#;
    let of_channel = "channelapi_requests_refused_total{reason=\"channel\"}";
    for (counter, seed, v1) in [
        (r#"channelapi_requests_refused_total{reason="no_key"}"#, ("/message/a", ""), "/v1/channels/a"),
        (
            r#"channelapi_requests_refused_total{reason="wrong_key"}"#,
            ("/message/a", "wrong"),
            "/v1/channels/a",
        ),
        (r#"channelapi_requests_refused_total{reason="wrong_key"}"#, ("/message/a", PAST), "/v1/channels/a"),
        (r#"channelapi_requests_refused_total{reason="scope"}"#, ("/message/a", TOKENS), "/v1/channels/a"),
        (of_channel, ("/message/a", SHOP), "/v1/channels/a"),
        (
            r#"channelapi_requests_refused_total{reason="query"}"#,
            ("/message/a?key=x", MASTER),
            "/v1/channels/a?key=x",
        ),
        // Once, these were answered as if nothing was wrong.
        (r#"channelapi_requests_refused_total{reason="query"}"#, ("/readyz?api_key=x", ""), "/healthz?key=x"),
    ] {
        let before = count(counter);
        let header = if seed.1.is_empty() { String::new() } else { format!("Authorization: {}\r\n", seed.1) };
        server.ask_with("POST", seed.0, &header, message);
        server.ask_with("GET", v1, &header, "");
        assert_eq!(count(counter) - before, 2, "{counter}");
    }
    let before = count(of_channel);
    server
        .ask("POST", "/v1/messages", SHOP, r#"{"channels":["a","b","user-1"],"data":1}"#)
        .check(200, r#""failed":2"#);
    assert_eq!(count(of_channel) - before, 2);

    // The figures are about all channels, so a key for some does not see them.
    for (key, status) in
        [(READER, 200), (ADMIN, 200), (SHOP, 403), (PUBLISHER, 403), (PAST, 403), ("wrong", 403)]
    {
        assert_eq!(server.ask("GET", "/metrics", key, "").status, status, "{key}");
    }
}

#[test]
fn keys_are_replaced_while_connections_stay() {
    let old = key("backend", PUBLISHER, "'publish', 'read'", "");
    let reader = key("reader", READER, "'read'", "");
    let mut server = Server::start("", &[old.clone(), reader.clone()]);
    let mut stays = server.stream("/v1/channels/a/stream", READER);
    let mut ends = server.stream("/v1/channels/a/stream", PUBLISHER);
    let publish = |server: &Server, key: &str| server.ask("POST", "/message/a", key, r#"{"message":7}"#);
    assert_eq!(publish(&server, PUBLISHER).status, 200);
    assert_eq!(publish(&server, SHOP).status, 403);

    // Both for a while.
    let new = key("backend-2", SHOP, "'publish'", "");
    server.reload("", &[old, reader.clone(), new.clone()], "the configuration is reloaded");
    let told = server.heard.iter().find(|line| line.contains("the API keys are new")).unwrap();
    assert!(told.contains(r#""added":"[\"backend-2\"]","removed":"[]","changed":"[]""#), "{told}");
    assert_eq!((publish(&server, PUBLISHER).status, publish(&server, SHOP).status), (200, 200));

    // Then the old one goes, and whoever came in with it.
    server.reload("", &[reader, new], "the configuration is reloaded");
    assert_eq!((publish(&server, PUBLISHER).status, publish(&server, SHOP).status), (403, 200));
    let mut all = String::new();
    ends.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("data: 7").count(), 3, "{all}");

    let mut line = String::new();
    for _ in 0..4 {
        while !line.starts_with("data: 7") {
            line.clear();
            assert_ne!(stays.read_line(&mut line).unwrap(), 0, "the stream of the other key goes on");
        }
        line.clear();
    }
}

#[test]
fn a_mistake_keeps_everything_as_it_was() {
    let keys = [key("backend", PUBLISHER, "'publish'", "")];
    let mut server = Server::start("", &keys);
    let refused = "everything stays as it was";
    let other = [key("other", SHOP, "'publish'", "")];
    let works = |server: &Server| {
        let status = |key| server.ask("POST", "/message/a", key, r#"{"message":1}"#).status;
        assert_eq!((status(PUBLISHER), status(SHOP)), (200, 403));
    };

    server.reload("prot = 1", &other, "unknown key `prot`; did you mean `port`?");
    server.wait_for(refused);
    works(&server);
    let weak = [key("other", SHOP, "'publish'", ""), key("empty", "", "'publish'", "")];
    server.reload("", &weak, "the key file empty.key of the auth key `empty` is empty");
    server.wait_for(refused);
    works(&server);

    // It can be mended, and what needs a restart is said.
    let top = "data_dir = './elsewhere'\nhttp.cors_origins = ['https://a.example']";
    server.reload(top, &other, "the configuration is reloaded");
    let said = |part: &str| server.heard.iter().any(|line| line.contains(part));
    assert!(
        said(r#""message":"an option has changed and needs a restart","option":"data_dir""#),
        "{:#?}",
        server.heard
    );
    assert!(said(r#""message":"an option has changed","option":"http.cors_origins""#), "{:#?}", server.heard);
    let connect = |origin: &str| {
        let headers = format!("Origin: {origin}\r\n");
        server.ask_with("GET", "/socket.io/?EIO=4&transport=polling", &headers, "").status
    };
    assert_eq!((connect("https://a.example"), connect("https://b.example")), (200, 403));
    let status = |key| server.ask("POST", "/message/a", key, r#"{"message":1}"#).status;
    assert_eq!((status(PUBLISHER), status(SHOP)), (403, 200));
}

/// A reload with another `data_dir`, which needs a restart, made a key there, and the one that every backend had was refused.
#[test]
fn a_key_that_was_made_at_the_start_counts_until_a_restart() {
    let mut server = Server::start("", &[]);
    let made = fs::read_to_string(server.dir.path().join("data/auth_key")).unwrap();
    for keys in [vec![], vec![key("other", SHOP, "'publish'", "")], vec![]] {
        server.reload("data_dir = './elsewhere'", &keys, "the configuration is reloaded");
        let expected = if keys.is_empty() { (200, 403) } else { (403, 200) };
        let status = |key: &str| server.ask("POST", "/message/a", key.trim(), r#"{"message":1}"#).status;
        assert_eq!((status(&made), status(SHOP)), expected);
    }
    assert!(!server.dir.path().join("elsewhere").exists());
}

/// A file that was found by searching once counted as none when it was gone, and nobody was let in any more.
#[test]
fn a_file_that_is_gone_keeps_everything_as_it_was() {
    let keys = [key("backend", PUBLISHER, "'publish'", "")];
    let mut server = Server::start("", &keys);
    fs::remove_file(server.dir.path().join("channelapi.toml")).unwrap();
    server.hang_up("cannot read the configuration file ./channelapi.toml");
    server.wait_for("everything stays as it was");
    server.ask("POST", "/message/a", PUBLISHER, r#"{"message":1}"#).check(200, "");
    server.reload("", &keys, "the configuration is reloaded");
}

#[test]
fn other_issuers_of_jwts_are_said() {
    let keys = [key("backend", PUBLISHER, "'publish'", "")];
    let mut server = Server::start("", &keys);
    for secret in ["one of 32 bytes or more, as it must be", "another of 32 bytes or more, of course"] {
        let issuer = format!("[[jwt]]\nsecret = '{secret}'");
        server.reload(&issuer, &keys, "the issuers of JWTs have changed");
        server.wait_for("the configuration is reloaded");
    }
}

#[test]
fn a_start_that_fails_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let authority = ["--acme-domains=push.example.test", "--acme-terms-agreed", "--acme-ca-file=none.pem"];
    let ended = Command::new(env!("CARGO_BIN_EXE_channelapi"))
        .current_dir(dir.path())
        .args(["--port=0", "--address=127.0.0.1"])
        .args(authority)
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(
        said.contains("error: acme.ca_file: cannot use none.pem: ") && said.contains("No such"),
        "{said}"
    );
    assert_eq!(ended.status.code(), Some(78), "{said}");
}

#[test]
fn how_much_is_logged_can_be_changed() {
    let mut server = Server::start("", &[key("backend", PUBLISHER, "'publish'", "")]);
    let quiet = [key("other", SHOP, "'publish'", "")];
    server.reload("log.level = 'warn'", &quiet, "reading the configuration again");
    // Nothing says any more that it is done, but the new key is let in.
    while server.ask("POST", "/message/a", SHOP, r#"{"message":1}"#).status != 200 {}
    server.reload("", &quiet, "the configuration is reloaded");
    let count = |part: &str| server.heard.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("the configuration is reloaded"), 1, "{:#?}", server.heard);
    assert_eq!(count("the API keys are new"), 0, "{:#?}", server.heard);
    assert_eq!(count(r#""option":"log.level","before":"warn","now":"trace""#), 1, "{:#?}", server.heard);
}

#[test]
fn the_process_leaves_no_core() {
    let server = Server::start("", &[key("backend", PUBLISHER, "'publish'", "")]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.running.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}
