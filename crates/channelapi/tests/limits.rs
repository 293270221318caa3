//! Limits of the real server, and the metrics that tell of them.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod program;
mod skipped;

use jsonwebtoken::{EncodingKey, Header};
use node::{Client, Node, UPGRADE, eventually};
use skipped::skipped;
use std::io::{Read as _, Write as _};
use std::time::SystemTime;

#[test]
fn metrics_are_for_whoever_has_the_key() {
    let node = Node::start("");
    let refused = node.request("GET", "/metrics", &[], "");
    assert_eq!((refused.status, refused.body.contains("need an API key")), (403, true), "{refused:?}");
    let wrong = node.request("GET", "/metrics", &[("Authorization", "Bearer wrong")], "");
    assert_eq!(wrong.status, 403);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"no_key\"}"), 1);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"wrong_key\"}"), 1);
    let page = node.call("GET", "/metrics", "");
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!page.body.contains(node::KEY));
}

#[test]
fn what_happens_is_counted() {
    let node = Node::start("");
    let token = node.token("a");
    let mut clients: Vec<_> = (0..3).map(|_| Client::join(&node, &token)).collect();
    assert_eq!(node.metric("channelapi_connections"), 3);
    node.await_metric("channelapi_http_connections", |sockets| sockets == 1);
    assert_eq!(node.metric("channelapi_channels"), 1);
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    for client in &mut clients {
        client.await_text(r#"42["message",1]"#);
    }
    assert_eq!(node.metric("channelapi_publications_total"), 1);
    node.await_metric("channelapi_deliveries_total", |deliveries| deliveries == 3);
    drop(clients);
    node.await_metric("channelapi_connections", |connections| connections == 0);
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"lost\"}"), 3);
    assert_eq!(node.metric("channelapi_events_total{event=\"join_channel\"}"), 3);
    assert_eq!(node.metric("channelapi_panics_total"), 0);

    let mut stranger = Client::enter(&node);
    stranger.send(r#"42["join_channel",{"token":"unknown"}]"#).unwrap();
    stranger.await_text("41");
    assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"token\"}"), 1);
}

/// Settings under which a test can be any stranger.
const STRANGERS: &str = "[http]\ntrusted_proxies = ['127.0.0.1']\n[limits]\n";

fn from(address: &str) -> [(&str, &str); 1] {
    [("X-Forwarded-For", address)]
}

fn status_of_open(node: &Node, address: &str) -> Result<Client, u16> {
    Client::open(node, &from(address)).map_err(|answer| answer.status)
}

#[test]
fn one_address_takes_no_room_from_another() {
    let node = Node::start(&format!("{STRANGERS}connections_per_address = 2\n"));
    let first = status_of_open(&node, "203.0.113.1").unwrap_or_else(|status| panic!("{status}"));
    let _second = status_of_open(&node, "203.0.113.1").unwrap_or_else(|status| panic!("{status}"));
    let refused = Client::open(&node, &from("203.0.113.1")).err().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("10")));
    assert_eq!(node.metric("channelapi_handshakes_refused_total{reason=\"address\"}"), 1);
    assert!(status_of_open(&node, "203.0.113.2").is_ok());
    let networks = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "2001:db8:1:2::3"];
    let statuses: Vec<_> = networks.iter().map(|address| status_of_open(&node, address)).collect();
    assert_eq!(statuses.iter().filter(|status| status.is_ok()).count(), 2, "a /64 is one address");
    let neighbours: Vec<_> = (0..10).map(|_| Client::open(&node, &[])).collect();
    assert!(neighbours.iter().all(Result::is_ok), "whoever is no stranger is not limited");

    drop(first);
    eventually("its place", || status_of_open(&node, "203.0.113.1").ok());
}

