//! Many clients: those who come and go leave nothing behind, and those who all come back at once get in.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod skipped;

use node::{Client, KEY, Node, PATIENCE, POLLING, UPGRADE, ask, eventually, value_in};
use skipped::skipped;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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
    Client::upgrading(node).send("2probe").unwrap();
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
        node.await_metric("channelapi_websocket_connections", |websockets| websockets == 0);
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

/// Clients that share an address: a company. Two thousand are all that an address may have, and take five seconds at the rate
/// at which it may open connections.
const COMPANY: usize = 2_000;

/// How soon a client that was refused tries again. Stock ones wait for half a second at least.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What proxies announce is limited, and with one for each company there are ports enough.
const PROXIES: &str = "[http]\ntrusted_proxies = ['127.0.1.0/24']\nproxy_protocol = true\n";

/// A connection from a company.
fn connect_from(company: usize, address: SocketAddr) -> Option<TcpStream> {
    let company = u8::try_from(company).expect("there are 256 companies at most");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    let proxy = SocketAddr::from(([127, 0, 1, company], 0));
    socket.bind(&proxy.into()).ok()?;
    socket.connect(&address.into()).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "PROXY TCP4 203.0.113.{company} 127.0.0.1 1024 80\r\n").ok()?;
    Some(stream)
}

/// Lets this process, and servers that it starts, have as many files as the system allows, which must be more than so many.
fn need_files(count: usize) {
    let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
    rlimit::Resource::NOFILE.set(hard, hard).unwrap();
    assert!(count as u64 + 500 < hard, "{count} connections need more than {hard} files: ulimit -n");
}

/// What a stock client brings when it comes back.
struct Place {
    pid: String,
    offset: String,
}

