//! What the figures were measured on; without it they mean nothing.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::statistics::real_u64;

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
        // Where it does, code that a server has not used for a while is not resident any more.
        "kernel takes cold pages away": first("/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds", "").map(|count| count != "0"),
        "date": date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        "rustc": rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
    })
}

/// What the host has given to others than this virtual machine since the boot, and how much time there was, in ticks of all cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stolen {
    stolen: u64,
    all: u64,
}

impl Stolen {
    /// `None` where nothing was ever stolen, as far as the kernel knows.
    pub(crate) fn so_far() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?).filter(|so_far| so_far.stolen > 0)
    }

    /// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. (The rest is counted in user and nice.)
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|ticks| ticks.parse().ok()).take(8).collect();
        Some(Self { stolen: *ticks.get(7)?, all: ticks.iter().sum() })
    }

    /// The share of the time since `before` that was stolen, from 0 to 1.
    pub(crate) fn share_since(self, before: Self) -> f64 {
        real_u64(self.stolen - before.stolen) / real_u64(self.all - before.all).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stolen_is_the_eighth_number() {
        let of = |text| Stolen::parse(text).unwrap();
        let before = of("cpu  100 0 100 700 50 0 25 25 7 0\ncpu0 1 2 3\n");
        assert_eq!(before, Stolen { stolen: 25, all: 1_000 });
        let now = of("cpu  150 0 100 700 50 0 25 75 9 0\n");
        assert!((now.share_since(before) - 0.5).abs() < 1e-9);
        assert!(before.share_since(before).abs() < 1e-9);
        assert_eq!(Stolen::parse("cpu  1 2 3\n"), None);
    }

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
