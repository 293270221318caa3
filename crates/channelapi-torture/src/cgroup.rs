//! A control group with little memory, for a server that must not use more.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::machine::skipped;

pub(crate) struct Cgroup {
    path: PathBuf,
    /// The file that counts processes which were ended for want of memory.
    events: &'static str,
    /// The file that says how much is used.
    usage: &'static str,
}

impl Cgroup {
    /// Makes one with a limit in bytes, if this machine lets us.
    pub(crate) fn make(bytes: u64) -> Result<Self> {
        let name = format!("channelapi-torture-{}", std::process::id());
        let versions = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control", "memory.usage_in_bytes"),
            ("/sys/fs/cgroup", "memory.max", "memory.events", "memory.current"),
        ];
        let made = versions.into_iter().find_map(|(root, limit, events, usage)| {
            let path = Path::new(root).join(&name);
            fs::create_dir(&path).ok()?;
            let group = Self { path, events, usage };
            fs::write(group.path.join(limit), bytes.to_string()).ok()?;
            // Where there is swap, it must not help.
            _ = fs::write(group.path.join("memory.swap.max"), "0");
            Some(group)
        });
        made.ok_or_else(|| skipped("no control group of our own with a limit of memory: try as root"))
    }

    /// What starts a program inside.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.path.display());
        ["sh", "-c", &enter, "sh"].map(str::to_owned).to_vec()
    }

    /// How many processes the kernel has ended for want of memory.
    pub(crate) fn kills(&self) -> Result<u64> {
        let events = fs::read_to_string(self.path.join(self.events))?;
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(count.with_context(|| format!("no kills in {events}"))?.trim().parse()?)
    }

    /// Bytes in use, those of files included.
    pub(crate) fn usage(&self) -> Result<u64> {
        Ok(fs::read_to_string(self.path.join(self.usage))?.trim().parse()?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel takes a moment to see that nobody is in it any more.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
