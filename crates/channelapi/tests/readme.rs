//! The lines of the README and of docs/cli.md that run the program, as they stand: what a newcomer pastes must work.
//! `conformance/readme.test.js` has those with curl.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod program;

use node::{KEY, Node};
use program::check;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

const README: &str = include_str!("../../../README.md");
const CLI: &str = include_str!("../../../docs/cli.md");

/// The fenced block of a page that follows the comment `<!-- test: NAME -->`.
fn block<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("<!-- test: {name} -->\n```")).unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    rest.split_once("```").unwrap().0
}

/// Once, the third step failed: the server had its key from a flag, and nothing told the verbs.
#[test]
fn the_verbs_of_the_readme_work_as_they_are_printed() {
    let node = Node::start("");
    let block = block(README, "verbs");
    assert!(block.contains("changeme") && block.contains("target/release/channelapi "), "{block}");
    let script =
        block.replace("changeme", KEY).replace("target/release/channelapi", env!("CARGO_BIN_EXE_channelapi"));
    let elsewhere = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &script]).current_dir(elsewhere.path()).env_clear();
    let output = shell.env("CHANNELAPI_URL", format!("http://{}", node.address)).output().unwrap();
    check(&output, 0, &["published demo #1 (fsync)\n\"hello\"\n"], &[]);
}

/// Once, nothing said that the recipe for a key locks out whoever has the one that the server made, or how to keep it.
#[test]
fn the_recipe_for_a_key_ends_the_generated_one_unless_the_list_names_it() {
    let mut node = Node::start_without_key();
    let generated = std::fs::read_to_string(node.dir.path().join("data/auth_key")).unwrap();
    let key = [("Authorization", generated.trim())];
    let program = env!("CARGO_BIN_EXE_channelapi");
    let run = |node: &Node, line: &str| -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-euc", line]).current_dir(node.dir.path()).env_clear().output().unwrap()
    };
    let publish = format!("{program} publish demo hello");
    check(&run(&node, &publish), 0, &["published demo #1"], &[]);

    let reload = format!("kill -HUP {}", node.child.id());
    let recipe = block(CLI, "keys");
    assert!(
        recipe.contains("systemctl reload channelapi\n") && recipe.contains("\nchannelapi check\n"),
        "{recipe}"
    );
    let recipe = recipe
        .replace("systemctl reload channelapi", &reload)
        .replace("channelapi check", &format!("{program} check"));
    let recipe = recipe.replace("channelapi key", &format!("{program} key"));
    let warning = "./data/auth_key lets nobody in, because there are [[auth_keys]]; if it should, add one with key_file";
    check(&run(&node, &recipe), 0, &[warning, "configuration is valid"], &["the key `shop`"]);
    node.await_log("the configuration is reloaded");
    assert_eq!(node.request("GET", "/v1/channels/demo", &key, "").status, 403);
    check(&run(&node, &publish), 1, &[], &["no key was found"]);

    let file = node.dir.path().join("channelapi.toml");
    let kept = std::fs::read_to_string(&file).unwrap() + block(CLI, "generated key");
    std::fs::write(&file, kept).unwrap();
    let kept = run(&node, &format!("{program} check\n{reload}"));
    assert_eq!(kept.stdout, b"configuration is valid (./channelapi.toml)\n");
    node.await_log("the configuration is reloaded");
    assert_eq!(node.request("GET", "/v1/channels/demo", &key, "").status, 200);
    check(&run(&node, &publish), 0, &["published demo #2"], &[]);
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
