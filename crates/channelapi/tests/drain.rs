//! How the real server stops: nobody loses anything, and nobody comes back all at once.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Client, KEY, Node, PATIENCE, ask, eventually, pause_in, read_answer, value_in};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_stopping_server_is_not_ready_but_serves_until_its_delay_is_over() {
    // As long as a busy machine takes for what is asked within it.
    let mut node = Node::start("[drain]\ndelay = '6s'\ntimeout = '4s'\n");
    assert_eq!(node.request("GET", "/readyz", &[], "").status, 200);
    let token = node.token("a");
    let mut client = Client::join(&node, &token);
    node.signal("-TERM");
    eventually("no", || Some(()).filter(|()| node.request("GET", "/readyz", &[], "").status == 503));
    // Whoever comes before a balancer has noticed is served.
    drop(Client::join(&node, &token));
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    client.await_text(r#"42["message",1]"#);
    assert_eq!(client.rest().1, None, "no close frame and no 41: the client comes back by itself");
    assert_eq!(node.ended(), Some(0));
    // Who reads the log later can tell it from a kill.
    node.await_log("stopped");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut node = Node::start("[drain]\ndelay = '10m'\n");
    node.signal("-TERM");
    node.await_log("SIGTERM");
    node.signal("-TERM");
    // Which is not waited for for ten minutes.
    assert_eq!(node.ended(), Some(1));
}

#[test]
fn clients_are_sent_away_one_after_the_other() {
    let mut node = Node::start("[drain]\ntimeout = '8s'\n");
    let token = node.token("a");
    let clients: Vec<_> = (0..100).map(|_| Client::join(&node, &token)).collect();
    let ends: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            thread::spawn(move || {
                client.rest();
                Instant::now()
            })
        })
        .collect();
    let asked = Instant::now();
    node.signal("-TERM");
    let mut ends: Vec<Instant> = ends.into_iter().map(|end| end.join().unwrap()).collect();
    let came = ends.clone();
    ends.sort_unstable();
    // From the beginning, and not from the first end that somebody noticed: on a busy machine that may be late.
    let took = ends[ends.len() - 1] - asked;
    assert!(took > Duration::from_secs(3), "{took:?} for a hundred, half of the time");
    for begin in &ends {
        let soon =
            ends.iter().filter(|end| **end >= *begin && **end - *begin < Duration::from_secs(1)).count();
        assert!(soon < 50, "{soon} in a second, of a hundred in eight");
    }
    assert_ne!(came, ends, "in no order that anything has to do with where they come from");
    assert_eq!(node.ended(), Some(0));
}

/// Once, all event streams ended before the first client was sent away, and their pages came back as one.
#[test]
fn event_streams_end_one_after_the_other() {
    let mut node = Node::start("[drain]\ntimeout = '8s'\n");
    let streams: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = node.connect();
            let answer =
                ask(&mut stream, "GET", "/v1/channels/a/stream", &[("Authorization", KEY)], "").unwrap();
            assert_eq!(answer.status, 200);
            stream
        })
        .collect();
    let ends: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || {
                let mut rest = String::new();
                stream.read_to_string(&mut rest).unwrap();
                (Instant::now(), rest)
            })
        })
        .collect();
    let asked = Instant::now();
    node.signal("-TERM");
    let ends: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
    let came: Vec<Instant> = ends.iter().map(|(at, _)| *at).collect();
    let last = *came.iter().max().unwrap() - asked;
    assert!(last > Duration::from_secs(3), "{last:?} for a hundred, half of the time");
    assert!(!came.is_sorted(), "in no order that anything has to do with where they come from");
    let pauses: BTreeSet<&str> = ends
        .iter()
        .map(|(_, rest)| {
            rest.split("retry: ").nth(1).expect("a pause before the end").lines().next().unwrap()
        })
        .collect();
    assert!(pauses.len() > 50, "they come back at different times: {pauses:?}");
    assert_eq!(node.ended(), Some(0));
}

