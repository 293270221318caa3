//! Heartbeats of the real server, when it stands still.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Client, Node, POLLING};
use std::thread;
use std::time::Duration;

const SETTINGS: &str = "[socketio]\nping_interval = '100ms'\nping_timeout = '3s'\n";

/// Once, every client whose answer was in the kernel by then was closed when the server went on.
#[test]
fn clients_that_answer_while_the_server_stands_still_stay() {
    let node = Node::start(SETTINGS);
    let open = node.request("GET", POLLING, &[], "").body;
    let sid = open.split(r#""sid":""#).nth(1).unwrap().split('"').next().unwrap();
    let polled = format!("{POLLING}&sid={sid}");
    let mut client = Client::enter(&node);
    while client.receive().unwrap() != "2" {}
    assert_eq!(node.request("GET", &polled, &[], "").body, "2");
    node.signal("-STOP");
    client.send("3").unwrap();
    let (address, path) = (node.address, polled.clone());
    let posting = thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        node::ask(&mut stream, "POST", &path, &[], "3").unwrap().status
    });
    thread::sleep(Duration::from_millis(3_200));
    node.signal("-CONT");
    assert_eq!(posting.join().unwrap(), 200);
    while client.receive().unwrap() != "2" {}
    assert_eq!(node.request("GET", &polled, &[], "").body, "2");
    drop(client);
    // Whoever says nothing more is gone as ever.
    node.await_metric("channelapi_connections", |count| count == 0);
    assert_eq!(
        node.metric("channelapi_disconnects_total{reason=\"ping_timeout\"}"),
        1,
        "the one that polled"
    );
}
