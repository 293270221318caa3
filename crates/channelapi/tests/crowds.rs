//! Many clients: those who come and go leave nothing behind, and those who all come back at once get in.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Client, Node, PATIENCE, ask, eventually};
use socket2::SockRef;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// The ways in which a client can be gone.
const WAYS: [fn(&Node, &str); 4] = [clean, reset, silent_poll, half_upgrade];

/// It says goodbye.
fn clean(node: &Node, token: &str) {
    let mut client = Client::join(node, token);
    client.send("1").unwrap();
    client.rest();
}

/// It is gone in the middle of everything.
fn reset(node: &Node, token: &str) {
    let mut client = Client::enter(node);
    client.send(&format!(r#"42["join_channel",{{"token":"{token}"}}]"#)).unwrap();
    SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// It opens a session and never comes back for it.
fn silent_poll(node: &Node, _: &str) {
    assert_eq!(node.request("GET", POLLING, &[], "").status, 200);
}

/// It begins to change over to WebSocket, and does not go on.
fn half_upgrade(node: &Node, _: &str) {
    let open = node.request("GET", POLLING, &[], "").body;
    let sid = open.split(r#""sid":""#).nth(1).unwrap().split('"').next().unwrap();
    let mut stream = node.connect();
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={sid}");
    assert_eq!(ask(&mut stream, "GET", &path, &upgrade, "").unwrap().status, 101);
    Client { stream }.send("2probe").unwrap();
}

/// `ABANDON_CYCLES` says how many clients come and go; `cargo xtask soak` lets a million.
#[test]
fn whoever_is_gone_leaves_nothing_behind() {
    let cycles = std::env::var("ABANDON_CYCLES").ok().map_or(1_500, |cycles| cycles.parse().unwrap());
    let node = Arc::new(Node::start(
        "[socketio]\nping_interval = '1s'\nping_timeout = '1s'\nconnect_timeout = '2s'\n",
    ));
    let token: Arc<str> = node.token("a").into();
    let come_and_go = |cycles: usize| {
        let threads: Vec<_> = (0..WAYS.len())
            .map(|way| {
                let (node, token) = (node.clone(), token.clone());
                thread::spawn(move || (0..cycles / WAYS.len()).for_each(|_| WAYS[way](&node, &token)))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        node.await_metric("channelapi_connections", |connections| connections == 0);
        node.await_metric("channelapi_http_connections", |sockets| sockets <= 1);
    };
    come_and_go(200);
    let gauges = ["channelapi_tasks", "process_open_fds", "channelapi_waiting_bytes", "channelapi_channels"];
    let before: Vec<u64> = gauges.iter().map(|gauge| node.metric(gauge)).collect();
    let memory = node.metric("process_resident_memory_bytes");
    come_and_go(cycles);
    for (gauge, before) in gauges.iter().zip(before) {
        node.await_metric(gauge, |now| now <= before + 2);
    }
    let grown = node.metric("process_resident_memory_bytes").saturating_sub(memory);
    assert!(grown < 16 << 20, "{grown} bytes after {cycles} clients");
    assert_eq!(node.metric("channelapi_panics_total"), 0);
    let ended: u64 = ["client", "lost", "ping_timeout", "connect_timeout"]
        .iter()
        .map(|reason| node.metric(&format!("channelapi_disconnects_total{{reason=\"{reason}\"}}")))
        .sum();
    assert_eq!(ended, node.metric("channelapi_connections_opened_total"), "every end has a reason");
}

/// A whole company behind one address loses its server, and all of it comes back.
#[test]
fn whoever_loses_the_server_is_back_soon() {
    const THREADS: usize = 16;
    const CLIENTS: usize = 2_000 / THREADS;
    let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
    rlimit::Resource::NOFILE.set(hard, hard).unwrap();
    let mut node = Node::start("[http]\ntrusted_proxies = ['127.0.0.1']\n");
    let token = node.token("a");
    let mut crowd: Vec<_> = (0..THREADS * CLIENTS).map(|_| Client::join(&node, &token)).collect();
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    crowd.iter_mut().take(1).for_each(|client| assert!(client.receive().is_none()));
    drop(crowd);
    node.restart();

    let (address, token): (_, Arc<str>) = (node.address, token.into());
    let back: Vec<_> = (0..THREADS)
        .map(|_| {
            let token = token.clone();
            thread::spawn(move || {
                let started = Instant::now();
                let clients: Vec<Client> = (0..CLIENTS)
                    .map(|_| {
                        eventually("a place", || {
                            let stream = TcpStream::connect(address).ok()?;
                            stream.set_read_timeout(Some(PATIENCE)).ok()?;
                            let mut client =
                                Client::open_on(stream, &[("X-Forwarded-For", "203.0.113.1")]).ok()?;
                            client.send(&format!(r#"40{{"token":"{token}"}}"#)).ok()?;
                            client.await_text("42[\"clientevent\"");
                            Some(client)
                        })
                    })
                    .collect();
                (started.elapsed(), clients)
            })
        })
        .collect();
    let back: Vec<_> = back.into_iter().map(|thread| thread.join().unwrap()).collect();
    let slowest = back.iter().map(|(took, _)| *took).max().unwrap();
    // Five seconds, had they nothing to do but wait for the rate: the machine also runs other tests, and two thousand clients.
    assert!(slowest < Duration::from_secs(30), "{slowest:?}");
    assert_eq!(node.metric("channelapi_connections"), (THREADS * CLIENTS) as u64);
}
