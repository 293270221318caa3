//! Reading what was published, page by page.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

use serde_json::{Value, json};

mod node;

use node::Node;

/// A server that keeps so many messages of a channel, and has got so many in one.
fn filled(kept: usize, published: usize) -> Node {
    let node = Node::start(&format!("[history]\nmax_messages = {kept}\n"));
    for data in 1..=published {
        let body = json!({ "data": data }).to_string();
        assert_eq!(node.call("POST", "/v1/channels/a/messages", &body).status, 201);
    }
    node
}

fn page(node: &Node, query: &str) -> Value {
    let answer = node.call("GET", &format!("/v1/channels/a/messages?{query}"), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

fn data(page: &Value) -> Value {
    page["messages"].as_array().unwrap().iter().map(|message| message["data"].clone()).collect()
}

/// What follows the cursor of a page.
fn behind(node: &Node, before: &Value) -> Value {
    page(node, &format!("since={}", before["cursor"].as_str().unwrap()))
}

#[test]
fn the_cursor_of_a_page_with_an_end_continues_right_behind_it() {
    let node = filled(100, 6);
    for (query, shown, rest) in [
        ("since=1&before=4", json!([2, 3]), json!([4, 5, 6])),
        ("before=4", json!([1, 2, 3]), json!([4, 5, 6])),
        ("since=all&before=5&limit=2", json!([1, 2]), json!([3, 4, 5, 6])),
        ("since=3&before=100", json!([4, 5, 6]), json!([])),
        // Nothing is in between: it stays where it was.
        ("since=4&before=2", json!([]), json!([5, 6])),
        ("since=6&before=100", json!([]), json!([])),
    ] {
        let page = page(&node, query);
        let following = behind(&node, &page);
        assert_eq!((data(&page), data(&following)), (shown, rest), "{query}");
        assert_eq!(following["recovered"], true, "{query}");
    }
}

#[test]
fn what_is_trimmed_is_told_once_also_before_an_end() {
    let node = filled(3, 5);
    let empty = page(&node, "since=all&before=3");
    assert_eq!((data(&empty), &empty["reason"]), (json!([]), &json!("trimmed")));
    let following = behind(&node, &empty);
    assert_eq!((data(&following), &following["recovered"]), (json!([3, 4, 5]), &json!(true)));
}
