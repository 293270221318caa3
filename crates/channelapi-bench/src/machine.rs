//! What the figures were measured on; without it they mean nothing.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// Facts of the machine, each `null` where the system does not tell.
pub(crate) fn facts() -> Value {
    let first = |path: &str, key: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| {
            line.strip_prefix(key).map(|rest| rest.trim_matches([' ', '\t', ':']).to_owned())
        })
    };
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().ok();
    json!({
        "kernel": first("/proc/sys/kernel/osrelease", ""),
        "processor": first("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().ok().map(usize::from),
        "memory": first("/proc/meminfo", "MemTotal"),
        "load": first("/proc/loadavg", ""),
        "date": date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        "rustc": rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_this_machine_are_found() {
        let facts = facts();
        assert!(
            facts["kernel"].as_str().is_some_and(|kernel| kernel.starts_with(|c: char| c.is_ascii_digit()))
        );
        assert!(facts["memory"].as_str().is_some_and(|memory| memory.ends_with(" kB")));
        assert!(facts["cores"].as_u64().is_some_and(|cores| cores > 0));
    }
}
