//! `bench` against a real server, for a second each: what it finds, and how it ends.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod program;

use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use node::{KEY, Node, PATIENCE, eventually};
use program::{check, text};
use serde_json::Value;

fn start(node: &Node, line: &str) -> Child {
    start_at(node.address, line)
}

fn start_at(address: SocketAddr, line: &str) -> Child {
    let url = format!("http://{address}");
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
    // It says how far it is, at least once; where it is by then is up to the machine.
    check(&output, 0, &["{"], &["\n"]);
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
        assert_eq!(result["due"], 50, "{result}");
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
    assert_eq!(result["due"], Value::Null, "as many as possible");
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
    // A second's worth: by then it has long said what it is doing.
    node.await_metric("channelapi_publications_total", |count| count > 50);
    let sent = Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    assert!(sent.success());
    eventually("the end", || running.try_wait().unwrap());
    let output = running.wait_with_output().unwrap();
    check(&output, 0, &[r#""interrupted":true"#, r#""deliver":{"#], &["publishing"]);
}

/// An interrupt before anything happened is no result: a script that looks at the exit code alone would take it for one.
#[test]
fn an_interrupt_before_there_is_anything_is_a_failure() {
    // It takes connections and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = start_at(silent.local_addr().unwrap(), "fanout -c 5 --json");
    let (_held, _) = silent.accept().unwrap();
    let sent = Command::new("kill").args(["-TERM", &running.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = running.wait_with_output().unwrap();
    check(
        &output,
        1,
        &[r#""interrupted":true"#, r#""figures":{}"#],
        &["interrupted before anything was measured"],
    );
}

/// A server that answers requests, and lets no client in: nobody waits for a thousand clients to find out one by one.
#[test]
fn it_gives_up_when_nobody_is_let_in() {
    let node = Node::start("");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let closing =
        thread::spawn(move || silent.incoming().take_while(Result::is_ok).map(drop).take(100).count());
    let started = Instant::now();
    let output = run(&node, &format!("connect -c 10000 --rate 20 --clients http://{address}"));
    check(&output, 1, &[], &["error: no client could join: "]);
    // All of them would take more than eight minutes.
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    for _ in 0..100 {
        _ = TcpStream::connect(address);
    }
    closing.join().unwrap();
}

/// What lets a client in and then closes its connection was asked again without a pause, and the run had no end.
#[test]
fn clients_that_are_lost_at_once_do_not_hurry_back() {
    let node = Node::start("");
    let cutter = Cutter::before(node.address);
    let line = format!("resume -c 3 --rate 10 -d 4s --every 1h --clients http://{}", cutter.address);
    let output = run(&node, &line);
    // Pauses of 0.1, 0.2, 0.4, 0.8, 1.6 … seconds; without them each would come ten times a second.
    let made = cutter.connections.load(Ordering::Relaxed);
    assert!((6..=45).contains(&made), "{made} connections: {output:?}");
}

/// A proxy that carries the first three connections for a second, in which all join, and every other for a tenth of it.
struct Cutter {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Cutter {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counter = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming() {
                let is_early = counter.fetch_add(1, Ordering::Relaxed) < 3;
                let time = Duration::from_millis(if is_early { 1000 } else { 100 });
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                thread::spawn(move || {
                    for (from, to) in [(&client, &server), (&server, &client)] {
                        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                        thread::spawn(move || std::io::copy(&mut from, &mut to));
                    }
                    thread::sleep(time);
                    _ = client.shutdown(Shutdown::Both);
                    _ = server.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, connections }
    }
}

/// With nobody left there is nothing to wait for.
#[test]
fn it_ends_when_the_server_has_gone() {
    let mut node = Node::start("");
    let started = Instant::now();
    let running = start(&node, "connect -c 5 -d 2m --json");
    node.await_metric("channelapi_connections", |count| count == 5);
    node.signal("-KILL");
    node.ended();
    let output = running.wait_with_output().unwrap();
    let errors = &serde_json::from_slice::<Value>(&output.stdout).unwrap()["errors"];
    let count = |kind: &str| errors[kind]["count"].as_u64().unwrap_or_default();
    // Whoever was not told in time that it is in has lost nothing.
    assert_eq!(count("lost") + count("join"), 5, "{errors}");
    let said = if count("lost") > 0 { "connections were lost" } else { "were not let in" };
    check(&output, 1, &["errors"], &[said]);
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
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
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("tokens.key");
    std::fs::write(&file, "tokens-only-0123456789").unwrap();
    let node = Node::start(&format!(
        "[[auth_keys]]\nname = 'tokens'\nscopes = ['tokens']\nkey_file = '{}'\n",
        file.display()
    ));
    let started = Instant::now();
    for (line, expected) in [
        ("connect -d 1h --key wrong-wrong-wrong", "refused the key"),
        ("publish -d 1h --key wrong-wrong-wrong", "refused the key"),
        ("fanout -d 1h --clients http://127.0.0.1:1", "no client could join: "),
        // It opens the door of a channel, and may not publish: every single publication would fail.
        ("fanout -d 2m --key tokens-only-0123456789", "publish"),
        ("resume -d 2m --key tokens-only-0123456789", "publish"),
    ] {
        check(&run(&node, line), 1, &[], &["error: ", expected]);
    }
    assert!(started.elapsed() < PATIENCE.max(Duration::from_mins(1)));
}