#[test]
fn strangers_learn_that_the_server_lives_and_no_more() {
    let node = Node::start(STRANGERS);
    let health = |headers: &[(&str, &str)]| {
        let answer = node.request("GET", "/healthz", headers, "");
        assert_eq!(answer.status, 200);
        answer.body
    };
    let all = format!(
        r#"{{"status": "ok", "version": "{}", "connections": 0, "channels": 0}}"#,
        env!("CARGO_PKG_VERSION")
    );
    let stranger = ("X-Forwarded-For", "203.0.113.1");
    assert_eq!(health(&[]), all, "a neighbour");
    assert_eq!(health(&[stranger, ("Authorization", node::KEY)]), all, "whoever may read everything");
    for headers in [
        &[stranger][..],
        &[stranger, ("Authorization", "a-key-that-nobody-has-given")],
        &[("Forwarded", "for=203.0.113.1")],
    ] {
        assert_eq!(health(headers), r#"{"status": "ok"}"#, "{headers:?}");
    }

    // A proxy that nobody named speaks for strangers all the same.
    let node = Node::start("");
    assert_eq!(node.request("GET", "/healthz", &[stranger], "").body, r#"{"status": "ok"}"#);
}

#[test]
fn the_clients_of_a_proxy_that_is_not_named_are_not_limited_and_the_log_says_so_once() {
    let mut node = Node::start("[limits]\nconnections_per_address = 1\n");
    let clients: Vec<_> = (0..5).map(|_| Client::open(&node, &from("203.0.113.1"))).collect();
    assert!(clients.iter().all(Result::is_ok));
    node.await_log("http.trusted_proxies");
    node.signal("-TERM");
    node.await_log("SIGTERM");
    assert_eq!(node.said.iter().filter(|line| line.contains("http.trusted_proxies")).count(), 1);
}

/// Once, nothing was said of them, and all were taken for neighbours.
#[test]
fn the_clients_of_a_named_proxy_that_does_not_name_them_are_not_limited_and_the_log_says_so_once() {
    const WARNING: &str = "does not say for whom it asks";
    let mut node = Node::start(&format!("{STRANGERS}connections_per_address = 1\n"));
    // Its own requests are nobody else's, and whoever is named is known.
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    assert_eq!(node.request("GET", "/healthz", &[], "").status, 200);
    assert_eq!(Client::open(&node, &from("203.0.113.1")).map(drop).ok(), Some(()));
    let clients: Vec<_> = ["unknown", "", "127.0.0.1"].map(|name| Client::open(&node, &from(name))).into();
    assert!(clients.iter().all(Result::is_ok));
    assert_eq!(node.request("GET", "/v1/channels/a/stream", &[], "").status, 403);
    node.await_log(WARNING);
    node.signal("-TERM");
    node.await_log("SIGTERM");
    assert_eq!(node.said.iter().filter(|line| line.contains(WARNING)).count(), 1);
}

#[test]
fn a_full_node_says_so_and_publishers_still_get_through() {
    let node = Node::start("[limits]\nconnections = 2\n");
    let token = node.token("a");
    let mut clients = [Client::join(&node, &token), Client::join(&node, &token)];
    for path in ["/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=websocket"] {
        let refused = node.request("GET", path, &UPGRADE, "");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{path}");
    }
    assert_eq!(node.metric("channelapi_handshakes_refused_total{reason=\"node\"}"), 2);
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    for client in &mut clients {
        client.await_text(r#"42["message",1]"#);
    }
    drop(clients);
    eventually("room", || Client::open(&node, &[]).ok());
}

#[test]
fn a_client_that_sends_too_much_is_put_out_and_stays_away() {
    let node = Node::start("[limits]\nevent_burst = 5\njoin_burst = 3\nevent_rate = 1\njoin_rate = 1\n");
    let token = node.token("a");
    let mut well_behaved = Client::join(&node, &token);
    let join = format!(r#"42["join_channel",{{"token":"{token}"}}]"#);
    for (text, count) in [(r#"42["ack",{}]"#, 6), (r#"42["anything"]"#, 6), (&*join, 4), ("430[]", 6)] {
        let mut flooder = Client::enter(&node);
        // In one piece, so that no rate has time to allow one more.
        let all: Vec<u8> = (0..count).flat_map(|_| node::masked(text)).collect();
        flooder.stream.write_all(&all).unwrap();
        let (texts, reason) = flooder.rest();
        assert_eq!(texts.last().map(String::as_str), Some("41"), "{text}: {texts:?}");
        assert_eq!(reason.as_deref(), Some("limit"), "{text}");
    }
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"limit\"}"), 4);
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    well_behaved.await_text(r#"42["message",1]"#);
}

#[test]
fn guessing_tokens_ends_for_the_address_that_does_it() {
    let node = Node::start(&format!("{STRANGERS}failed_tokens = 3\n"));
    let token = node.token("a");
    for guess in 0..3 {
        let mut guesser = status_of_open(&node, "203.0.113.1").unwrap_or_else(|status| panic!("{status}"));
        guesser.send(&format!(r#"40{{"token":"guessed{guess}"}}"#)).unwrap();
        guesser.await_text("token_invalid");
    }
    assert_eq!(status_of_open(&node, "203.0.113.1").err(), Some(429));
    assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"token\"}"), 3);
    assert_eq!(node.metric("channelapi_handshakes_refused_total{reason=\"token_rate\"}"), 1);
    let mut other = status_of_open(&node, "203.0.113.2").unwrap_or_else(|status| panic!("{status}"));
    other.send(&format!(r#"40{{"token":"{token}"}}"#)).unwrap();
    other.await_text("42[\"clientevent\"");

    for number in 0..4 {
        let path = format!("/v1/channels/a/stream?token=guessed{number}");
        let status = node.request("GET", &path, &from("203.0.113.3"), "").status;
        assert_eq!(status, if number < 3 { 403 } else { 429 }, "{number}");
    }
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"token_rate\"}"), 1);
}

/// Old stock clients come back with a token that was rotated for as long as they run, and kept out whoever had the new one at their address.
#[test]
fn clients_with_a_token_that_was_rotated_keep_nobody_out() {
    let node = Node::start(&format!("{STRANGERS}failed_tokens = 5\n"));
    let enter = |token: &str, expected: &str| {
        let mut client = status_of_open(&node, "203.0.113.1").unwrap_or_else(|status| panic!("{status}"));
        client.send(&format!(r#"40{{"token":"{token}"}}"#)).unwrap();
        client.await_text(expected);
    };
    (0..40).for_each(|_| enter("it was rotated", "token_invalid"));
    enter(&node.token("a"), "42[\"clientevent\"");
    for _ in 0..20 {
        let path = "/v1/channels/a/stream?token=rotated";
        assert_eq!(node.request("GET", path, &from("203.0.113.3"), "").status, 403);
    }
}

/// Once, clients of a server whose clock was behind that of the issuer kept each other out.
#[test]
fn a_jwt_whose_time_has_not_come_is_no_guess() {
    let secret = "a secret of the tests, with more than 32 bytes";
    let node = Node::start(&format!("{STRANGERS}failed_tokens = 1\n[[jwt]]\nsecret = '{secret}'\n"));
    let sign = |ahead: u64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + ahead;
        let claims = serde_json::json!({"iat": now, "exp": now + 600, "channels": ["a"]});
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))
            .unwrap()
    };
    let enter = |token: &str, expected: &str| {
        let mut client = status_of_open(&node, "203.0.113.1").unwrap_or_else(|status| panic!("{status}"));
        client.send(&format!(r#"40{{"token":"{token}"}}"#)).unwrap();
        client.await_text(expected);
    };
    for number in 0..40 {
        enter(&sign(3_600 + number), "token_not_yet_valid");
    }
    for number in 0..20 {
        let path = format!("/v1/channels/a/stream?token={}", sign(7_200 + number));
        let answer = node.request("GET", &path, &from("203.0.113.1"), "");
        assert!(answer.status == 403 && answer.body.contains("token_not_yet_valid"), "{answer:?}");
        let source = [from("203.0.113.1")[0], ("Accept", "text/event-stream")];
        let answer = node.request("GET", &path, &source, "");
        assert!(answer.status == 200 && answer.body.contains("retry: "), "{answer:?}");
    }
    enter(&sign(0), "42[\"clientevent\"");
    assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"not_yet_valid\"}"), 40);
}

#[test]
fn a_connection_that_guesses_is_told_that_it_was_too_much() {
    let node = Node::start(&format!("{STRANGERS}failed_tokens = 2\n"));
    let mut guesser = status_of_open(&node, "203.0.113.1").unwrap_or_else(|status| panic!("{status}"));
    for (guess, expected) in ["token_invalid", "token_invalid", "too_many_attempts"].iter().enumerate() {
        guesser.send(&format!(r#"40{{"token":"guessed{guess}"}}"#)).unwrap();
        guesser.await_text(expected);
    }
    assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"token_rate\"}"), 1);
}

#[test]
fn guessing_sessions_ends_too() {
    let node = Node::start(&format!("{STRANGERS}unknown_sessions = 2\n"));
    let guess = |address| {
        let path = "/socket.io/?EIO=4&transport=polling&sid=guessed";
        node.request("GET", path, &from(address), "").status
    };
    assert_eq!([guess("203.0.113.1"), guess("203.0.113.1"), guess("203.0.113.1")], [400, 400, 429]);
    assert_eq!(guess("203.0.113.2"), 400);
    assert_eq!(node.metric("channelapi_handshakes_refused_total{reason=\"unknown_session_rate\"}"), 1);
}

#[test]
fn connections_that_say_nothing_make_room_for_those_that_do() {
    let node = Node::start("[limits]\nhandshakes = 16\n");
    let mut silent: Vec<_> = (0..40).map(|_| node.connect()).collect();
    node.await_metric("channelapi_connections_refused_total{reason=\"handshakes\"}", |evicted| evicted >= 24);
    let mut byte = [0];
    assert_eq!(silent[0].read(&mut byte).unwrap(), 0, "the oldest goes first");
    assert!(Client::open(&node, &[]).is_ok());
    assert!(node.metric("channelapi_handshakes") <= 16);
    let newest = silent.last_mut().unwrap();
    assert_eq!(node::ask(newest, "GET", "/healthz", &[], "").unwrap().status, 200);
}

/// Once, whoever connected was closed as one of many who had said nothing, although its request was on its way.
#[test]
fn whoever_has_begun_a_request_keeps_its_place_while_others_say_nothing() {
    let node = Node::start("[limits]\nhandshakes = 16\n");
    let mut begun = node.connect();
    begun.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    let evicted = "channelapi_connections_refused_total{reason=\"handshakes\"}";
    node.await_metric("channelapi_handshakes", |waiting| waiting >= 1);
    let _silent: Vec<_> = (0..200).map(|_| node.connect()).collect();
    node.await_metric(evicted, |evicted| evicted >= 184);
    begun.write_all(b"Host: x\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    begun.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[test]
fn what_is_no_request_is_counted() {
    let node = Node::start("");
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: x\r\n".repeat(101));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
    let malformed = "channelapi_http_refused_total{reason=\"malformed\"}";
    let too_large = "channelapi_http_refused_total{reason=\"too_large\"}";
    let http2 = "channelapi_http_refused_total{reason=\"http2\"}";
    for (counter, sent, status) in [
        (malformed, "GET / HTTP/1.2\r\nHost: x\r\n\r\n", "HTTP/1.1 400"),
        (malformed, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", "HTTP/1.1 400"),
        (malformed, "\u{16}\u{3}\u{1}\0\u{7f}\u{1}\0\0\r\n\r\n", "HTTP/1.1 400"),
        (too_large, &large, "HTTP/1.1 431"),
        (too_large, &many, "HTTP/1.1 431"),
        (too_large, &long, "HTTP/1.1 431"),
        (http2, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
    ] {
        let before = node.metric(counter);
        let mut socket = node.connect();
        socket.write_all(sent.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // What it did not read makes the kernel say goodbye with a reset.
        _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(status), "{sent:.40}: {answer}");
        node.await_metric(counter, |counted| counted == before + 1);
    }
}

/// Hyper says nothing of it when nobody reads the body, and closes the connection.
#[test]
fn a_malformed_body_is_counted_whether_somebody_reads_it_or_not() {
    let node = Node::start("");
    let counter = "channelapi_http_refused_total{reason=\"malformed\"}";
    let sent = |head: &str, body: &str| {
        let mut socket = node.connect();
        write!(socket, "{head}\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}").unwrap();
        socket
    };
    let wanted = format!("POST /message/a HTTP/1.1\r\nAuthorization: {}", node::KEY);
    for (head, status) in [
        (wanted.as_str(), 400),
        ("POST /message/a HTTP/1.1", 403),
        ("POST /v1/channels/a/messages HTTP/1.1", 403),
        ("POST /nothing HTTP/1.1", 404),
        ("GET /healthz HTTP/1.1", 200),
        ("GET /socket.io/?EIO=4&transport=polling HTTP/1.1", 200),
        ("POST /socket.io/?EIO=4&transport=polling&sid=none HTTP/1.1", 400),
    ] {
        for body in ["zz\r\n", "1\r\n{\"message\":1}\r\n0\r\n\r\n", "1\r\n{\r\n-0\r\n\r\n"] {
            let before = node.metric(counter);
            let mut answers = String::new();
            _ = sent(head, body).read_to_string(&mut answers);
            assert!(answers.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answers}");
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{head}: {answers}");
            node.await_metric(counter, |counted| counted > before);
            assert_eq!(node.metric(counter), before + 1, "{head}: once");
        }
        // A client that goes away in the middle of its body breaks no rule, and one that ends it well may go on.
        let before = node.metric(counter);
        let mut socket = sent(head, "1\r\n{");
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        _ = socket.read_to_end(&mut Vec::new());
        let mut socket = sent(head, "2\r\n{}\r\n0\r\n\r\n");
        assert_eq!(node::read_answer(&mut socket).unwrap().status, status, "{head}");
        assert_eq!(node::ask(&mut socket, "GET", "/healthz", &[], "").unwrap().status, 200, "{head}");
        assert_eq!(node.metric(counter), before, "{head}");
    }
}

#[test]
fn a_server_without_memory_refuses_before_the_kernel_ends_it() {
    let node = Node::start("[limits]\nmemory = '2MiB'\n");
    node.await_metric("channelapi_memory_limit_bytes", |limit| limit == 2 << 20);
    let refused = node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.body.contains("short_of_memory"), "{refused:?}");
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 503);
    let refused = Client::open(&node, &[]).err().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(node.request("GET", "/readyz", &[], "").status, 503);
    assert_eq!(node.request("GET", "/healthz", &[], "").status, 200);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"memory\"}"), 2);
    assert_eq!(node.metric("channelapi_handshakes_refused_total{reason=\"memory\"}"), 1);
}

#[test]
fn a_channel_gets_no_more_than_it_may() {
    // One a second: publishing one after the other is faster than that on any disk, sooner or later.
    let node = Node::start("[limits]\npublish_rate_per_channel = 1\n");
    let publish = |channel| node.call("POST", &format!("/v1/channels/{channel}/messages"), r#"{"data":1}"#);
    assert_eq!(publish("a").status, 201);
    let refused = eventually("a refusal", || Some(publish("a")).filter(|answer| answer.status != 201));
    assert_eq!(refused.status, 429);
    assert!(refused.body.contains("rate_limited") && refused.header("retry-after") == Some("1"));
    assert_eq!(publish("b").status, 201);
    assert!(node.metric("channelapi_requests_refused_total{reason=\"channel_rate\"}") >= 1);
}

/// Once, all of them were sent together again and again, which is more than a second's, and none was ever stored.
#[test]
fn more_lines_than_a_channel_may_get_at_once_are_published_one_part_after_the_other() {
    let node = Node::start("[limits]\npublish_rate_per_channel = 100\n");
    // The rate is in effect a moment after the start.
    node.await_metric("channelapi_memory_limit_bytes", |limit| limit > 0);
    let mut publishing = std::process::Command::new(env!("CARGO_BIN_EXE_channelapi"))
        .current_dir(node.dir.path())
        .args(["publish", "a", "--stdin-lines"])
        .env_clear()
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    publishing.stdin.take().unwrap().write_all("x\n".repeat(300).as_bytes()).unwrap();
    let output = publishing.wait_with_output().unwrap();
    let said = ["published 300 lines to a: #1 to #300 ("];
    program::check(&output, 0, &said, &["(rate_limited); trying again"]);
}

#[test]
fn a_process_without_file_descriptors_still_answers_and_recovers() {
    let node = Node::start("");
    let mut publisher = node.connect();
    assert_eq!(node::ask(&mut publisher, "GET", "/healthz", &[], "").unwrap().status, 200);
    let used = node.metric("process_open_fds");
    // From now on there are twenty more.
    let limit = format!("--nofile={0}:{0}", used + 20);
    let pid = node.child.id().to_string();
    let limited = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    if !limited.is_ok_and(|status| status.success()) {
        skipped("there is no prlimit here, so file descriptors cannot be taken away");
        return;
    }
    let mut flood: Vec<_> = (0..60).map(|_| node.connect()).collect();
    // Those that there is no room for are told to come back, and the others are answered.
    let mut statuses: Vec<u16> = flood.iter_mut().rev().take(20).filter_map(refusal_of).collect();
    statuses.dedup();
    assert_eq!(statuses, [503]);
    let answer = node::ask(&mut publisher, "GET", "/metrics", &[("Authorization", node::KEY)], "").unwrap();
    let shed =
        node::value_in(&answer.body, "channelapi_connections_refused_total{reason=\"file_descriptors\"}");
    assert!((1..=60).contains(&shed), "{shed} were sent away");
    let before = cpu_ticks(&pid);
    // Whether it spins can only be seen by looking again later.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(cpu_ticks(&pid) - before < 20, "it does not spin");
    drop(flood);
    eventually("room", || {
        let mut stream = node.connect();
        node::ask(&mut stream, "GET", "/healthz", &[], "").ok().filter(|answer| answer.status == 200)
    });
}

/// What somebody is told who has not said anything.
fn refusal_of(stream: &mut std::net::TcpStream) -> Option<u16> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    node::read_answer(stream).ok().map(|answer| answer.status)
}

/// Processor time of a process, in hundredths of a second.
fn cpu_ticks(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_key_publishes_no_more_than_it_may_in_every_way_there_is() {
    let node = Node::start("[limits]\npublish_rate_per_key = 5\n");
    // The rate is in effect a moment after the start.
    node.await_metric("channelapi_memory_limit_bytes", |limit| limit > 0);
    let batch = r#"{"messages":[{"channel":"a","data":1},{"channel":"b","data":2},{"channel":"c","data":3},{"channel":"d","data":4}]}"#;
    let answer = node.call("POST", "/v1/messages", batch);
    assert!(answer.status == 200 && answer.body.contains("\"stored\":4"), "{answer:?}");
    let refused = eventually("a refusal", || {
        let answer = node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#);
        (answer.status == 429).then_some(answer)
    });
    assert!(refused.body.contains("key_rate_limited") && refused.header("retry-after") == Some("1"));
    eventually("a refusal of the other route", || {
        (node.call("POST", "/message/a", r#"{"message":1}"#).status == 429).then_some(())
    });
    assert!(node.metric("channelapi_requests_refused_total{reason=\"key_rate\"}") >= 2);
    eventually("the next second", || {
        (node.call("POST", "/message/a", r#"{"message":1}"#).status == 200).then_some(())
    });
}

#[test]
fn limits_change_without_a_restart() {
    let mut node = Node::start("[limits]\nconnections = 1\n");
    let first = Client::open(&node, &[]);
    assert!(first.is_ok());
    assert_eq!(Client::open(&node, &[]).err().map(|answer| answer.status), Some(503));
    let path = node.dir.path().join("channelapi.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, settings.replace("connections = 1", "connections = 2")).unwrap();
    node.signal("-HUP");
    node.await_log("limits.connections");
    let _second = eventually("the new limit", || Client::open(&node, &[]).ok());
    assert_eq!(Client::open(&node, &[]).err().map(|answer| answer.status), Some(503));
}
