//! `bench` against a real server, for a second each: what it finds, and how it ends.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod program;

use std::{
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use node::{KEY, Node, PATIENCE, eventually};
use program::{check, text};
use serde_json::Value;

fn start(node: &Node, line: &str) -> Child {
    let url = format!("http://{}", node.address);
    let mut command = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    let (verb, rest) = line.split_once(' ').unwrap();
    command.args(["bench", verb, "--server", &url, "--key", KEY]).args(rest.split(' ')).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(node: &Node, line: &str) -> Output {
    start(node, line).wait_with_output().unwrap()
}

/// The result of a run that went well.
fn result(node: &Node, line: &str) -> Value {
    let output = run(node, &format!("{line} --json"));
    // How far it is, it says only where a busy machine lets it.
    check(&output, 0, &["{"], &["starting"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["errors"], serde_json::json!({}), "{result}");
    assert_eq!(result["interrupted"], false);
    result
}

#[track_caller]
fn is_in_order(figure: &Value) {
    let times =
        ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| figure[name].as_u64().unwrap());
    assert!(times[0] > 0 && times.is_sorted(), "{figure}");
    assert!(figure["per_second"].as_f64().unwrap() > 0.0, "{figure}");
}

#[test]
fn clients_join_and_stay() {
    let node = Node::start("");
    let result = result(&node, "connect -c 50 --rate 200 -d 100ms");
    let join = &result["figures"]["join"];
    assert_eq!((&result["bench"], &join["count"]), (&Value::from("connect"), &Value::from(50)), "{result}");
    is_in_order(join);
    // 50 at 200 a second take a quarter of a second: 49 pauses of 5 ms.
    assert!(join["per_second"].as_f64().unwrap() < 210.0, "{result}");
    node.await_metric("channelapi_connections", |count| count == 0);
}

#[test]
fn every_client_gets_every_publication() {
    let node = Node::start("");
    for kind in ["", " --volatile"] {
        let result = result(&node, &format!("fanout -c 20 --rate 50 -d 1s{kind}"));
        let figures = &result["figures"];
        let count = |name: &str| figures[name]["count"].as_u64().unwrap();
        // Due at 0, 20, …, 980 ms; a busy machine may not come to the last ones in time.
        assert!((1..=50).contains(&count("publish")), "{result}");
        assert_eq!(count("deliver"), 20 * count("publish"), "{result}");
        assert_eq!(count("last"), count("publish"), "{result}");
        is_in_order(&figures["deliver"]);
    }
}

#[test]
fn publishers_say_what_storing_takes() {
    let node = Node::start("");
    let result = result(&node, "publish -c 4 --channels 3 -d 300ms --size 64");
    let publish = &result["figures"]["publish"];
    is_in_order(publish);
    let stored = node.metric("channelapi_publications_total");
    // One more tries whether it can publish at all.
    assert_eq!(stored, publish["count"].as_u64().unwrap() + 1);
    let answer = node.call("GET", "/v1/channels/bench-2/messages?since=all", "");
    assert!(answer.body.contains(r#""event":"bench""#), "{answer:?}");
}

#[test]
fn who_is_cut_off_comes_back_and_misses_nothing() {
    let node = Node::start("");
    let result = result(&node, "resume -c 10 --rate 40 -d 2s --every 700ms --away 100ms");
    // Each is cut off in the first 700 ms, and as often again as a busy machine lets it come back.
    assert!(result["figures"]["return"]["count"].as_u64().unwrap() >= 10, "{result}");
    is_in_order(&result["figures"]["return"]);
}

/// The same, with a server that is killed under it: publications are repeated, and clients come back from that too.
#[test]
fn a_killed_server_loses_nothing() {
    let mut node = Node::start("");
    let running = start(&node, "resume -c 10 --rate 40 -d 3s --every 30s --json");
    node.await_metric("channelapi_publications_total", |count| count > 10);
    node.signal("-KILL");
    node.ended();
    node.restart();
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["figures"]["return"]["count"], 10, "{result}");
}

/// What is missing must be found: this server forgets what a client that is away would come back for.
#[test]
fn a_history_that_is_too_short_is_told() {
    let node = Node::start("[history]\nmax_messages = 2\n");
    let output = run(&node, "resume -c 5 --rate 50 -d 2s --every 1s --away 500ms");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let err = text(&output.stderr);
    assert!(
        err.contains("deliveries are missing (the first: ")
            && err.contains("came back to a history with a gap"),
        "{err}"
    );
    assert!(text(&output.stdout).contains("come back and catch up"), "{output:?}");
}

#[test]
fn an_interrupt_ends_it_with_what_was_measured() {
    let node = Node::start("");
    let mut running = start(&node, "fanout -c 5 --rate 50 -d 1h --json");
    node.await_metric("channelapi_publications_total", |count| count > 5);
    let sent = Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    assert!(sent.success());
    eventually("the end", || running.try_wait().unwrap());
    let output = running.wait_with_output().unwrap();
    check(&output, 0, &[r#""interrupted":true"#, r#""deliver":{"#], &["publishing"]);
}

#[test]
fn a_table_is_for_people() {
    let node = Node::start("");
    let output = run(&node, "fanout -c 3 --rate 20 -d 200ms");
    let rows =
        ["3 clients in one channel", "p99.9", "connect and join", "publish until delivered", "% of one core"];
    check(&output, 0, &rows, &["publishing"]);
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let node = Node::start("");
    let started = std::time::Instant::now();
    for (line, expected) in [
        ("connect -d 1h --key wrong-wrong-wrong", "refused the key"),
        ("publish -d 1h --key wrong-wrong-wrong", "refused the key"),
        ("fanout -d 1h --clients http://127.0.0.1:1", "no client could join: "),
    ] {
        check(&run(&node, line), 1, &[], &["error: ", expected]);
    }
    assert!(started.elapsed() < PATIENCE.max(Duration::from_mins(1)));
}
