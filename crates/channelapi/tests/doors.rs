//! The doors of the real server, where what a client brings is not what it seems.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Client, Node};

/// Brings this to the handshake door, and returns what it is admitted or refused with.
fn bring(node: &Node, auth: &str) -> (Client, String) {
    let mut client = Client::open(node, &[]).unwrap();
    client.send(&format!("40{auth}")).unwrap();
    let answer = loop {
        let text = client.receive().unwrap();
        if text.starts_with("40") || text.starts_with("44") {
            break text;
        }
    };
    (client, answer)
}

/// Once, it was let in as a client without a token, and never heard anything.
#[test]
fn a_token_that_cannot_be_read_is_refused_and_counted() {
    let node = Node::start("");
    let (_, answer) = bring(&node, r#"{"token":"cut \ud83d"}"#);
    assert!(answer.starts_with("44") && answer.contains(r#""code":"bad_auth""#), "{answer}");
    assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"bad_request\"}"), 1);
}
