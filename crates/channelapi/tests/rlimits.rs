//! What a server does where the system gives its process no more of something.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use std::{fs, process::Command};

use node::{KEY, Node};

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
    assert_eq!(node.call("GET", "/readyz", "").status, 200);
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
}
