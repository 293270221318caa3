//! Batches, and what is published again, as backends meet them.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

use serde_json::{Value, json};

mod node;

use node::{Client, Node, eventually};

/// A server whose channels get so many messages a second, once that is in effect.
fn paced(rate: u64) -> Node {
    let node = Node::start(&format!("[limits]\npublish_rate_per_channel = {rate}\n"));
    // The rate is in effect a moment after the start.
    node.await_metric("channelapi_memory_limit_bytes", |limit| limit > 0);
    node
}

/// The results of a batch of messages to these channels, whose data are their places.
fn publish(node: &Node, channels: &[&str]) -> Vec<Value> {
    let message = |(place, channel): (usize, &&str)| json!({"channel": channel, "data": place});
    let messages: Vec<_> = channels.iter().enumerate().map(message).collect();
    results(node, &[], &json!({ "messages": messages }))
}

fn results(node: &Node, headers: &[(&str, &str)], body: &Value) -> Vec<Value> {
    let headers = [&[("Authorization", node::KEY)], headers].concat();
    let answer = node.request("POST", "/v1/messages", &headers, &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    let Value::Array(results) = json_of(&answer)["results"].take() else { panic!("{answer:?}") };
    results
}

fn json_of(answer: &node::Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results.iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

/// The data that a channel keeps.
fn kept(node: &Node, channel: &str) -> Value {
    let answer = node.call("GET", &format!("/v1/channels/{channel}/messages"), "");
    let messages = json_of(&answer)["messages"].take();
    messages.as_array().unwrap().iter().map(|message| message["data"].clone()).collect()
}

/// Once, one channel that got too many had the whole batch refused, with the same reason for all.
#[test]
fn a_channel_that_gets_too_many_has_its_items_refused_and_no_others() {
    let node = paced(3);
    // The second time may be a second later, and then so is the refusal.
    let refused = eventually("a channel that gets too many", || {
        let results = publish(&node, &["hot", "hot", "cold", "hot"]);
        assert_eq!(results[2]["status"], 201, "{results:?}");
        Some(results).filter(|results| results[0]["status"] != 201)
    });
    assert_eq!(statuses(&refused), [429, 429, 201, 429]);
    for place in [0, 1, 3] {
        let (code, wait) = (&refused[place]["code"], &refused[place]["retry_after"]);
        assert_eq!((code, wait), (&json!("rate_limited"), &json!(1)), "{refused:?}");
    }
    assert_eq!(refused[2]["retry_after"], Value::Null);
    eventually("the next second", || (publish(&node, &["hot"])[0]["status"] == 201).then_some(()));
}

/// Once, only neighbours were counted together: these had gone in as two, and one more.
#[test]
fn the_items_of_a_channel_are_counted_together_wherever_they_stand() {
    let node = paced(2);
    let results = publish(&node, &["a", "a", "b", "a"]);
    assert_eq!(statuses(&results), [429, 429, 201, 429]);
    assert_eq!((kept(&node, "a"), kept(&node, "b")), (json!([]), json!([2])));
    // Nothing was used up by what was refused.
    assert_eq!(statuses(&publish(&node, &["a", "b", "a"])), [201, 201, 201]);
    assert_eq!(kept(&node, "a"), json!([0, 2]));
}

/// Once, whoever sent more than a second's was told to try again later, for ever.
#[test]
fn whoever_sends_more_than_a_channel_or_a_key_may_have_at_once_is_told_how_many_that_is() {
    let node = paced(2);
    let results = publish(&node, &["a", "b", "a", "a"]);
    assert_eq!(statuses(&results), [429, 201, 429, 429]);
    let detail = "These are more messages than the channel may have at once, which is 2.";
    assert_eq!((&results[0]["code"], &results[0]["detail"]), (&json!("rate_limited"), &json!(detail)));
    assert_eq!(results[0]["retry_after"], Value::Null, "it will not pass");

    let node = Node::start("[limits]\npublish_rate_per_key = 2\n");
    node.await_metric("channelapi_memory_limit_bytes", |limit| limit > 0);
    let refused = node.call("POST", "/v1/messages", r#"{"channels":["a","b","c"],"data":1}"#);
    assert_eq!((refused.status, refused.header("retry-after")), (429, None), "{refused:?}");
    let problem = json_of(&refused);
    let detail = "These are more messages than the API key may have at once, which is 2.";
    assert_eq!((&problem["code"], &problem["detail"]), (&json!("key_rate_limited"), &json!(detail)));
    let answer = node.call("POST", "/v1/messages", r#"{"channels":["a","b"],"data":1}"#);
    assert_eq!(json_of(&answer)["stored"], 2, "nothing was used up by what was refused: {answer:?}");
}

/// Once, the keys that are made of a long one were longer than a key may be, and refused.
#[test]
fn the_longest_key_of_a_batch_is_good_for_all_of_its_items() {
    let mut node = Node::start("");
    let key = "K".repeat(255);
    let publish = |node: &Node| {
        let messages: Vec<_> = (0..12).map(|data| json!({"channel": "a", "data": data})).collect();
        results(node, &[("Idempotency-Key", &key)], &json!({ "messages": messages }))
    };
    assert_eq!(statuses(&publish(&node)), [201; 12]);
    assert_eq!(statuses(&publish(&node)), [200; 12]);
    node.signal("-KILL");
    _ = node.ended();
    node.restart();
    assert_eq!(statuses(&publish(&node)), [200; 12]);
    assert_eq!(kept(&node, "a").as_array().unwrap().len(), 12);
}

#[test]
fn a_repeat_of_what_was_purged_does_not_bring_it_back() {
    let mut node = Node::start("");
    let publish = |node: &Node, key: &str| {
        let headers = [("Authorization", node::KEY), ("Idempotency-Key", key)];
        let answer = node.request("POST", "/v1/channels/a/messages", &headers, r#"{"data":1}"#);
        (answer.status, json_of(&answer))
    };
    let (status, first) = publish(&node, "K");
    assert_eq!(status, 201, "{first}");
    assert_eq!(node.call("DELETE", "/v1/channels/a/messages", "").status, 200);
    for life in 1..=2 {
        let (status, again) = publish(&node, "K");
        let is_same = again["id"] == first["id"] && again["duplicate"] == true;
        assert!(status == 200 && is_same, "life {life}: {again} instead of {first}");
        assert_eq!(kept(&node, "a"), json!([]), "life {life}");
        if life == 1 {
            node.signal("-KILL");
            _ = node.ended();
            node.restart();
        }
    }
    let (status, other) = publish(&node, "another");
    assert!(status == 201 && other["epoch"] != first["epoch"] && other["offset"] == 1, "{other}");
    assert_eq!(kept(&node, "a"), json!([1]));
}

#[test]
fn volatile_items_leave_behind_all_that_are_stored_and_in_their_order() {
    let node = Node::start("");
    let mut client = Client::join(&node, &node.token("a"));
    let item =
        |number: usize| json!({"channel": "a", "data": format!("<{number}>"), "volatile": number % 2 == 1});
    let items: Vec<_> = (0..6).map(item).collect();
    assert_eq!(statuses(&results(&node, &[], &json!({"messages": items}))), [201, 200, 201, 200, 201, 200]);
    for number in [0, 2, 4, 1, 3, 5] {
        let told = client.receive().unwrap();
        assert!(told.contains(&format!("<{number}>")), "{told} instead of {number}");
    }
}
