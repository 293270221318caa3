//! The log of the real server: whoever does not read it holds nobody up.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Node, eventually};
use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    process::{Command, Stdio},
};

const DROPPED: &str = "channelapi_log_lines_dropped_total";

/// Once, one line of a log that nobody read held up the thread that logged it, and with it every request and every signal.
#[test]
fn whoever_does_not_read_the_log_is_told_later_how_much_is_missing() {
    let mut node = Node::start_unread("");
    assert_eq!(node.metric(DROPPED), 0);
    // Each reload logs a line for each of them.
    let mistakes: Vec<_> = (0..1_000).map(|number| format!("unknown_{number} = 1")).collect();
    fs::write(node.dir.path().join("channelapi.toml"), mistakes.join("\n")).unwrap();
    eventually("more than has room", || {
        node.signal("-HUP");
        (node.metric(DROPPED) > 2).then_some(())
    });
    assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);

    node.read_log();
    let first = node.await_log("\"ready\"");
    assert!(first.starts_with('{') && first.ends_with('}'), "{first}");
    let mut missing = 0;
    while missing < node.metric(DROPPED) {
        let told = node.await_log("so many lines are missing here");
        let lines = told.split("\"lines\":").nth(1).unwrap().split([',', '}']).next().unwrap();
        missing += lines.parse::<u64>().unwrap();
    }
    assert_eq!(missing, node.metric(DROPPED));
    let heard: usize = node.said.iter().filter(|line| line.contains("unknown_")).map(String::len).sum();
    assert!((500_000..1_500_000).contains(&heard), "a megabyte was kept: {heard}");
    node.signal("-TERM");
    node.await_log("\"stopped\"");
    assert_eq!(node.ended(), Some(0));
}

/// Once, it went on for ever.
#[test]
fn a_server_whose_log_nobody_reads_ends_when_it_is_told_to() {
    let mut node = Node::start_unread("");
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));

    let mut node = Node::start_unread("[drain]\ndelay = '50s'\n");
    node.signal("-INT");
    eventually("its stop", || (node.call("GET", "/readyz", "").status == 503).then_some(()));
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(1));
}

/// Once, a server that had long to read at its start heard no signal before it was ready.
#[test]
fn a_server_that_is_starting_ends_when_it_is_told_to() {
    let hash = "0".repeat(64);
    let key = format!("[[auth_keys]]\nname = 'other'\nscopes = ['read']\nhash = 'sha256:{hash}'\n");
    let mut node = Node::start(&key);
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
    // A file that cannot be read to its end.
    let secret = node.dir.path().join("data/token_secret");
    let kept = fs::read(&secret).unwrap();
    fs::remove_file(&secret).unwrap();
    assert!(Command::new("mkfifo").arg(&secret).status().unwrap().success());
    node.begin_restart();
    node.await_log("an API key of the configuration file counts");
    // Heard when the server has started; once, it ended it.
    node.signal("-HUP");
    node.signal("-TERM");
    node.await_log("SIGTERM: stopping");
    node.await_log("\"stopped\"");
    assert_eq!(node.ended(), Some(0));

    fs::remove_file(&secret).unwrap();
    fs::write(&secret, kept).unwrap();
    node.restart();
}

/// Once, a banner that could not be printed ended the server with a panic.
#[test]
fn a_banner_that_nobody_reads_is_no_reason_not_to_serve() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, closed) = io::pipe().unwrap();
    drop(reader);
    let mut server = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    server.current_dir(dir.path()).args(["--log-format=pretty", "--port=0", "--address=127.0.0.1"]);
    let mut server = server.stdout(closed).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let is_ready = lines.map_while(Result::ok).any(|line| line.contains(" ready "));
    if is_ready {
        assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
    }
    assert_eq!((is_ready, server.wait().unwrap().code()), (true, Some(0)));
}
