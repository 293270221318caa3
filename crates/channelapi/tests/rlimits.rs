//! What a server does where the system gives its process no more of something.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod program;

use std::{fs, process::Command, thread};

use node::{KEY, Node};
use program::check;

/// Once, reloading was over for good, and only the log said so.
#[test]
fn a_reload_without_a_thread_is_not_the_last() {
    let mut node = Node::start("limits.event_rate = 20\n");
    let pid = node.child.id().to_string();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let kibibytes: u64 = size.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    let allow = |bytes: &str| {
        let status =
            Command::new("prlimit").args(["--pid", &pid, &format!("--as={bytes}:")]).status().unwrap();
        assert!(status.success());
    };
    // Room for what a reload allocates, and none for the stack of another thread.
    allow(&((kibibytes + 1_024) * 1_024).to_string());
    node.signal("-HUP");
    node.await_log("there is no thread for it");
    allow("unlimited");
    let configuration = format!("auth_key = '{KEY}'\naddress = '127.0.0.1'\nlimits.event_rate = 21\n");
    fs::write(node.dir.path().join("channelapi.toml"), configuration).unwrap();
    node.signal("-HUP");
    node.await_log("the configuration is reloaded");
}

/// Once, the signal that comes with it ended the server in the middle of a publication.
#[test]
fn where_files_may_not_grow_the_log_has_more_of_them() {
    let mut node = Node::start_by(&["prlimit", "--fsize=2097152"], "");
    let body = format!(r#"{{"message":"{}"}}"#, "x".repeat(200_000));
    for number in 0..24 {
        assert_eq!(node.call("POST", "/message/a", &body).status, 200, "{number}");
    }
    let segments = fs::read_dir(node.dir.path().join("data/log")).unwrap();
    let segments =
        segments.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|it| it == "log"));
    assert!(segments.count() > 3);
    // Many at once are one group in the log, which is larger than what one of its files may have left.
    thread::scope(|scope| {
        let publish = || [(); 6].map(|()| node.call("POST", "/message/a", &body).status);
        let publishers: Vec<_> = (0..24).map(|_| scope.spawn(publish)).collect();
        for publisher in publishers {
            assert_eq!(publisher.join().unwrap(), [200; 6]);
        }
    });
    assert_eq!(node.call("GET", "/readyz", "").status, 200);
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
}

/// Once, it was told that the disk was not well.
#[test]
fn a_start_that_may_not_have_files_as_large_as_there_are_says_so() {
    let mut node = Node::start("");
    let body = format!(r#"{{"message":"{}"}}"#, "x".repeat(200_000));
    for number in 0..4 {
        assert_eq!(node.call("POST", "/message/a", &body).status, 200, "{number}");
    }
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
    // The newest segment is stored again.
    let mut server = Command::new("prlimit");
    server.current_dir(node.dir.path()).args(["--fsize=131072", "timeout", "20"]);
    server.args([env!("CARGO_BIN_EXE_channelapi"), "--port=0"]);
    check(&server.output().unwrap(), 1, &[], &["cannot be stored again", "LimitFSIZE="]);
}
