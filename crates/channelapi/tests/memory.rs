//! The real server with little memory: it refuses work, gives up what nobody takes, and the kernel never has to end it.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod skipped;

use node::{Client, Node, eventually};
use skipped::skipped;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A control group of this test.
struct Group {
    path: PathBuf,
    /// The file that counts processes ended for want of memory.
    events: &'static str,
}

impl Group {
    /// Makes one with a limit, if this machine lets us.
    fn make(bytes: u64) -> Option<Self> {
        let name = format!("channelapi-test-{}", std::process::id());
        let versions = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"),
            ("/sys/fs/cgroup", "memory.max", "memory.events"),
        ];
        versions.into_iter().find_map(|(root, limit, events)| {
            let path = Path::new(root).join(&name);
            fs::create_dir(&path).ok()?;
            let group = Self { path, events };
            fs::write(group.path.join(limit), bytes.to_string()).ok()?;
            // Where there is swap, it must not help.
            _ = fs::write(group.path.join("memory.swap.max"), "0");
            Some(group)
        })
    }

    fn kills(&self) -> u64 {
        let events = fs::read_to_string(self.path.join(self.events)).unwrap();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel takes a moment to see that nobody is in it any more.
        eventually("the end of the control group", || fs::remove_dir(&self.path).ok());
    }
}

/// A process in the same group that holds memory.
struct Neighbour(Child);

