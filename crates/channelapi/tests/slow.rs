//! The real server where little may wait for slow clients, and one address takes all that it can get of it.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Client, Node, PATIENCE, POLLING};
use std::io::Write as _;
use std::net::TcpStream;

/// Settings under which a test can be any stranger.
const SETTINGS: &str = "[http]\ntrusted_proxies = ['127.0.0.1']\n[limits]\nslow_clients_memory = '4MiB'\n";

const ATTACKER: (&str, &str) = ("X-Forwarded-For", "203.0.113.1");

const HONEST: (&str, &str) = ("X-Forwarded-For", "203.0.113.2");

const PUT_OUT: &str = "channelapi_disconnects_total{reason=\"slow_node\"}";

/// Publishes so many messages of 50 KB, and a last one that says so.
fn fill(node: &Node, channel: &str, count: usize) {
    for number in 0..count {
        let text = if number + 1 == count { "the last" } else { "x" };
        let body = format!(r#"{{"message":"{}{text}"}}"#, "x".repeat(50_000));
        assert_eq!(node.call("POST", &format!("/message/{channel}"), &body).status, 200);
    }
}

/// A connection that takes little before its client reads.
fn narrow(node: &Node) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.set_tcp_mss(1_400).unwrap();
    socket.connect(&node.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The path of a polling session for which all of a channel waits.
fn poller(node: &Node, who: (&str, &str), token: &str) -> String {
    let open = node.request("GET", POLLING, &[who], "").body;
    let path = format!("{POLLING}&sid={}", open.split('"').nth(3).unwrap());
    let entry = format!(r#"40{{"token":"{token}","since":"all"}}"#);
    assert_eq!(node.request("POST", &path, &[who], &entry).status, 200);
    path
}

/// Polls until the last message is here.
fn fetch(node: &Node, who: (&str, &str), path: &str) {
    let mut fetched = String::new();
    while !fetched.contains("the last") {
        let answer = node.request("GET", path, &[who], "");
        assert_eq!(answer.status, 200, "{answer:?}");
        fetched += &answer.body;
    }
}

/// Once, whoever was catching up over a slow link had a larger queue than each session of an attacker, and went before all of them.
#[test]
fn an_address_that_fills_the_room_with_many_who_read_nothing_puts_out_nobody_else() {
    let node = Node::start(SETTINGS);
    fill(&node, "large", 5);
    fill(&node, "a", 3);
    let (large, token) = (node.token("large"), node.token("a"));
    let mut slow = Client::open_on(narrow(&node), &[HONEST]).unwrap_or_else(|answer| panic!("{answer:?}"));
    slow.send(&format!(r#"40{{"token":"{large}","since":"all"}}"#)).unwrap();
    let polls = poller(&node, HONEST, &large);
    node.await_metric("channelapi_waiting_bytes", |bytes| bytes > 400_000);
    // Again and again: what is put out comes back.
    let mut opened = 0;
    while node.metric(PUT_OUT) < 20 {
        poller(&node, ATTACKER, &token);
        opened += 1;
        assert!(opened < 500, "there is always room");
    }
    slow.await_text("the last");
    fetch(&node, HONEST, &polls);
}

/// Once, one address could have all on its way that may be, and whoever else polled waited until that was given up.
#[test]
fn an_address_that_takes_none_of_its_answers_leaves_room_on_the_way_to_others() {
    let node = Node::start(SETTINGS);
    fill(&node, "a", 3);
    let token = node.token("a");
    let untaken: Vec<_> = (0..20)
        .map(|_| {
            let (path, mut stream) = (poller(&node, ATTACKER, &token), narrow(&node));
            let (name, value) = ATTACKER;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n{name}: {value}\r\n\r\n").unwrap();
            stream
        })
        .collect();
    node.await_metric("channelapi_waiting_bytes", |bytes| bytes > 20 * 150_000);
    // An answer has 150 KB, and of the 2 MiB that may be on their way, half are left.
    for _ in 0..3 {
        let path = poller(&node, HONEST, &token);
        fetch(&node, HONEST, &path);
    }
    assert_eq!(node.metric("channelapi_http_timeouts_total{stage=\"answer\"}"), 0, "nobody was waited for");
    drop(untaken);
}
