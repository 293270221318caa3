//! Answers to polls that are lost on their way: their packets are gone, so the session must end, and its client come back for them.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use node::{Answer, Node, eventually, read_answer};

/// A session that polls, in the channel `a`.
struct Poller<'a> {
    node: &'a Node,
    sid: String,
    /// What it comes back by: its pid, and the last cursor that it has read.
    place: [String; 2],
}

impl<'a> Poller<'a> {
    fn new(node: &'a Node) -> Self {
        Self::named(node, [None, None])
    }

    /// Its first requests have these names: to open the session, and to poll.
    fn named(node: &'a Node, names: [Option<&str>; 2]) -> Self {
        let connect = format!(r#"40{{"token":"{}"}}"#, node.token("a"));
        Self::connected(node, &connect, names).0
    }

    /// Enters with that, and polls for what is said to it first.
    fn connected(node: &'a Node, connect: &str, names: [Option<&str>; 2]) -> (Self, String) {
        let name = names[0].map_or_else(String::new, |name| format!("&t={name}"));
        let open = node.request("GET", &format!("/socket.io/?EIO=4&transport=polling{name}"), &[], "");
        let sid = open.body.split(r#""sid":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
        let mut poller = Self { node, sid, place: Default::default() };
        assert_eq!(node.request("POST", &poller.path(None), &[], connect).status, 200);
        let connected = poller.poll(&mut node.connect(), names[1]).body;
        assert!(connected.starts_with("40{"), "{connected:?}");
        let pid = connected.split(r#""pid":""#).nth(1).unwrap().split('"').next().unwrap();
        poller.place = [pid.to_owned(), checkpoint_in(&connected)];
        (poller, connected)
    }

    /// One that has shown that it names its polls finely, by messages that come quickly.
    fn with_fine_names(node: &'a Node) -> Self {
        let mut poller = Self::new(node);
        let mut stream = node.connect();
        for number in 0..20 {
            poller.publish(100 + number);
            let answer = poller.poll(&mut stream, Some(&format!("fine{number}")));
            poller.place[1] = checkpoint_in(&answer.body);
        }
        poller
    }

    /// What is said to its client when that comes back.
    fn comes_back(&self) -> String {
        let [pid, cursor] = &self.place;
        let token = self.node.token("a");
        let connect = format!(r#"40{{"token":"{token}","pid":"{pid}","offset":"{cursor}"}}"#);
        let (back, connected) = Self::connected(self.node, &connect, [None, None]);
        assert_eq!(back.place[0], *pid, "all is there: {connected}");
        connected
    }

    fn path(&self, name: Option<&str>) -> String {
        let name = name.map_or_else(String::new, |name| format!("&t={name}"));
        format!("/socket.io/?EIO=4&transport=polling&sid={}{name}", self.sid)
    }

    fn ask(&self, stream: &mut TcpStream, name: Option<&str>, version: &str) {
        write!(stream, "GET {} HTTP/{version}\r\nHost: x\r\n\r\n", self.path(name)).unwrap();
    }

    fn poll(&self, stream: &mut TcpStream, name: Option<&str>) -> Answer {
        self.ask(stream, name, "1.1");
        read_answer(stream).unwrap()
    }

    fn publish(&self, number: usize) {
        let answer = self.node.call("POST", "/message/a", &format!(r#"{{"message":{number}}}"#));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Polls for a message, and loses the connection before the answer is read.
    fn lose_answer(&self, name: Option<&str>, is_reset: bool) {
        let mut lost = self.node.connect();
        self.ask(&mut lost, name, "1.1");
        std::thread::sleep(Duration::from_millis(100));
        self.publish(1);
        // It has left the server, as far as that can tell.
        eventually("an answer", || (lost.peek(&mut [0; 1_000]).unwrap() > 100).then_some(()));
        if is_reset {
            socket2::SockRef::from(&lost).set_linger(Some(Duration::ZERO)).unwrap();
        } else {
            read_answer(&mut lost).unwrap();
        }
        drop(lost);
        std::thread::sleep(Duration::from_millis(100));
        self.publish(2);
    }

    fn ended(&self, name: Option<&str>) -> bool {
        let answer = self.poll(&mut self.node.connect(), name);
        match answer.status {
            200 => false,
            400 => true,
            _ => panic!("{answer:?}"),
        }
    }
}

fn checkpoint_in(body: &str) -> String {
    let cursor = body.rsplit(r#"42["checkpoint",""#).next().unwrap().split('"').next().unwrap();
    assert!(cursor.starts_with("ca1."), "{body}");
    cursor.to_owned()
}

const LOST: &str = "channelapi_disconnects_total{reason=\"lost\"}";

/// A browser repeats a GET by itself on another connection when one that it had used before ends without an answer. Stock clients call each
/// poll something else, so one whose name comes twice is such a repetition.
#[test]
fn a_poll_that_is_repeated_because_its_connection_was_closed_ends_the_session() {
    let node = Node::start("");
    for is_reset in [false, true] {
        let before = node.metric(LOST);
        let poller = Poller::with_fine_names(&node);
        poller.lose_answer(Some("a"), is_reset);
        assert!(poller.ended(Some("a")));
        assert_eq!(node.metric(LOST), before + 1);

        // The other one has the answer, and asks for the next. A proxy may have reset what it did not need any more.
        let poller = Poller::with_fine_names(&node);
        poller.lose_answer(Some("a"), is_reset);
        assert!(!poller.ended(Some("b")));
        let unnamed = Poller::new(&node);
        unnamed.lose_answer(None, is_reset);
        assert!(!unnamed.ended(None), "nobody can know");
        assert_eq!(node.metric(LOST), before + 1);
    }
}

/// One that its client never took as a whole is lost for sure, whatever the next poll is called.
#[test]
fn an_answer_that_could_not_be_written_ends_the_session() {
    let large = format!(r#"{{"message":"{}"}}"#, "x".repeat(250_000));
    // The second is for hyper, as whatever is seldom.
    for version in ["1.1", "1.0"] {
        let node = Node::start("");
        let poller = Poller::new(&node);
        let mut stalled = node.connect();
        socket2::SockRef::from(&stalled).set_recv_buffer_size(4 << 10).unwrap();
        for _ in 0..30 {
            assert_eq!(node.call("POST", "/message/a", &large).status, 200);
        }
        poller.ask(&mut stalled, Some("a"), version);
        eventually("some of it", || (stalled.peek(&mut [0; 1_000]).unwrap() > 100).then_some(()));
        socket2::SockRef::from(&stalled).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stalled);
        node.await_metric(LOST, |lost| lost == 1);
        assert!(poller.ended(Some("b")), "HTTP/{version}");
    }
}

/// What a proxy does with the connections to the server, while a browser that has lost an answer asks for it once more.
#[derive(Debug, Clone, Copy)]
enum Proxy {
    /// It has a connection for each request: with the header that says so, or HTTP/1.0.
    Closes,
    Http10,
    /// It has several, and takes another one.
    Pools,
    /// It takes the same one.
    Keeps,
    /// It takes another one, and closes the first later.
    ClosesLater,
}

/// Once, this was noticed only if the server saw in time that the connection was closed: what had been in the answer was missed silently
/// behind a proxy, which takes an answer and throws it away when the browser is gone.
#[test]
fn a_poll_that_is_repeated_through_a_proxy_ends_the_session_and_its_client_misses_nothing() {
    let node = Node::start("");
    for (round, proxy) in
        [Proxy::Closes, Proxy::Http10, Proxy::Pools, Proxy::Keeps, Proxy::ClosesLater].into_iter().enumerate()
    {
        let poller = Poller::with_fine_names(&node);
        let mut streams = [node.connect(), node.connect()];
        poller.publish(7_000 + round);
        match proxy {
            Proxy::Closes => {
                let path = poller.path(Some("a"));
                write!(streams[0], "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            }
            Proxy::Http10 => poller.ask(&mut streams[0], Some("a"), "1.0"),
            Proxy::Pools | Proxy::Keeps | Proxy::ClosesLater => {
                poller.ask(&mut streams[0], Some("a"), "1.1");
            }
        }
        let thrown_away = read_answer(&mut streams[0]).unwrap();
        assert!(thrown_away.body.contains(&format!("{}", 7_000 + round)), "{proxy:?}: {thrown_away:?}");
        // Later than the polls of somebody who names them by ticks of a clock.
        std::thread::sleep(Duration::from_millis(50));
        poller.publish(8_000 + round);
        let before = node.metric(LOST);
        let repeated = poller.poll(&mut streams[usize::from(!matches!(proxy, Proxy::Keeps))], Some("a"));
        assert_eq!(repeated.status, 400, "{proxy:?}: {repeated:?}");
        drop(streams);
        assert_eq!(node.metric(LOST), before + 1, "{proxy:?}");
        assert!(poller.ended(Some("b")), "{proxy:?}");
        let missed = poller.comes_back();
        let [first, second] = [7_000 + round, 8_000 + round].map(|number| missed.find(&number.to_string()));
        assert!(first.is_some() && first < second, "{proxy:?}: {missed}");
    }
}

/// Who gets a message now and then shows no three names within a second. But its polls wait, and no clock has the same second behind that.
#[test]
fn a_repeated_poll_that_had_waited_ends_the_session_of_a_client_that_gets_little() {
    let node = Node::start("");
    let poller = Poller::new(&node);
    let mut stream = node.connect();
    poller.publish(1);
    assert_eq!(poller.poll(&mut stream, Some("a")).status, 200);
    poller.ask(&mut stream, Some("b"), "1.1");
    std::thread::sleep(Duration::from_secs(2));
    poller.publish(7_002);
    read_answer(&mut stream).unwrap();
    poller.publish(7_003);
    assert_eq!(poller.poll(&mut stream, Some("b")).status, 400);
    assert_eq!(node.metric(LOST), 1);
    let missed = poller.comes_back();
    assert!(missed.contains("7002") && missed.contains("7003"), "{missed}");
}

/// Sent again while the first still waits, it is one poll too many, as it always was.
#[test]
fn a_poll_that_is_repeated_while_it_waits_is_one_too_many() {
    let node = Node::start("");
    let poller = Poller::with_fine_names(&node);
    let mut first = node.connect();
    poller.ask(&mut first, Some("a"), "1.1");
    // Long enough for it to be the first on any machine.
    std::thread::sleep(Duration::from_secs(1));
    assert!(poller.ended(Some("a")));
    assert_eq!(node.metric(LOST), 0);
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"protocol_error\"}"), 1);
}

/// What becomes of the connection of a poll.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// It has served others, and will serve more.
    Kept,
    /// It has one of its own, which the server closes.
    Http10,
    /// It has one of its own, which the client closes before it polls again.
    Closed,
    /// Which it closes later.
    ClosedLater,
}

/// As a program does that names them by `time()`: some polls are answered at once and called the same, some wait for seconds. Once, such a
/// client never got past connecting where each of its polls has a connection of its own that is closed behind the answer, as many proxies
/// do: with the second poll of a second its session ended.
#[test]
fn who_names_polls_by_the_second_or_always_the_same_or_not_at_all_is_served() {
    let by_the_second = || Some(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string());
    let names: [fn() -> Option<String>; 3] = [by_the_second, || Some("a".to_owned()), || None];
    std::thread::scope(|scope| {
        for (name, way) in names
            .into_iter()
            .flat_map(|name| [Way::Kept, Way::Http10, Way::Closed, Way::ClosedLater].map(|way| (name, way)))
        {
            scope.spawn(move || {
                let node = Node::start("");
                let names = [name(), name()];
                let poller = Poller::named(&node, names.each_ref().map(Option::as_deref));
                let mut kept = [node.connect(), node.connect()];
                let mut closing = VecDeque::new();
                let mut poll = |number: usize, waits: Duration| {
                    let version = if let Way::Http10 = way { "1.0" } else { "1.1" };
                    let mut own = node.connect();
                    let stream = if let Way::Kept = way { &mut kept[number / 2 % 2] } else { &mut own };
                    poller.ask(stream, name().as_deref(), version);
                    std::thread::sleep(waits);
                    poller.publish(number);
                    assert_eq!(read_answer(stream).unwrap().status, 200, "{number}, {way:?}");
                    if let Way::ClosedLater = way {
                        closing.push_front(own);
                        closing.truncate(3);
                    }
                };
                let began = Instant::now();
                for number in (0..).take_while(|_| began.elapsed() < Duration::from_millis(3_500)) {
                    // So that the next one is answered at once, sometimes.
                    if number % 3 == 0 {
                        poller.publish(number);
                    }
                    poll(number, Duration::ZERO);
                }
                (0..4).for_each(|number| poll(number, Duration::from_millis(1_150)));
                assert_eq!(node.metric(LOST), 0, "{way:?}");
            });
        }
    });
}

#[test]
fn what_one_session_shows_says_nothing_of_another() {
    let node = Node::start("");
    let (fine, other) = (Poller::with_fine_names(&node), Poller::new(&node));
    let mut stream = node.connect();
    for number in 0..5 {
        std::thread::sleep(Duration::from_millis(30));
        other.publish(number);
        let name = format!("a{number}");
        assert_eq!(fine.poll(&mut stream, Some(&name)).status, 200, "{number}");
        // The same name as there, and the one that it always has.
        let name = if number == 0 { &name } else { "a" };
        assert_eq!(other.poll(&mut stream, Some(name)).status, 200, "{number}");
    }
    assert_eq!(node.metric(LOST), 0);
    std::thread::sleep(Duration::from_millis(30));
    assert!(fine.ended(Some("a4")));
    other.publish(9);
    assert!(!other.ended(Some("a")));
}
