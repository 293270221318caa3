//! Backups that come to nothing, as who takes them meets it.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod program;

use node::Node;
use program::check;
use std::process::Command;

/// Once, a full disk under the copy was told as a log that cannot be read. Here a file may have as many bytes as a disk might have left.
#[test]
fn a_copy_without_room_is_told_as_that() {
    let node = Node::start("");
    let data = format!(r#"{{"data":"{}"}}"#, "x".repeat(200_000));
    for _ in 0..12 {
        assert_eq!(node.call("POST", "/v1/channels/a/messages", &data).status, 201);
    }
    let backup =
        format!("trap '' XFSZ; ulimit -f 2048; {} store backup copy", env!("CARGO_BIN_EXE_channelapi"));
    let output = Command::new("sh").args(["-c", &backup]).current_dir(node.dir.path()).output().unwrap();
    let told = "error: the copy cannot be written: ./copy.unfinished/log/";
    check(&output, 1, &[], &[told, "File too large", "; make room there, or name another place"]);
    assert!(!node.dir.path().join("copy.unfinished").exists(), "half a copy is worse than none");
}
