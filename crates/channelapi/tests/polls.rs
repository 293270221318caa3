//! Answers to polls that are lost on their way: their packets are gone, so the session must end, and its client come back for them.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use node::{Answer, Node, eventually, read_answer};

/// A session that polls, in the channel `a`.
struct Poller<'a> {
    node: &'a Node,
    sid: String,
}

impl<'a> Poller<'a> {
    fn new(node: &'a Node) -> Self {
        let open = node.request("GET", "/socket.io/?EIO=4&transport=polling", &[], "");
        let sid = open.body.split(r#""sid":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
        let poller = Self { node, sid };
        let connect = format!(r#"40{{"token":"{}"}}"#, node.token("a"));
        assert_eq!(node.request("POST", &poller.path(None), &[], &connect).status, 200);
        let connected = poller.poll(&mut node.connect(), None);
        assert!(connected.body.starts_with("40{"), "{connected:?}");
        poller
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

    fn publish(&self, number: u32) {
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

const LOST: &str = "channelapi_disconnects_total{reason=\"lost\"}";

/// A browser repeats a GET by itself on another connection when one that it had used before ends without an answer. Stock clients call each
/// poll something else, so one whose name comes twice is such a repetition.
#[test]
fn a_poll_that_is_repeated_because_its_connection_was_closed_ends_the_session() {
    let node = Node::start("");
    for is_reset in [false, true] {
        let before = node.metric(LOST);
        let poller = Poller::new(&node);
        poller.lose_answer(Some("a"), is_reset);
        assert!(poller.ended(Some("a")));
        assert_eq!(node.metric(LOST), before + 1);

        // The other one has the answer, and asks for the next. A proxy may have reset what it did not need any more.
        let poller = Poller::new(&node);
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
        std::thread::sleep(Duration::from_millis(300));
        socket2::SockRef::from(&stalled).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stalled);
        node.await_metric(LOST, |lost| lost == 1);
        assert!(poller.ended(Some("b")), "HTTP/{version}");
    }
}

/// The repetition may be here before the end of the connection is.
#[test]
fn a_poll_that_is_repeated_before_its_connection_has_ended_ends_the_session() {
    let node = Node::start("");
    let poller = Poller::new(&node);
    let (mut first, mut second) = (node.connect(), node.connect());
    poller.publish(1);
    assert_eq!(poller.poll(&mut first, Some("a")).status, 200);
    poller.ask(&mut second, Some("a"), "1.1");
    std::thread::sleep(Duration::from_millis(100));
    drop(first);
    node.await_metric(LOST, |lost| lost == 1);
    assert!(poller.ended(Some("b")));
}

/// Some clients call a poll by the second, and connect anew for each through a proxy that speaks HTTP/1.0.
#[test]
fn names_that_come_again_are_no_repetition_where_nothing_was_lost() {
    let node = Node::start("");
    let poller = Poller::new(&node);
    let mut kept = node.connect();
    for number in 0..3 {
        poller.publish(number);
        assert_eq!(poller.poll(&mut kept, Some("a")).status, 200);
    }
    let mut others = [node.connect(), node.connect()];
    for number in 0..4 {
        poller.publish(number);
        assert_eq!(poller.poll(&mut others[number as usize % 2], Some("a")).status, 200);
    }
    let poller = Poller::new(&node);
    for number in 0..3 {
        poller.publish(number);
        let mut stream = node.connect();
        poller.ask(&mut stream, Some("a"), "1.0");
        assert_eq!(read_answer(&mut stream).unwrap().status, 200, "{number}");
    }
    assert_eq!(node.metric(LOST), 0);
}
