//! The README's own lines that run the program, as they stand: what a newcomer pastes must work. `conformance/readme.test.js` has those with curl.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod program;

use node::{KEY, Node};
use program::check;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../../../README.md");

/// Once, the third step failed: the server had its key from a flag, and nothing told the verbs.
#[test]
fn the_verbs_of_the_readme_work_as_they_are_printed() {
    let node = Node::start("");
    let (_, block) = README.split_once("<!-- test: verbs -->\n```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    assert!(block.contains("changeme") && block.contains("target/release/channelapi "), "{block}");
    let script =
        block.replace("changeme", KEY).replace("target/release/channelapi", env!("CARGO_BIN_EXE_channelapi"));
    let elsewhere = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &script]).current_dir(elsewhere.path()).env_clear();
    let output = shell.env("CHANNELAPI_URL", format!("http://{}", node.address)).output().unwrap();
    check(&output, 0, &["published demo #1 (fsync)\n\"hello\"\n"], &[]);
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Once, the banner named a variable that nobody had set.
#[test]
fn the_banner_names_the_key_where_it_is() {
    let check = |flags: &[&str], variables: &[(&str, &str)], expected: &str| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key"), KEY).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_channelapi"));
        command.args(["--port=0", "--address=127.0.0.1", "--log-format=pretty"]).args(flags);
        command.current_dir(directory.path()).env_clear().envs(variables.iter().copied());
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running(command.spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("Try")).unwrap();
        assert!(line.ends_with(&format!("-H \"Authorization: {expected}\"")), "{line}");
    };
    check(&["--auth-key", KEY], &[], "<key>");
    check(&[], &[("CHANNELAPI_AUTH_KEY", KEY)], "$CHANNELAPI_AUTH_KEY");
    check(&[], &[("CHANNELAPI_AUTH_KEY_FILE", "key")], "$(cat $CHANNELAPI_AUTH_KEY_FILE)");
    check(&[], &[], "$(cat ./data/auth_key)");
}
