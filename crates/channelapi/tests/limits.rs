//! Limits of the real server, and the metrics that tell of them.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Client, Node};

#[test]
fn metrics_are_for_whoever_has_the_key() {
    let node = Node::start("");
    let refused = node.request("GET", "/metrics", &[], "");
    assert_eq!((refused.status, refused.body.contains("need an API key")), (403, true), "{refused:?}");
    let wrong = node.request("GET", "/metrics", &[("Authorization", "Bearer wrong")], "");
    assert_eq!(wrong.status, 403);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"no_key\"}"), 1);
    assert_eq!(node.metric("channelapi_requests_refused_total{reason=\"wrong_key\"}"), 1);
    let page = node.call("GET", "/metrics", "");
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!page.body.contains(node::KEY));
}

#[test]
fn what_happens_is_counted() {
    let node = Node::start("");
    let token = node.token("a");
    let mut clients: Vec<_> = (0..3).map(|_| Client::join(&node, &token)).collect();
    assert_eq!(node.metric("channelapi_connections"), 3);
    assert_eq!(node.metric("channelapi_channels"), 1);
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    for client in &mut clients {
        client.await_text(r#"42["message",1]"#);
    }
    assert_eq!(node.metric("channelapi_publications_total"), 1);
    node.await_metric("channelapi_deliveries_total", |deliveries| deliveries == 3);
    drop(clients);
    node.await_metric("channelapi_connections", |connections| connections == 0);
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"lost\"}"), 3);
    assert_eq!(node.metric("channelapi_events_total{event=\"join_channel\"}"), 3);
    assert_eq!(node.metric("channelapi_panics_total"), 0);

    let mut stranger = Client::enter(&node);
    stranger.send(r#"42["join_channel",{"token":"unknown"}]"#).unwrap();
    stranger.await_text("41");
    assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"token\"}"), 1);
}