impl Neighbour {
    fn take(group: &Group, bytes: u64) -> Self {
        // It fills its buffer, and then waits for somebody to read it.
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec dd if=/dev/zero bs={bytes} count=1 status=none",
            group.path.display()
        );
        Self(Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn the_kernel_never_has_to_end_a_server_that_is_flooded() {
    const LIMIT: u64 = 80 << 20;
    let Some(group) = Group::make(LIMIT) else {
        skipped("this machine does not let us make a control group with a limit of memory");
        return;
    };
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.path.display());
    let node = Node::start_by(
        &["sh", "-c", &enter, "sh"],
        "[[policy]]\nmatch = 'm-*'\ndurability = 'memory'\nhistory.max_bytes = '1GiB'\n",
    );
    node.await_metric("channelapi_memory_limit_bytes", |limit| limit == LIMIT);
    // What is kept in memory only is more than there is, and most of it is given up soon.
    let body = format!(r#"{{"data":"{}"}}"#, "x".repeat(250_000));
    for _ in 0..400 {
        assert_eq!(node.call("POST", "/v1/channels/m-a/messages", &body).status, 201);
    }
    assert_eq!(node.request("GET", "/readyz", &[], "").status, 200);
    // Others in the group take more and more of it.
    let mut neighbours = Vec::new();
    let refused = eventually("a refusal", || {
        neighbours.push(Neighbour::take(&group, LIMIT / 20));
        // Longer than the server ever goes without a look.
        std::thread::sleep(std::time::Duration::from_millis(150));
        let answer = node.call("POST", "/v1/channels/m-a/messages", &body);
        assert!(matches!(answer.status, 201 | 503), "{answer:?}");
        (answer.status == 503).then_some(answer)
    });
    assert!(refused.body.contains("short_of_memory"), "{refused:?}");
    assert_eq!(node.request("GET", "/healthz", &[], "").status, 200);
    assert_eq!(node.request("GET", "/readyz", &[], "").status, 503);
    assert_eq!(group.kills(), 0);

    drop(neighbours);
    eventually("memory", || {
        let answer = node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#);
        (answer.status == 201).then_some(())
    });
    assert_eq!(node.request("GET", "/readyz", &[], "").status, 200);
    drop(node);
}

/// A polling client that has asked for what there is, which is much, and takes none of it.
fn untaken_poll(node: &Node, token: &str) -> std::net::TcpStream {
    const PATH: &str = "/socket.io/?EIO=4&transport=polling";
    let open = node.request("GET", PATH, &[], "").body;
    let path = format!("{PATH}&sid={}", open.split('"').nth(3).unwrap());
    let entry = format!(r#"40{{"token":"{token}","since":"all"}}"#);
    assert_eq!(node.request("POST", &path, &[], &entry).status, 200);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // What the system takes of it is not the server's.
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.set_tcp_mss(1_400).unwrap();
    socket.connect(&node.address.into()).unwrap();
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(node::PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    stream
}

/// Once, they were ended by nothing but the time that a client may take for its answer.
#[test]
fn answers_that_nobody_takes_go_when_memory_is_short() {
    let mut node = Node::start("[limits]\nmemory = '1GiB'\n");
    let token = node.token("a");
    let body = format!(r#"{{"message":"{}"}}"#, "x".repeat(100_000));
    for _ in 0..8 {
        assert_eq!(node.call("POST", "/message/a", &body).status, 200);
    }
    let began = std::time::Instant::now();
    let untaken: Vec<_> = (0..8).map(|_| untaken_poll(&node, &token)).collect();
    node.await_metric("channelapi_waiting_bytes", |bytes| bytes > 8 * 100_000);
    assert_eq!(node.metric("channelapi_answers_given_up_total"), 0);
    make_short_of_memory(&mut node);
    node.await_metric("channelapi_answers_given_up_total", |given_up| given_up == 8);
    for mut stream in untaken {
        // What was on its way comes, and then the end, however it looks.
        let mut received = Vec::new();
        _ = stream.read_to_end(&mut received);
        assert!(received.len() < 300_000, "{} bytes", received.len());
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(25), "it is not the time that ended them");
    assert_eq!(node.metric("channelapi_http_timeouts_total{stage=\"answer\"}"), 0);
    assert_eq!(node.request("GET", "/healthz", &[], "").status, 200);
}

/// Sets `limits.memory` of a server that has a gigabyte to less than it uses.
fn make_short_of_memory(node: &mut Node) {
    let path = node.dir.path().join("channelapi.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(&path, settings.replace("1GiB", "4MiB")).unwrap();
    node.signal("-HUP");
    node.await_log("limits.memory");
}

/// Once, only clients had to go, and nothing kept strangers from opening connections.
#[test]
fn connections_that_rest_go_when_memory_is_short_and_strangers_get_few() {
    const REFUSED: &str = "channelapi_connections_refused_total{reason=\"memory\"}";
    const ENDED: &str = "channelapi_http_rests_ended_total{reason=\"memory\"}";
    let settings =
        "[http]\ntrusted_proxies = ['127.0.1.0/24']\nproxy_protocol = true\n[limits]\nmemory = '1GiB'\n";
    let mut node = Node::start(settings);
    // Requests of the second kind are read by hyper.
    let mut resting: Vec<_> = (0..20).map(|_| node.connect()).collect();
    for (stream, method) in resting.iter_mut().zip(["GET", "PATCH"].into_iter().cycle()) {
        node::ask(stream, method, "/healthz", &[], "").unwrap();
    }
    let stranger = |node: &Node| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 1, 1], 0)).into()).unwrap();
        socket.connect(&node.address.into()).unwrap();
        let mut stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(node::PATIENCE)).unwrap();
        write!(stream, "PROXY TCP4 203.0.113.1 127.0.0.1 1024 80\r\n").unwrap();
        node::ask(&mut stream, "GET", "/healthz", &[], "").map(|answer| answer.status)
    };
    assert_eq!((node.metric(ENDED), node.metric(REFUSED)), (0, 0));
    make_short_of_memory(&mut node);
    let began = std::time::Instant::now();
    for mut stream in resting {
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "it is not the time that ended them");
    assert_eq!(node.metric(ENDED), 20);
    assert_eq!(stranger(&node).unwrap(), 200);
    let others: Vec<_> = (0..70).map(|_| node.connect()).collect();
    node.await_metric("channelapi_http_connections", |connections| connections >= 70);
    // Whoever has sent its request before it is refused may lose the answer with the connection.
    assert!(stranger(&node).map_or(true, |status| status == 503));
    assert_eq!(node.metric(REFUSED), 1);
    drop(others);
}

/// Once, what a client sent while its poll waited counted nowhere.
#[test]
fn what_is_sent_while_a_poll_waits_counts_as_received() {
    let node = Node::start("");
    let received = || node.metric("channelapi_receiving_bytes");
    // What arrives together with the request is for hyper, so that it may take more than one attempt.
    let stream = eventually("a poll that waits", || {
        let open = node.request("GET", node::POLLING, &[], "").body;
        let path = format!("{}&sid={}", node::POLLING, open.split('"').nth(3).unwrap());
        assert_eq!(node.request("POST", &path, &[], "40").status, 200);
        assert_eq!(node.request("GET", &path, &[], "").status, 200);
        let mut stream = node.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert_eq!(received(), 0);
        stream.write_all(&[b'x'; 10_000]).unwrap();
        (0..10).any(|_| received() >= 10_000).then_some(stream)
    });
    drop(stream);
    node.await_metric("channelapi_receiving_bytes", |bytes| bytes == 0);
}

