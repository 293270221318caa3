//! What was used: CPU and memory of a process, bytes on disk, and the machine it was used on.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// What Linux calls the file systems that live in memory.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// CPU time of a process and the children it has waited for, user and system, all threads. It moves in ticks of 10 ms.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = parse_ticks(&stat).with_context(|| format!("unusable {path}"))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / per_second))
}

/// Fields are counted behind the parenthesised name, which may contain anything.
fn parse_ticks(stat: &str) -> Option<u64> {
    let fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    fields.skip(11).take(4).map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Whether a process still has anything open. A dead one stays in the list until somebody asks for its status.
pub(crate) fn is_running(pid: u32) -> Result<bool> {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return Ok(false) };
    let state = stat.rfind(')').and_then(|end| stat.get(end + 2..end + 3));
    Ok(!matches!(state.context("unusable state of a process")?, "Z" | "X"))
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"));
    Ok(value.with_context(|| format!("unusable {path}"))?.parse::<u64>()? << 10)
}

/// Bytes that a folder and everything in it takes on disk.
pub(crate) fn disk(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A store may remove a file while we look.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Fails if the folder is on a file system in memory, where making things durable costs nothing.
pub(crate) fn ensure_disk(folder: &Path) -> Result<()> {
    let file_system =
        rustix::fs::statfs(folder).with_context(|| format!("cannot look at {}", folder.display()))?.f_type;
    ensure!(
        !u64::try_from(file_system).is_ok_and(|file_system| IN_MEMORY.contains(&file_system)),
        "{} is in memory: name a folder on a disk with --folder",
        folder.display()
    );
    Ok(())
}

/// What the figures were measured on; without it they mean nothing.
pub(crate) fn machine(folder: &Path) -> Value {
    let first = |path: &str, key: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches([' ', '\t', ':']).to_owned())
    };
    let output = |command: &mut Command| -> Option<String> {
        Some(String::from_utf8_lossy(&command.output().ok()?.stdout).trim().to_owned())
    };
    let file_system = output(Command::new("stat").args(["--file-system", "--format=%T"]).arg(folder));
    json!({
        "kernel": first("/proc/sys/kernel/osrelease", ""),
        "processor": first("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().ok().map(usize::from),
        "memory": first("/proc/meminfo", "MemTotal"),
        "load": first("/proc/loadavg", ""),
        "file_system": file_system,
        "date": output(Command::new("date").args(["-u", "+%Y-%m-%d"])),
        "rustc": output(Command::new("rustc").arg("--version")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_children_are_counted() {
        let stat = "42 (a ) (b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 3 0 100 1000 10";
        assert_eq!(parse_ticks(stat), Some(315));
        assert_eq!(parse_ticks("42 (a"), None);
    }

    #[test]
    fn own_process_and_folder_can_be_read() {
        let pid = std::process::id();
        assert!(resident_memory(pid).unwrap() > 0);
        assert!(cpu(pid).is_ok());
        assert!(is_running(pid).unwrap());
        let mut child = Command::new("true").spawn().unwrap();
        while is_running(child.id()).unwrap() {
            std::thread::yield_now();
        }
        assert!(child.wait().unwrap().success());
        assert!(!is_running(child.id()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        let before = disk(folder.path()).unwrap();
        fs::write(folder.path().join("inner/file"), vec![1; 10_000]).unwrap();
        rustix::fs::sync();
        assert!(disk(folder.path()).unwrap() >= before + 10_000);
    }
}