impl Place {
    /// Enters with a token, and waits until there is something to come back to.
    fn of_new_client(node: &Node, token: &str) -> (Client, Self) {
        let mut client = Client::open(node, &[]).expect("the server takes clients");
        client.send(&format!(r#"40{{"token":"{token}"}}"#)).unwrap();
        let connected = client.await_text("40{");
        let pid = connected.split(r#""pid":""#).nth(1).expect("it has a place").split('"').next().unwrap();
        let checkpoint = client.await_text(r#"42["checkpoint","#);
        let offset = checkpoint.split('"').nth(3).unwrap();
        (client, Self { pid: pid.to_owned(), offset: offset.to_owned() })
    }
}

/// What is published while nobody is there.
const MISSED: &str = "while they were away";

/// Clients that have lost their server in the same moment.
struct Storm {
    address: SocketAddr,
    token: String,
    /// Of each of them.
    places: Vec<Place>,
    began: Instant,
}

/// Those that are back.
struct Back {
    clients: Vec<Client>,
    /// How long the last of them was locked out.
    longest: Duration,
    refused: usize,
}

impl Storm {
    /// Brings these clients back. All of them try at once, and whoever is refused tries again.
    fn bring_back(&self, numbers: Range<usize>) -> Back {
        let mut back = Back { clients: Vec::new(), longest: Duration::ZERO, refused: 0 };
        let mut away: Vec<_> = numbers.collect();
        while !away.is_empty() {
            assert!(self.began.elapsed() < PATIENCE, "{} clients have no place yet", away.len());
            let asked: Vec<_> = away.into_iter().map(|number| (number, self.ask(number))).collect();
            away = Vec::new();
            for (number, stream) in asked {
                match stream.and_then(|stream| self.enter(number, stream)) {
                    Some(client) => {
                        back.clients.push(client);
                        back.longest = self.began.elapsed();
                    }
                    None => away.push(number),
                }
            }
            back.refused += away.len();
            thread::sleep(if away.is_empty() { Duration::ZERO } else { RETRY_PAUSE });
        }
        back
    }

    fn ask(&self, number: usize) -> Option<TcpStream> {
        let mut stream = connect_from(number / COMPANY, self.address)?;
        Client::ask_on(&mut stream, &[]).ok()?;
        Some(stream)
    }

    /// Comes in and resumes: it is told that it has missed nothing, and gets what it had not got.
    fn enter(&self, number: usize, stream: TcpStream) -> Option<Client> {
        let mut client = Client::answered_on(stream).ok()?;
        let (token, Place { pid, offset }) = (&self.token, &self.places[number]);
        client.send(&format!(r#"40{{"token":"{token}","pid":"{pid}","offset":"{offset}"}}"#)).ok()?;
        loop {
            let text = client.receive()?;
            if text.starts_with("44") {
                return None;
            }
            assert!(!text.starts_with("40{") || text.contains(pid.as_str()), "not recovered: {text}");
            assert!(!text.starts_with(r#"42["gap""#), "{text}");
            if text.contains(MISSED) {
                return Some(client);
            }
        }
    }
}

/// Whole companies lose their server, and all of them come back. `STORM_CLIENTS` says how many clients that are: then the machine
/// has nothing else to do, and nobody may be locked out for more than ten seconds. `cargo xtask soak` lets 19,000.
#[test]
fn whoever_loses_the_server_is_back_soon() {
    const THREADS: usize = 16;
    let (count, locked_out_max) = match std::env::var("STORM_CLIENTS") {
        Ok(count) => (count.parse().unwrap(), Duration::from_secs(10)),
        // Other tests run meanwhile.
        Err(_) => (2_000, Duration::from_secs(30)),
    };
    need_files(count);
    // Nobody reads for a while; that is no reason to close.
    let mut node = Node::start(&format!("{PROXIES}[socketio]\nping_interval = '10m'\n"));
    let token = node.token("a");
    let shares = || (0..THREADS).map(|share| share * count / THREADS..(share + 1) * count / THREADS);
    let (mut crowd, places): (Vec<Client>, Vec<Place>) = thread::scope(|scope| {
        let join =
            |share: Range<usize>| share.map(|_| Place::of_new_client(&node, &token)).collect::<Vec<_>>();
        let joining: Vec<_> = shares().map(|share| scope.spawn(move || join(share))).collect();
        joining.into_iter().flat_map(|thread| thread.join().unwrap()).unzip()
    });
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    crowd.iter_mut().take(1).for_each(|client| assert!(client.receive().is_none()));
    for client in crowd {
        // The system would remember each of them for a minute, and has but so many ports.
        SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    node.restart();
    let missed = format!(r#"{{"message":"{MISSED}"}}"#);
    assert_eq!(node.call("POST", "/message/a", &missed).status, 200);

    let storm = &Storm { address: node.address, token, places, began: Instant::now() };
    let back: Vec<Back> = thread::scope(|scope| {
        let coming: Vec<_> = shares().map(|share| scope.spawn(move || storm.bring_back(share))).collect();
        coming.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let longest = back.iter().map(|share| share.longest).max().unwrap();
    let refused: usize = back.iter().map(|share| share.refused).sum();
    println!(
        "storm: {count} clients, all of them resumed, {refused} refusals on the way, nobody was locked out for longer than {longest:.1?}"
    );
    assert!(longest < locked_out_max, "{longest:?}");
    assert_eq!(back.iter().map(|share| share.clients.len()).sum::<usize>(), count);
    assert_eq!(node.metric("channelapi_connections"), count as u64);
}

/// A client as browsers are: it begins by polling, sends on a second connection while a poll waits on the first one, and takes a third one
/// for its WebSocket. What it needs no more stays open.
fn come_as_a_browser(node: &Node) -> Option<[TcpStream; 3]> {
    let connect = || connect_from(0, node.address);
    let asked = |stream: &mut TcpStream, method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        ask(stream, method, path, headers, body).ok().filter(|answer| matches!(answer.status, 101 | 200))
    };
    let mut polling = connect()?;
    let open = asked(&mut polling, "GET", POLLING, &[], "")?.body;
    let sid = open.split('"').nth(3)?;
    let path = format!("{POLLING}&sid={sid}");
    let mut sending = connect()?;
    asked(&mut sending, "POST", &path, &[], "40")?;
    asked(&mut polling, "GET", &path, &[], "")?;
    let mut stream = connect()?;
    let path = path.replace("polling", "websocket");
    asked(&mut stream, "GET", &path, &UPGRADE, "")?;
    let mut client = Client { stream };
    client.send("2probe").ok()?;
    client.receive().filter(|text| text == "3probe")?;
    client.send("5").ok()?;
    Some([polling, sending, client.stream])
}

/// A company whose clients begin by polling, as stock ones do. Once, the connections that they left behind took the places of those who
/// came later, for longer than a minute.
#[test]
fn a_company_of_browsers_gets_in() {
    const THREADS: usize = 16;
    const CLIENTS: usize = 1_200;
    need_files(3 * CLIENTS);
    let node = &Node::start(&format!("{PROXIES}[socketio]\nping_interval = '10m'\n"));
    let retries = &AtomicU64::new(0);
    let enter = || {
        let began = Instant::now();
        loop {
            if let Some(connections) = come_as_a_browser(node) {
                return (connections, began.elapsed());
            }
            retries.fetch_add(1, Ordering::Relaxed);
            assert!(began.elapsed() < Duration::from_secs(10), "locked out for {:?}", began.elapsed());
            thread::sleep(RETRY_PAUSE);
        }
    };
    let inside: Vec<_> = thread::scope(|scope| {
        let share = || (0..CLIENTS / THREADS).map(|_| enter()).collect::<Vec<_>>();
        let entering: Vec<_> = (0..THREADS).map(|_| scope.spawn(share)).collect();
        entering.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let longest = inside.iter().map(|(_, time)| *time).max().unwrap();
    println!("company: {CLIENTS} clients, nobody was locked out for longer than {longest:.1?}");
    // Whoever was refused half-way came again, and left the session behind that it had.
    let once = CLIENTS as u64..=CLIENTS as u64 + retries.load(Ordering::Relaxed);
    for clients in ["channelapi_connections", "channelapi_upgrades_total"] {
        assert!(once.contains(&node.metric(clients)), "{clients}: {} of {once:?}", node.metric(clients));
    }
    assert!(node.metric("channelapi_http_rests_ended_total{reason=\"address\"}") > 0);
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"lost\"}"), 0, "nobody loses anything");
}

/// File descriptors of a server that can have few connections.
const FILES: usize = 256;

/// A server that can have few connections, if this machine lets us.
fn small_node() -> Option<Node> {
    if !Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_ok_and(|it| it.success()) {
        skipped("there is no prlimit here, so file descriptors cannot be limited");
        return None;
    }
    Some(Node::start_by(&["prlimit", &format!("--nofile={FILES}:{FILES}")], PROXIES))
}

/// As many connections of these as a server takes that can have few. They ask for something and stay.
/// None of them has rested for so long that it would have to go.
fn full_node(connect: impl Fn(&Node) -> Option<TcpStream>) -> Option<(Node, Vec<TcpStream>)> {
    /// Less than strangers may rest.
    const FILLED_WITHIN: Duration = Duration::from_millis(800);
    for _ in 0..10 {
        let node = small_node()?;
        let (mut crowd, began) = (Vec::new(), Instant::now());
        while let Some(mut one) = connect(&node)
            && is_well(&mut one)
        {
            crowd.push(one);
            assert!(crowd.len() < FILES, "all of {FILES} are taken");
        }
        if began.elapsed() < FILLED_WITHIN {
            return Some((node, crowd));
        }
    }
    panic!("this machine is too slow: a node was not full within {FILLED_WITHIN:?}");
}

fn is_well(stream: &mut TcpStream) -> bool {
    ask(stream, "GET", "/healthz", &[], "").is_ok_and(|answer| answer.status == 200)
}

/// A connection on which somebody was served.
fn served(connected: Option<TcpStream>) -> Option<TcpStream> {
    connected.and_then(|mut stream| is_well(&mut stream).then_some(stream))
}

/// Somebody comes again and again, until it gets in. Says how many had to go.
fn rests_ended_for(connect: impl Fn() -> Option<TcpStream>) -> u64 {
    let comes = || served(connect());
    assert!(comes().is_none(), "the node is full, and nobody has rested for long");
    // On its own connection: some of those that were told to go may still be there.
    let mut inside = eventually("room", comes);
    let page = ask(&mut inside, "GET", "/metrics", &[("Authorization", KEY)], "").unwrap();
    value_in(&page.body, "channelapi_http_rests_ended_total{reason=\"node\"}")
}

/// Once, strangers that were done kept others out of a full node for as long as they liked, up to 75 seconds.
#[test]
fn strangers_that_rest_make_room_on_a_full_node() {
    let Some((node, _strangers)) = full_node(|node| connect_from(0, node.address)) else { return };
    assert!(rests_ended_for(|| connect_from(1, node.address)) > 0);
}

/// Once, strangers that neither rested nor came to an end took what is kept for publishers.
#[test]
fn strangers_that_are_in_the_middle_of_requests_leave_publishers_their_room() {
    let Some((node, mut strangers)) = full_node(|node| connect_from(0, node.address)) else { return };
    for stream in &mut strangers {
        stream.write_all(b"GET /").unwrap();
    }
    assert!(served(connect_from(1, node.address)).is_none(), "there is no room for strangers");
    // A quarter of the reserve, without the one that asks for metrics.
    let publishers: Vec<_> = (0..15).map_while(|_| served(node.try_connect().ok())).collect();
    assert_eq!(publishers.len(), 15, "they stay, all of them");
    assert_eq!(node.metric("channelapi_http_rests_ended_total{reason=\"node\"}"), 0);
}

/// Once, connections that one stranger opened again and again, and that never said anything, kept everybody out.
#[test]
fn strangers_that_say_nothing_keep_nobody_out() {
    let Some(node) = small_node() else { return };
    let part = |bytes: &[u8]| {
        let mut stream = connect_from(0, node.address)?;
        stream.write_all(bytes).ok()?;
        Some(stream)
    };
    let mut crowd = Vec::new();
    for number in 0..20 {
        for bytes in [&b""[..], b"GET / HT"] {
            crowd.extend((0..FILES / 16).map(|_| part(bytes)));
        }
        assert!(is_well(&mut node.connect()), "a publisher is not served, the {number}th time");
        let newcomer = || served(connect_from(1, node.address));
        // The places that were taken from the crowd are free when its connections are gone.
        eventually("room for a newcomer", newcomer);
    }
    assert!(node.metric("channelapi_connections_refused_total{reason=\"handshakes\"}") > 0);
}

/// Once, a crowd whose proxy had not announced it yet did not count as strangers: publishers' connections had to go in its favour.
#[test]
fn whoever_is_not_announced_yet_does_not_keep_publishers_out() {
    let Some(node) = small_node() else { return };
    let mut publishers: Vec<_> = (0..8).map(|_| node.connect()).collect();
    assert!(publishers.iter_mut().all(is_well));
    let silent = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 1, 1], 0)).into()).unwrap();
        socket.connect(&node.address.into()).unwrap();
        socket
    };
    let mut crowd = Vec::new();
    let began = Instant::now();
    // Longer than neighbours rest before they make room for their like.
    while began.elapsed() < Duration::from_secs(11) {
        crowd.extend((0..FILES / 4).map(|_| silent()));
        assert!(is_well(&mut node.connect()), "a publisher is not served");
        thread::sleep(Duration::from_millis(500));
        if crowd.len() > 4 * FILES {
            crowd.drain(..2 * FILES);
        }
    }
    assert!(publishers.iter_mut().all(is_well), "a publisher's connection is gone");
    assert_eq!(node.metric("channelapi_http_rests_ended_total{reason=\"node\"}"), 0);
}

/// Once, clients of a private network did, because nobody but strangers made room.
#[test]
fn neighbours_that_rest_make_room_for_a_publisher_on_a_full_node() {
    let Some((node, _neighbours)) = full_node(|node| node.try_connect().ok()) else { return };
    assert!(rests_ended_for(|| node.try_connect().ok()) > 0);
}