#[test]
fn slow_clients_together_hold_no_more_than_they_may() {
    let node = Node::start("[limits]\nslow_clients_memory = '1MiB'\n");
    let token = node.token("a");
    let body = format!(r#"{{"message":"{}"}}"#, "x".repeat(200_000));
    eventually("the slowest to go", || {
        // They never read, so their sockets fill up, and then what waits for them: the part of a message that the kernel did not take. If
        // that is little for all of them, it stays below what they may hold.
        let _slow: Vec<_> = (0..6).map(|_| Client::join(&node, &token)).collect();
        (0..60).find_map(|_| {
            assert_eq!(node.call("POST", "/message/a", &body).status, 200);
            let waiting = node.metric("channelapi_waiting_bytes");
            assert!(waiting <= 3 << 20, "six frames are written in part at most");
            Some(()).filter(|()| node.metric("channelapi_disconnects_total{reason=\"slow_node\"}") > 0)
        })
    });
    assert!(node.metric("channelapi_catch_ups_total") > 0, "they were to be served from history before");
}

#[test]
fn what_is_still_to_come_holds_no_more_than_it_may() {
    const REFUSED: &str = "channelapi_requests_refused_total{reason=\"overloaded\"}";
    // Of 480 MiB, a sixteenth is for what has not arrived as a whole.
    let node = Node::start("[limits]\nmemory = '480MiB'\n");
    node.await_metric("channelapi_memory_limit_bytes", |limit| limit > 0);
    let token = node.token("a");
    let head = "POST /v1/channels/a/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n";
    let post_part = |bytes| {
        let mut stream = node.connect();
        // Those that are refused may be so before they have sent all of it.
        _ = write!(stream, "{head}Authorization: {}\r\n\r\n{}", node::KEY, "x".repeat(bytes));
        stream
    };
    // Each kind fills what the one before leaves.
    let mut begun = Vec::new();
    for bytes in [900_000, 60_000, 8_000] {
        let overloaded = node.metric(REFUSED);
        while node.metric(REFUSED) == overloaded {
            begun.extend((0..10).map(|_| post_part(bytes)));
            // Until all of them are here: what is refused late says nothing of the next kind.
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(begun.len() < 400, "there is always room");
        }
    }
    assert!(node.metric("channelapi_receiving_bytes") <= 31 << 20);
    // Little finds room, and so does what arrives as a whole, also on the way of requests that are seldom made.
    assert_eq!(node.call("POST", "/message/a", r#"{"message":"b"}"#).status, 200);
    let whole = format!(r#"{{"messages":[{{"channel":"a","data":"{}"}}]}}"#, "x".repeat(50_000));
    let answer = node.call("POST", "/v1/messages", &whole);
    assert_eq!(answer.status, 200, "{answer:?}");
    // WebSocket messages of which the last byte is missing: the first ones may still find room.
    let message = [&[0x01, 0xFE, 0xEA, 0x60, 0, 0, 0, 0][..], "x".repeat(59_999).as_bytes()].concat();
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let mut client = Client::join(&node, &token);
            _ = client.stream.write_all(&message);
            client
        })
        .collect();
    node.await_metric("channelapi_disconnects_total{reason=\"memory\"}", |closed| closed > 0);
    assert!(node.metric("channelapi_receiving_bytes") <= 31 << 20);
    drop(clients);
    drop(begun);
    node.await_metric("channelapi_receiving_bytes", |bytes| bytes == 0);
    let large = format!(r#"{{"message":"{}"}}"#, "x".repeat(200_000));
    assert_eq!(node.call("POST", "/message/a", &large).status, 200);
}

/// Once, strangers could fill all of that room with what they began, and no larger publication found any.
#[test]
fn publishers_find_room_whatever_strangers_and_other_publishers_have_begun() {
    const REFUSED: &str = "channelapi_requests_refused_total{reason=\"overloaded\"}";
    let tenant = "a-key-that-another-has-been-given";
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("tenant.key");
    fs::write(&key_file, tenant).unwrap();
    let keys = format!(
        "[[auth_keys]]\nname = 'tenant'\nkey_file = '{}'\nscopes = ['publish']\nchannels = ['t:*']\n",
        key_file.display()
    );
    let node = Node::start(&format!("[limits]\nmemory = '480MiB'\n{keys}"));
    node.await_metric("channelapi_memory_limit_bytes", |limit| limit > 0);
    let large = format!(r#"{{"data":"{}"}}"#, "x".repeat(200_000));
    let begin = |channel: &str, key: &str, bytes: usize| {
        let mut stream = node.connect();
        let head =
            format!("POST /v1/channels/{channel}/messages HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\n");
        // Those that are refused may be so before they have sent all of it.
        _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{}", large.len(), &large[..bytes]);
        stream
    };
    let publish_in_pieces = || {
        let mut stream = begin("a", node::KEY, 100_000);
        std::thread::sleep(std::time::Duration::from_millis(300));
        stream.write_all(&large.as_bytes()[100_000..]).unwrap();
        let answer = node::read_answer(&mut stream).unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
    };

    let token = node.token("a");
    let message = [&[0x01, 0xFE, 0xEA, 0x60, 0, 0, 0, 0][..], "x".repeat(59_999).as_bytes()].concat();
    let mut strangers = Vec::new();
    while node.metric("channelapi_disconnects_total{reason=\"memory\"}") == 0 {
        assert!(strangers.len() < 600, "there is always room");
        strangers.extend((0..20).map(|_| {
            let mut client = Client::join(&node, &token);
            _ = client.stream.write_all(&message);
            client
        }));
    }
    assert!(node.metric("channelapi_receiving_bytes") <= 16 << 20, "half of it");
    publish_in_pieces();

    drop(strangers);
    node.await_metric("channelapi_receiving_bytes", |bytes| bytes == 0);
    let mut unfinished = Vec::new();
    while node.metric(REFUSED) == 0 {
        unfinished.extend((0..10).map(|_| begin("t:a", tenant, 150_000)));
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(unfinished.len() < 400, "there is always room");
    }
    publish_in_pieces();
}

/// A key for made-up names filled the node with them: it refused everybody, and needed more than it may have to start again.
#[test]
fn names_that_are_made_up_take_a_quarter_of_the_memory_and_channels_that_are_known_go_on() {
    let mut node = Node::start("limits.memory = '128MiB'\n");
    let publish = |node: &Node, channel: &str| {
        node.call("POST", &format!("/v1/channels/{channel}/messages"), r#"{"data":1}"#)
    };
    assert_eq!(publish(&node, "known").status, 201);
    let mut made = 0;
    let refused = loop {
        let names = (0..500).map(|name| format!(r#""user-{:0>240}""#, made + name)).collect::<Vec<_>>();
        let body = format!(r#"{{"channels":[{}],"data":1}}"#, names.join(","));
        let answer = node.call("POST", "/v1/messages", &body);
        assert!(matches!(answer.status, 200 | 201 | 207), "{answer:?}");
        if answer.body.contains("too_many_channels") {
            break answer.body.matches("too_many_channels").count();
        }
        made += 500;
        assert!(made < 120_000, "they take more than a quarter");
    };
    assert!(made > 30_000, "a quarter of 128 MiB has room for more than {made}");
    assert_eq!(node.metric("channelapi_index_limit_bytes"), 32 << 20);
    assert!(node.metric("channelapi_index_bytes") > 32 << 20);
    let answer = publish(&node, "new");
    assert!(answer.status == 507 && answer.body.contains("too_many_channels"), "{answer:?}");
    assert_eq!(node.call("POST", "/message/new", r#"{"message":1}"#).status, 507);
    assert_eq!(node.metric(r#"channelapi_requests_refused_total{reason="channels"}"#), refused as u64 + 2);
    assert_eq!(publish(&node, "known").status, 201);
    assert_eq!(node.request("GET", "/readyz", &[], "").status, 200);
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    node.restart();
    assert_eq!(node.request("GET", "/readyz", &[], "").status, 200);
    assert_eq!(node.call("POST", "/message/new", r#"{"message":1}"#).status, 507);
    assert_eq!(node.call("POST", "/message/known", r#"{"message":1}"#).status, 200);
}
