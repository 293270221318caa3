//! What other processes of the same user see of the real program.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod skipped;

use node::{Node, eventually};
use skipped::skipped;
use std::process::{Child, Command, Stdio};

const SECRET: &str = "canary-key-of-a-variable";

/// Root may see everything, so it becomes somebody else.
const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// What makes somebody of us who is not root; `None` if that is not possible here.
fn nobody() -> Option<Vec<&'static str>> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout != b"0\n" {
        return Some(vec!["env"]);
    }
    let works = Command::new(NOBODY[0]).args(&NOBODY[1..]).arg("true").status();
    works.is_ok_and(|status| status.success()).then(|| NOBODY.to_vec())
}

/// What that user sees of a process.
fn seen(nobody: &[&str], pid: u32, file: &str) -> Option<String> {
    let mut command = Command::new(nobody[0]);
    command.args(&nobody[1..]).arg("cat").arg(format!("/proc/{pid}/{file}"));
    let output = command.stderr(Stdio::null()).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn the_variables_of_the_process_are_nobodys_business() {
    let Some(nobody) = nobody() else {
        skipped("there is no setpriv here, and root sees everything");
        return;
    };
    let variable = format!("CHANNELAPI_AUTH_KEY={SECRET}");
    let enter = format!("chmod 777 . && exec env {variable} {} \"$@\"", nobody.join(" "));
    let node = Node::start_by(&["sh", "-c", &enter, "sh"], "");
    let pid = node.child.id();
    assert_eq!(seen(&nobody, pid, "environ"), None, "a key in a variable is kept from others");
    assert_eq!(seen(&nobody, pid, "maps"), None, "and so is the memory");
    let arguments = seen(&nobody, pid, "cmdline").unwrap();
    assert!(arguments.contains("channelapi") && !arguments.contains(SECRET), "{arguments}");
    let limits = seen(&nobody, pid, "limits").unwrap();
    let cores: Vec<_> = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(cores[4..6], ["0", "0"], "no core is written");

    // A verb that waits for hours has a key as well. Once, that of `bench` could be read.
    for verb in [&["subscribe", "a"][..], &["bench", "connect", "--connections=1", "--duration=1h"]] {
        let mut waiting = Command::new(nobody[0]);
        waiting.args(&nobody[1..]).arg(env!("CARGO_BIN_EXE_channelapi")).args(verb);
        waiting.env("CHANNELAPI_URL", format!("http://{}", node.address)).env("CHANNELAPI_AUTH_KEY", SECRET);
        waiting.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let waiting = Ended(waiting.spawn().unwrap());
        let word = format!("\0{}\0", verb[0]);
        eventually("a verb whose variables are its own", || {
            let is_it = seen(&nobody, waiting.0.id(), "cmdline").is_some_and(|line| line.contains(&word));
            (is_it && seen(&nobody, waiting.0.id(), "environ").is_none()).then_some(())
        });
        drop(waiting);
    }

    // Of any other program of this user, all of it is seen.
    let mut other = Command::new(nobody[0]);
    other.args(&nobody[1..]).args(["sleep", "60"]).env("CHANNELAPI_AUTH_KEY", SECRET);
    let other = Ended(other.spawn().unwrap());
    eventually("the variables of another program", || {
        seen(&nobody, other.0.id(), "environ").filter(|variables| variables.contains(&variable))
    });
}
