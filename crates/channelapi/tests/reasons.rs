//! Reasons for which the real server refuses, closes and puts out that need more than bytes to be provoked: each is counted as what it was.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod skipped;

use node::{Client, KEY, Node, ask, eventually, pause_in};
use rusqlite::Connection;
use skipped::skipped;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;

/// Where a client stands that comes back.
struct Stand {
    pid: String,
    checkpoint: String,
}

/// Enters with a token, as somebody who stands somewhere or for the first time.
fn enter_with(node: &Node, token: &str, stand: Option<&Stand>) -> (Client, Stand) {
    let before = stand.map_or_else(String::new, |Stand { pid, checkpoint }| {
        format!(r#","pid":"{pid}","offset":"{checkpoint}""#)
    });
    let mut client = Client::open(node, &[]).unwrap();
    client.send(&format!(r#"40{{"token":"{token}"{before}}}"#)).unwrap();
    let admission = client.await_text("40{");
    let pid = admission.split(r#""pid":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let checkpoint = client.await_text("checkpoint").split('"').nth(3).unwrap().to_owned();
    (client, Stand { pid, checkpoint })
}

/// Asks for an event stream on a connection that stays open. The status of the answer comes along.
fn stream(node: &Node, query: &str, headers: &[(&str, &str)]) -> (TcpStream, u16) {
    let mut connection = node.connect();
    let answer = ask(&mut connection, "GET", &format!("/v1/channels/a/stream{query}"), headers, "").unwrap();
    (connection, answer.status)
}

#[test]
fn what_clients_send_and_how_they_leave_is_counted() {
    let node = Node::start("");
    let token = node.token("a");
    let publish = |headers: &[(&str, &str)]| {
        let headers = [&[("Authorization", KEY)], headers].concat();
        node.request("POST", "/v1/channels/a/messages", &headers, r#"{"data":1}"#).status
    };
    let once = [("Idempotency-Key", "one")];
    assert_eq!([publish(&once), publish(&once)], [201, 200]);
    assert_eq!(node.metric("channelapi_publication_repeats_total"), 1);

    let mut client = Client::join(&node, &token);
    client.send(r#"421["ack",{"channel":"a","offset":1}]"#).unwrap();
    client.await_text(r#"431[{"offset":1"#);
    assert_eq!(node.metric("channelapi_events_total{event=\"ack\"}"), 1);
    client.send(r#"422["auth",{"token":"no-jwt"}]"#).unwrap();
    client.await_text(r#"432[{"error""#);
    assert_eq!(node.metric("channelapi_events_total{event=\"auth\"}"), 1);
    publish(&[]);
    client.await_text(r#"42["message",1]"#);
    node.await_metric("channelapi_delivered_bytes_total", |bytes| bytes >= 16);
    client.send("1").unwrap();
    node.await_metric("channelapi_disconnects_total{reason=\"client\"}", |count| count == 1);
}

#[test]
fn whoever_comes_back_is_counted_with_what_came_of_it() {
    let node = Node::start("");
    let token = node.token("a");
    let (mut stale, stand) = enter_with(&node, &token, None);
    let (_again, stand) = enter_with(&node, &token, Some(&stand));
    assert_eq!(node.metric("channelapi_resumes_total{result=\"complete\"}"), 1);
    assert_eq!(stale.rest().1, None, "it is closed, and nothing keeps it from coming back");
    node.await_metric("channelapi_disconnects_total{reason=\"replaced\"}", |count| count == 1);
    let nowhere = Stand { checkpoint: "no-checkpoint".to_owned(), ..stand };
    enter_with(&node, &token, Some(&nowhere));
    assert_eq!(node.metric("channelapi_resumes_total{result=\"gap\"}"), 1);
    assert_eq!(node.metric("channelapi_gaps_total"), 1);
    let mut client = Client::enter(&node);
    client.send(&format!(r#"421["join_channel",{{"token":"{token}","since":"nowhere"}}]"#)).unwrap();
    client.await_text("no_cursor");
    assert_eq!(stream(&node, "?since=nowhere", &[("Authorization", KEY)]).1, 200);
    assert_eq!(node.metric("channelapi_gaps_total"), 3, "by every door");
}

#[test]
fn a_session_that_changes_its_transport_is_counted() {
    let node = Node::start("");
    let mut client = Client::upgrading(&node);
    client.send("2probe").unwrap();
    client.await_text("3probe");
    client.send("5").unwrap();
    client.send("40").unwrap();
    client.await_text("40{");
    assert_eq!(node.metric("channelapi_upgrades_total"), 1);
}

/// Once, a stream that was refused for its token or its page was counted nowhere, nor one that the server had ended.
#[test]
fn a_stream_that_is_refused_or_ended_is_counted_with_its_reason() {
    let node = Node::start("[http]\ncors_origins = ['https://good.example']\n");
    let token = node.token("a");
    assert_eq!(stream(&node, "?token=guessed", &[]).1, 403);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"token\"}"), 1);
    let page = [("Authorization", KEY), ("Origin", "https://evil.example")];
    assert_eq!(stream(&node, "", &page).1, 403);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"origin\"}"), 1);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"no_key\"}"), 0, "and as nothing else");

    let (mut listening, status) = stream(&node, &format!("?token={token}"), &[]);
    let mut client = Client::join(&node, &token);
    assert_eq!((status, node.metric("channelapi_clients_revoked_total")), (200, 0));
    assert_eq!(node.call("DELETE", "/v1/channels/a/tokens", "").status, 200);
    client.await_text("41");
    listening.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(node.metric("channelapi_clients_revoked_total"), 2);
    assert_eq!(
        node.metric("channelapi_disconnects_total{reason=\"revoked\"}"),
        1,
        "the client may stay outside"
    );
    assert_eq!(node.call("POST", "/v1/revocations", r#"{"channel":"b"}"#).status, 201);
    assert_eq!(node.metric("channelapi_revocations_total"), 1);
}

/// Once, the first of two origins counted, which a proxy may not have looked at; and a page was told that its API key was wrong.
#[test]
fn a_page_that_may_not_read_a_stream_is_told_why() {
    let node = Node::start("[http]\ncors_origins = ['https://good.example']\n");
    let path = format!("/v1/channels/a/stream?token={}", node.token("a"));
    let (good, evil) = (("Origin", "https://good.example"), ("Origin", "https://evil.example"));
    let check = |origins: &[(&str, &str)], status: u16, code: &str| {
        let answer = node.request("GET", &path, origins, "");
        assert!(
            answer.status == status && answer.body.contains(&format!("\"code\":\"{code}\"")),
            "{answer:?}"
        );
        assert!(!answer.body.contains("API key") && answer.body.contains("origin"), "{answer:?}");
    };
    assert_eq!(stream(&node, path.split_once("stream").unwrap().1, &[good]).1, 200);
    check(&[evil], 403, "origin_not_allowed");
    check(&[good, evil], 400, "invalid_origin");
    check(&[evil, good], 400, "invalid_origin");
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"origin\"}"), 1);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"invalid\"}"), 2);
}

/// Once, any page that somebody opened in a browser could read all channels of a server on their machine with a key that it guessed.
#[test]
fn a_key_that_a_page_brings_opens_no_stream_where_any_page_may_come_in() {
    let (any, named) = (Node::start(""), Node::start("[http]\ncors_origins = ['https://page.example']\n"));
    let page = ("Origin", "https://page.example");
    let [good, wrong] = [("Authorization", KEY), ("X-API-Key", "a key that was guessed")];
    let path = "/v1/channels/a/stream";
    let [judged, guessed] = [good, wrong].map(|key| any.request("GET", path, &[page, key], ""));
    assert_eq!(judged.status, 403, "{judged:?}");
    assert!(
        judged.body.contains("origin_not_allowed") && judged.body.contains("Give it a token"),
        "{judged:?}"
    );
    let told = |answer: &node::Answer| answer.body.split("request_id").next().unwrap().to_owned();
    assert_eq!(told(&judged), told(&guessed), "it does not learn whether a key is good");
    assert_eq!(any.metric("channelapi_requests_refused_total{reason=\"origin\"}"), 2);
    assert_eq!(any.request("GET", path, &[page], "").status, 403);
    let several = any.request("GET", path, &[page, good, good], "");
    assert!(several.status == 400 && several.body.contains("several"), "{several:?}");
    let query = format!("?token={}", any.token("a"));
    assert_eq!(stream(&any, &query, &[page, wrong]).1, 200, "a token does");
    assert_eq!(stream(&any, "", &[good]).1, 200, "what is no page");
    assert_eq!(stream(&named, "", &[page, good]).1, 200, "a page that somebody has named");
}

/// Once, a page that opens streams by itself could not come back to where it was: the browser asks before it sends `Last-Event-ID`.
#[test]
fn a_page_may_say_where_it_was_when_it_opens_a_stream() {
    let node = Node::start("[http]\ncors_origins = ['https://good.example']\n");
    let ask = |path: &str, origin: &str| {
        let asked = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "cache-control,last-event-id"),
        ];
        node.request("OPTIONS", path, &asked, "")
    };
    let stream = "/v1/channels/a/stream?token=x";
    let answer = ask(stream, "https://good.example");
    assert_eq!(answer.status, 204, "{answer:?}");
    let allowed = |name| answer.header(name);
    assert_eq!(allowed("access-control-allow-origin"), Some("https://good.example"));
    assert_eq!(allowed("access-control-allow-methods"), Some("GET"));
    assert_eq!(allowed("access-control-allow-headers"), Some("cache-control,last-event-id"));
    let refused = ask(stream, "https://evil.example");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None), "{refused:?}");
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"origin\"}"), 1);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"no_key\"}"), 0, "it has none to send");
    for path in ["/v1/channels/a/messages", "/v1/nothing/a/stream", "/v1/channels/a/b/stream"] {
        assert_eq!(ask(path, "https://good.example").status, 403, "{path}");
    }
}

