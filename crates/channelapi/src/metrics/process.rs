//! What the kernel says of this process. Nothing is said where the kernel says nothing, as on systems without `/proc`.

use std::sync::OnceLock;

/// Memory that the process really has.
pub(crate) fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// Bytes of a page of memory. Where it is another number, the kernel is built for machines that this server is not made for.
const PAGE_BYTES: u64 = 4096;

/// Open file descriptors.
pub(super) fn open_files() -> Option<u64> {
    // The directory that is read is one of them.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64 - 1)
}

/// File descriptors there can be.
pub(crate) fn max_files() -> Option<u64> {
    rlimit::Resource::NOFILE.get().ok().map(|(soft, _)| soft)
}

/// Clock ticks of a second, in which the kernel counts here. It has been this number on every Linux for decades.
const TICKS: f64 = 100.0;

/// Processor time so far, in user and in kernel mode.
pub(super) fn cpu_seconds() -> Option<f64> {
    Some((field(14)? + field(15)?) / TICKS)
}

/// When the process was started, in seconds since 1970.
pub(super) fn start_seconds() -> Option<f64> {
    static START: OnceLock<Option<f64>> = OnceLock::new();
    *START.get_or_init(|| {
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
        Some(boot + field(22)? / TICKS)
    })
}

/// A field of `/proc/self/stat`, counted from 1 as in proc(5).
fn field(number: usize) -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_this_process() {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(resident_bytes().is_some_and(|bytes| (1 << 20..1 << 40).contains(&bytes)));
        assert!(open_files() >= Some(3) && open_files() <= max_files());
        assert!(cpu_seconds().is_some_and(|seconds| (0.0..1e6).contains(&seconds)));
        assert!(start_seconds().is_some_and(|start| (now - 1e6..now + 60.0).contains(&start)));
    }
}