/// Once, two seconds after the last clients nobody waited for what event streams had not taken yet, nor told them when to come back.
#[test]
fn an_event_stream_that_is_slow_is_waited_for() {
    const WAITING: u64 = 100_000;
    let mut node = Node::start("[drain]\ntimeout = '20s'\n");
    let mut stream = node.connect();
    socket2::SockRef::from(&stream).set_recv_buffer_size(4 << 10).unwrap();
    let head = format!("GET /v1/channels/a/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    eventually("the stream", || (node.metric("channelapi_event_streams") == 1).then_some(()));
    let item = format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(10_000));
    eventually("more than the kernel takes", || {
        assert_eq!(node.call("POST", "/v1/messages", &format!(r#"{{"messages":[{item}]}}"#)).status, 200);
        (node.metric("channelapi_waiting_bytes") > WAITING).then_some(())
    });
    node.signal("-TERM");
    thread::sleep(Duration::from_secs(4));
    // Slow to the end: the server must not take what it has written for what has arrived.
    let (mut rest, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            read => rest.extend_from_slice(&piece[..read]),
        }
        thread::sleep(Duration::from_millis(20));
    }
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n") && rest.contains("retry: "), "{:?}", &rest[rest.len() - 100..]);
    assert_eq!(node.ended(), Some(0));
}

#[test]
fn whoever_is_sent_away_or_refused_while_it_stops_is_counted() {
    // Three seconds, in which somebody else still asks on the connection that it has.
    let mut node = Node::start("[drain]\ntimeout = '16s'\n");
    let token = node.token("a");
    let _clients: Vec<_> = (0..300).map(|_| Client::join(&node, &token)).collect();
    let mut kept = node.connect();
    let key = [("Authorization", KEY)];
    // Any other status than 200 would end an `EventSource` for good, and its page would never find the next server.
    let page = [key[0], ("Accept", "text/event-stream")];
    let mut kept = |path: &str, headers: &[(&str, &str)]| ask(&mut kept, "GET", path, headers, "").unwrap();
    assert_eq!(kept("/healthz", &key).status, 200);
    node.signal("-TERM");
    let refused = eventually("a refusal", || {
        Some(kept("/socket.io/?EIO=4&transport=polling", &key)).filter(|answer| answer.status != 200)
    });
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(kept("/v1/channels/a/stream", &key).status, 503);
    let again = kept("/v1/channels/a/stream", &page);
    assert!(again.status == 200 && (2_500..=7_500).contains(&pause_in(&again.body)), "{again:?}");
    let page = kept("/metrics", &key).body;
    assert_eq!(value_in(&page, "channelapi_handshakes_refused_total{reason=\"draining\"}"), 1);
    assert_eq!(value_in(&page, "channelapi_requests_refused_total{reason=\"unavailable\"}"), 2);
    // The first of them goes when it is its turn.
    let sent_away = "channelapi_disconnects_total{reason=\"drain\"}";
    eventually("somebody who is sent away", || {
        Some(kept("/metrics", &key).body).filter(|page| value_in(page, sent_away) > 0)
    });
    assert_eq!(node.ended(), Some(0));
}

#[test]
fn an_answer_behind_the_stop_is_the_last_on_its_connection_and_says_so() {
    let mut node = Node::start("[drain]\ntimeout = '8s'\n");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let requests = [
        ("/socket.io/?EIO=4&transport=websocket", upgrade),
        ("/readyz", "Connection: keep-alive"),
        // For hyper.
        ("/readyz", "Connection: keep-alive, TE\r\nTE: trailers"),
    ];
    let begun = requests.map(|(path, headers)| {
        let mut connection = node.connect();
        write!(connection, "GET {path} HTTP/1.1\r\nHost: test\r\n").unwrap();
        (connection, headers)
    });
    // They are read as far as they are here, and waited for.
    node.await_metric("channelapi_handshakes", |begun| begun >= 3);
    thread::sleep(Duration::from_millis(300));
    node.signal("-TERM");
    node.await_log("SIGTERM");
    thread::sleep(Duration::from_millis(300));
    for (mut connection, headers) in begun {
        write!(connection, "{headers}\r\n\r\n").unwrap();
        let answer = read_answer(&mut connection);
        let answer = answer.unwrap_or_else(|error| panic!("{headers}: {error}"));
        assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "{headers}");
    }
    assert_eq!(node.ended(), Some(0));
}

/// A client that comes back to where it was, as stock clients do, until it has got as many messages as there are.
struct Returning {
    address: SocketAddr,
    token: String,
    pid: Option<String>,
    offset: Option<String>,
    got: Vec<u32>,
    connected: u32,
}

impl Returning {
    fn run(mut self, count: u32) -> Self {
        let started = Instant::now();
        while self.got.last() != Some(&(count - 1)) {
            assert!(started.elapsed() < PATIENCE, "it has {:?} of {count}", self.got.last());
            if self.stay(count).is_none() {
                thread::sleep(Duration::from_millis(20));
            }
        }
        self
    }

    /// One connection, until it ends.
    fn stay(&mut self, count: u32) -> Option<()> {
        let stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut client = Client::open_on(stream, &[]).ok()?;
        let text = |name: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!(r#","{name}":"{value}""#))
        };
        let (pid, offset) = (text("pid", &self.pid), text("offset", &self.offset));
        client.send(&format!(r#"40{{"token":"{}"{pid}{offset}}}"#, self.token)).ok()?;
        loop {
            let text = client.receive()?;
            assert!(!text.starts_with(r#"42["gap""#) && text != "41", "{text}");
            if text == "2" {
                client.send("3").ok()?;
            } else if text.starts_with("40") {
                let pid = text.split(r#""pid":""#).nth(1)?.split('"').next()?.to_owned();
                if let Some(before) = self.pid.replace(pid.clone()) {
                    assert_eq!(before, pid, "it is in its session again");
                }
                self.connected += 1;
            } else if let Some(rest) = text.strip_prefix(r#"42["checkpoint",""#) {
                self.offset = Some(rest.trim_end_matches("\"]").to_owned());
            } else if let Some(rest) = text.strip_prefix(r#"42["message","#) {
                self.got.push(rest.trim_end_matches(']').parse().unwrap());
                if self.got.last() == Some(&(count - 1)) {
                    return Some(());
                }
            }
        }
    }
}

/// Publishes one message, again and again until it is stored, under one key.
fn publish(address: SocketAddr, number: u32) {
    let key = format!("message-{number}");
    let headers = [("Authorization", KEY), ("Idempotency-Key", &*key)];
    let body = format!(r#"{{"data":{number}}}"#);
    eventually("a server to publish to", || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let answer = ask(&mut stream, "POST", "/v1/channels/load/messages", &headers, &body).ok()?;
        matches!(answer.status, 200 | 201).then_some(())
    });
}

#[test]
fn three_restarts_under_load_lose_nothing() {
    const CLIENTS: usize = 20;
    let mut node = Node::start("[drain]\ntimeout = '4s'\n");
    let (address, token) = (node.address, node.token("load"));
    let is_over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU32::new(0));
    let publisher = thread::spawn({
        let (is_over, sent) = (is_over.clone(), sent.clone());
        move || {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                publish(address, number);
                number += 1;
                sent.store(number, Ordering::Relaxed);
            }
            // So that everybody knows the end.
            publish(address, END);
            number
        }
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let token = token.clone();
            let (pid, offset, got, connected) = (None, None, Vec::new(), 0);
            let client = Returning { address, token, pid, offset, got, connected };
            thread::spawn(move || client.run(END + 1))
        })
        .collect();
    for _ in 0..3 {
        let before = sent.load(Ordering::Relaxed);
        eventually("some messages", || (sent.load(Ordering::Relaxed) > before + 20).then_some(()));
        // Each of them is sent away by each restart.
        node.await_metric("channelapi_connections", |connections| connections == CLIENTS as u64);
        node.signal("-TERM");
        assert_eq!(node.ended(), Some(0), "every restart is orderly");
        node.restart();
    }
    is_over.store(true, Ordering::Relaxed);
    let count = publisher.join().unwrap();
    for client in clients {
        let client = client.join().unwrap();
        assert!(client.connected >= 3, "it came back {} times", client.connected);
        let distinct: BTreeSet<u32> = client.got.iter().copied().collect();
        // It joined while messages were published already.
        let first = client.got[0];
        assert!((first..count).all(|number| distinct.contains(&number)), "something is missing");
        assert!(client.got.is_sorted_by(|one, next| one < next), "something came twice, or late");
    }
}

/// The last message.
const END: u32 = 1_000_000;