/// Once, streams were counted for nobody: through a proxy, one token took all connections of the node, also those kept for publishers.
#[test]
fn streams_are_clients_of_their_address_and_of_the_node() {
    let node = Node::start(
        "[http]\ntrusted_proxies = ['127.0.0.1']\n[limits]\nconnections_per_address = 2\nconnections = 4\n",
    );
    let query = format!("?token={}", node.token("a"));
    let open = |headers: &[(&str, &str)]| stream(&node, &query, headers);
    let [first, second, third] =
        ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map(|address| [("X-Forwarded-For", address)]);
    let streams = [open(&first), open(&first)];
    assert_eq!(streams.each_ref().map(|(_, status)| *status), [200, 200]);
    let refused = node.request("GET", &format!("/v1/channels/a/stream{query}"), &first, "");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("10")));
    assert!(refused.body.contains("\"code\":\"too_many_from_address\""), "{refused:?}");
    let with_key = [first[0], ("Authorization", KEY)];
    assert_eq!(stream(&node, "", &with_key).1, 429, "whatever it brings");
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"address\"}"), 2);
    assert_eq!(Client::open(&node, &first).err().map(|answer| answer.status), Some(429), "no socket either");
    let other = [open(&second), open(&second)];
    assert_eq!(other.each_ref().map(|(_, status)| *status), [200, 200]);

    assert_eq!(node.metric("channelapi_event_streams"), 4);
    let refused = node.request("GET", &format!("/v1/channels/a/stream{query}"), &third, "");
    assert!(refused.status == 503 && refused.body.contains("\"code\":\"too_many_clients\""), "{refused:?}");
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"node\"}"), 1);
    assert_eq!(Client::open(&node, &third).err().map(|answer| answer.status), Some(503));
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    drop(streams);
    node.await_metric("channelapi_event_streams", |streams| streams == 2);
    assert_eq!(open(&first).1, 200, "its places are free again");
}

