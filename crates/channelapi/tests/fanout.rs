//! The fan-out of the real server, where little may wait for clients.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Client, Node};
use std::thread;

/// Once, what the server held for a moment, to send it in one write, counted as what clients do not take: those that read at once were
/// served from history, missed what is kept nowhere, or were closed.
#[test]
fn clients_that_read_are_not_slow_however_little_may_wait() {
    const CLIENTS: usize = 100;
    const ROUNDS: usize = 500;
    let node = Node::start("[limits]\nslow_clients_memory = '1MiB'\n");
    let tokens = [node.token("a"), node.token("b")];
    let readers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::join(&node, &tokens[0]);
            client.send(&format!(r#"42["join_channel",{{"token":"{}"}}]"#, tokens[1])).unwrap();
            client.await_text("Connected to b");
            thread::spawn(move || (0..2 * ROUNDS).all(|_| client.await_text("message").contains("message")))
        })
        .collect();
    let items = [r#"{"channel":"a","data":1}"#, r#"{"channel":"b","data":2}"#].join(",");
    let batch = format!(r#"{{"messages":[{}]}}"#, vec![items; ROUNDS].join(","));
    assert_eq!(node.call("POST", "/v1/messages", &batch).status, 200);
    assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
    assert_eq!(node.metric("channelapi_catch_ups_total"), 0);
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"slow_node\"}"), 0);
}