/// Any status but 200 ends an `EventSource` for good: a page that came back while the server had no room for it was deaf.
#[test]
fn a_page_that_cannot_have_its_stream_now_is_told_to_come_again() {
    let node = Node::start("[http]\ntrusted_proxies = ['127.0.0.1']\n[limits]\nfailed_tokens = 1\n");
    let page = [
        ("X-Forwarded-For", "203.0.113.1"),
        ("Accept", "text/event-stream"),
        ("Origin", "https://page.example"),
    ];
    assert_eq!(stream(&node, "?token=guessed", &page).1, 403, "what is not good does not become good");
    let again = node.request("GET", "/v1/channels/a/stream?token=guessed2", &page, "");
    assert!(again.status == 200 && (2_500..=7_500).contains(&pause_in(&again.body)), "{again:?}");
    assert_eq!(again.header("content-type"), Some("text/event-stream"));
    assert_eq!(again.header("access-control-allow-origin"), Some("*"), "or the page would not get it");
    assert_eq!(stream(&node, "?token=guessed", &page[..1]).1, 429, "who has not asked for events");
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"token_rate\"}"), 2, "both");
}

/// A token is renewed by joins alone, so whoever stays outlives it. Revoking it was answered 404 then, and they stayed.
#[test]
fn whoever_came_in_with_a_token_that_died_of_age_goes_when_it_is_revoked() {
    let node = Node::start("");
    let token = node.token("a");
    let mut client = Client::join(&node, &token);
    let (mut listening, status) = stream(&node, &format!("?token={token}"), &[]);
    assert_eq!(status, 200);
    state_of(&node).execute("UPDATE token SET expires_at = 1", []).unwrap();
    let path = format!("/v1/tokens/{token}");
    let ended = node.call("DELETE", &path, "");
    assert_eq!((ended.status, &*ended.body), (200, r#"{"channel":"a","revoked":false,"disconnected":2}"#));
    client.await_text("41");
    listening.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(node.call("DELETE", &path, "").status, 404, "nobody knows it any more");
}

/// Once, whoever brought a token that had ended, or was for another channel, was told to send the API key.
#[test]
fn a_token_that_opens_no_stream_is_told_why() {
    let node = Node::start("[[jwt]]\nsecret = 'a secret of the tests, with more than 32 bytes'\n");
    let sign = |channels: &str| {
        let mut sign = Command::new(env!("CARGO_BIN_EXE_channelapi"));
        sign.current_dir(node.dir.path()).args(["jwt", "sign", "--sub", "ann", "--channels", channels]);
        String::from_utf8(sign.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let (jwt, foreign_jwt, foreign) = (sign("a"), sign("b"), node.token("b"));
    let check = |token: &str, code: &str| {
        let origin = [("Origin", "https://app.example.com")];
        let answer = node.request("GET", &format!("/v1/channels/a/stream?token={token}"), &origin, "");
        // A page that may not read why asks again and again.
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
        assert!(answer.status == 403 && answer.body.contains(&format!("\"code\":\"{code}\"")), "{answer:?}");
        assert!(!answer.body.contains("API key") && answer.body.contains("token"), "{answer:?}");
    };
    assert_eq!(stream(&node, &format!("?token={jwt}"), &[]).1, 200);
    check("guessed", "token_invalid");
    check(&foreign, "not_granted");
    check(&foreign_jwt, "not_granted");
    assert_eq!(node.call("POST", "/v1/revocations", r#"{"subject":"ann"}"#).status, 201);
    check(&jwt, "token_revoked");
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"token\"}"), 4);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"no_key\"}"), 0);
}

/// Once, a connection was closed with the body of a request on it that nobody wanted, and nothing counted it.
#[test]
fn a_body_that_nobody_wants_and_nobody_waits_for_is_counted() {
    let node = Node::start("");
    let (large, late) = (
        "channelapi_http_refused_total{reason=\"too_large\"}",
        "channelapi_http_timeouts_total{stage=\"body\"}",
    );
    for (length, sent, counts) in [(3 << 20, 2 << 20, [1, 0]), (1_000, 1, [1, 1]), (1_000, 1_000, [1, 1])] {
        let mut connection = node.connect();
        write!(connection, "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").unwrap();
        // The server may have hung up in the middle.
        _ = connection.write_all(&vec![b'x'; sent]);
        let mut status = [0; 12];
        connection.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        assert_eq!([node.metric(large), node.metric(late)], counts, "{sent} of {length} bytes");
    }
}

#[test]
fn a_client_that_wants_more_when_memory_has_become_short_is_closed() {
    let node = Node::start("");
    let token = node.token("a");
    let mut clients = [Client::enter(&node), Client::open(&node, &[]).unwrap()];
    let path = node.dir.path().join("channelapi.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{settings}\n[limits]\nmemory = '2MiB'\n")).unwrap();
    node.signal("-HUP");
    node.await_metric("channelapi_memory_limit_bytes", |limit| limit == 2 << 20);
    // By both doors. They are to come back later, so they are told nothing.
    clients[0].send(&format!(r#"42["join_channel",{{"token":"{token}"}}]"#)).unwrap();
    clients[1].send(&format!(r#"40{{"token":"{token}"}}"#)).unwrap();
    for client in &mut clients {
        assert_eq!(client.rest().1, None);
    }
    assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"memory\"}"), 2);
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"memory\"}"), 2);
}

#[test]
fn a_process_has_no_more_connections_than_its_file_descriptors_allow() {
    const FILES: usize = 256;
    if !Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_ok_and(|it| it.success()) {
        skipped("there is no prlimit here, so file descriptors cannot be limited");
        return;
    }
    let node = Node::start_by(&["prlimit", &format!("--nofile={FILES}:{FILES}")], "");
    // Each is served, and stays.
    let mut kept = Vec::new();
    let refused = loop {
        assert!(kept.len() < FILES, "all of {FILES} are taken");
        let mut connection = node.connect();
        let answer = ask(&mut connection, "GET", "/healthz", &[], "").unwrap();
        if answer.status != 200 {
            break answer;
        }
        kept.push(connection);
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    let page = ask(&mut kept[0], "GET", "/metrics", &[("Authorization", KEY)], "").unwrap().body;
    assert!(page.contains("\nchannelapi_connections_refused_total{reason=\"node\"} 1\n"), "{page}");
    assert!(
        page.contains("\nchannelapi_connections_refused_total{reason=\"file_descriptors\"} 0\n"),
        "{page}"
    );
}

/// The file that holds tokens, and what consumers have confirmed.
fn state_of(node: &Node) -> Connection {
    Connection::open(node.dir.path().join("data/state.db")).unwrap()
}

#[test]
fn a_channel_has_no_more_consumers_than_it_may() {
    let node = Node::start("");
    let token = node.token("a");
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    let mut client = Client::join(&node, &token);
    let mut confirm = |consumer: &str, answer: &str| {
        client.send(&format!(r#"421["ack",{{"channel":"a","offset":1,"consumer":"{consumer}"}}]"#)).unwrap();
        let answered = client.await_text("431[");
        assert!(answered.contains(answer), "{answered}");
    };
    confirm("first", r#"{"offset":1"#);
    let others = "WITH RECURSIVE number(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM number WHERE n < 10000) \
                  INSERT INTO consumer SELECT 'a', n, (SELECT epoch FROM consumer WHERE consumer = 'first'), 1, 1 FROM number";
    assert_eq!(state_of(&node).execute(others, []).unwrap(), 9_999);
    confirm("one more", r#""too_many_consumers""#);
    assert_eq!(node.metric("channelapi_acks_refused_total{reason=\"consumers\"}"), 1);
    confirm("7", r#"{"offset":1"#);
}

/// Once, a join from what was unread that nobody could look up was refused, and counted nowhere.
#[test]
fn what_the_state_cannot_answer_is_refused_and_counted() {
    let node = Node::start("");
    let token = node.token("a");
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    let mut client = Client::join(&node, &token);
    state_of(&node).execute_batch("DROP TABLE consumer").unwrap();
    client.send(r#"421["ack",{"channel":"a","offset":1}]"#).unwrap();
    client.await_text(r#"431[{"error":{"code":"unavailable""#);
    assert_eq!(node.metric("channelapi_acks_refused_total{reason=\"unavailable\"}"), 1);
    for (number, since) in [(1, r#""unread""#), (2, r#""all""#)] {
        let join = format!(r#"422["join_channel",{{"token":"{token}","since":{since}}}]"#);
        client.send(&join).unwrap();
        client.await_text(r#"432[{"error":{"code":"unavailable""#);
        assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"unavailable\"}"), number, "{since}");
    }
    assert_eq!(node.call("GET", "/v1/channels/a/consumers", "").status, 503);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"unavailable\"}"), 1);
}

/// Once, it was counted as if the server had been stopping.
#[test]
fn a_client_whose_token_cannot_be_looked_up_is_sent_away_to_come_back() {
    let node = Node::start("");
    state_of(&node).execute_batch("DROP TABLE token").unwrap();
    let mut client = Client::enter(&node);
    client.send(r#"42["join_channel",{"token":"good-as-far-as-anybody-knows"}]"#).unwrap();
    assert_eq!(client.rest().1, None, "it is closed, and nothing keeps it from coming back");
    node.await_metric("channelapi_disconnects_total{reason=\"unavailable\"}", |count| count == 1);
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"drain\"}"), 0);
    assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"unavailable\"}"), 1);
}

/// A disk that takes its time for each sync, until this is dropped.
struct SlowDisk(Child);

impl SlowDisk {
    /// If this machine lets us.
    fn under(node: &Node) -> Option<Self> {
        let slow =
            ["-f", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:delay_enter=60s", "-p"];
        let mut tracing = Command::new("strace");
        tracing.args(slow).arg(node.child.id().to_string()).stderr(Stdio::piped());
        let mut child = tracing.spawn().ok()?;
        let mut said = BufReader::new(child.stderr.take()?).lines().map_while(Result::ok);
        let is_attached = said.any(|line| line.contains("attached"));
        let disk = Self(child);
        // What it says further must not hold it up.
        thread::spawn(move || said.for_each(drop));
        is_attached.then_some(disk)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Once, the seed's route waited for as long as the disk did, and what was stored in the end was counted only if somebody still waited.
#[test]
fn a_disk_that_stands_still_is_not_waited_for_and_what_it_stores_is_counted() {
    let node = Node::start("");
    let Some(disk) = SlowDisk::under(&node) else {
        skipped("there is no strace here that may slow the disk down");
        return;
    };
    let requests = [("/message/a", r#"{"message":1}"#), ("/v1/channels/a/messages", r#"{"data":1}"#)];
    let mut publishers = requests.map(|(path, body)| {
        let mut connection = node.connect();
        let length = body.len();
        write!(
            connection,
            "POST {path} HTTP/1.1\r\nHost: test\r\nAuthorization: {KEY}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        connection
    });
    for publisher in &mut publishers {
        let answer = node::read_answer(publisher).unwrap();
        assert_eq!(answer.status, 504, "{answer:?}");
        assert!(answer.body.contains("did not answer within 10 seconds"), "{answer:?}");
    }
    assert!(node.metric("channelapi_publishing_bytes") > 0, "it still waits");
    drop(disk);
    node.await_metric("channelapi_publications_total", |count| count == 2);
    node.await_metric("channelapi_publishing_bytes", |bytes| bytes == 0);
}

#[test]
fn no_more_waits_for_a_slow_disk_than_may() {
    let node = Node::start("");
    let Some(disk) = SlowDisk::under(&node) else {
        skipped("there is no strace here that may slow the disk down");
        return;
    };
    // A megabyte each, and 64 may wait.
    let item = format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(250_000));
    let body = format!(r#"{{"messages":[{}]}}"#, [item.as_str(); 4].join(","));
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: test\r\nAuthorization: {KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut publishers: Vec<_> = (0..80)
        .map(|_| {
            let mut connection = node.connect();
            connection.write_all(head.as_bytes()).unwrap();
            connection.write_all(body.as_bytes()).unwrap();
            connection
        })
        .collect();
    let overloaded = "channelapi_requests_refused_total{reason=\"overloaded\"}";
    let refused = node.await_metric(overloaded, |count| count > 0);
    assert!(refused <= 20 * 4, "{refused} of {} messages are refused", 80 * 4);
    drop(disk);
    // Whoever was let in had to wait for longer than a publisher is kept waiting, or not.
    for publisher in &mut publishers {
        let answer = node::read_answer(publisher).unwrap();
        assert!([200, 504].contains(&answer.status), "{answer:?}");
    }
    eventually("an end of what waits", || (node.metric("channelapi_publishing_bytes") == 0).then_some(()));
}
