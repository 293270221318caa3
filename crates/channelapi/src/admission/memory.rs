//! How much memory there is, and how much of it is used: the server refuses work before the kernel ends it.

use channelapi_core::limits::{MEMORY_CALM_PERCENT, MEMORY_CRITICAL_PERCENT, MEMORY_HIGH_PERCENT};
use std::fs;
use std::path::{Path, PathBuf};

/// How short memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Pressure {
    /// It is not.
    None,
    /// Nothing new is taken.
    High,
    /// What is slow is closed.
    Critical,
}

impl Pressure {
    pub(super) fn of(value: u8) -> Self {
        match value {
            0 => Self::None,
            1 => Self::High,
            _ => Self::Critical,
        }
    }

    /// What a use of so many percent means after `before`: a little less than what began it ends it, so that it does not flutter.
    fn at(percent: u64, before: Self) -> Self {
        match percent {
            MEMORY_HIGH_PERCENT.. if percent > MEMORY_CRITICAL_PERCENT => Self::Critical,
            MEMORY_HIGH_PERCENT.. if percent > MEMORY_HIGH_PERCENT => Self::High,
            MEMORY_CALM_PERCENT.. if before != Self::None => Self::High,
            _ => Self::None,
        }
    }
}

/// What memory there is.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The control groups that this process is in: its own, and those around it.
    cgroups: Vec<Cgroup>,
    /// Of the machine.
    machine: Option<u64>,
    /// Looks until the limits of the groups are read again.
    limits_stay_for: u32,
}

/// Looks between two readings of limits, which hardly ever change.
const LOOKS_PER_LIMIT: u32 = 10;

/// One look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes in use.
    pub(crate) used: u64,
    /// Bytes there may be.
    pub(crate) limit: u64,
}

impl Usage {
    /// What it means.
    pub(crate) fn pressure(self, before: Pressure) -> Pressure {
        Pressure::at(self.used.saturating_mul(100) / self.limit.max(1), before)
    }

    /// Bytes until it means more than `pressure`.
    pub(crate) fn left_until_worse(self, pressure: Pressure) -> u64 {
        let percent = if pressure == Pressure::None { MEMORY_HIGH_PERCENT } else { MEMORY_CRITICAL_PERCENT };
        (self.limit / 100).saturating_mul(percent).saturating_sub(self.used)
    }

    fn part(self) -> u64 {
        self.used.saturating_mul(10_000) / self.limit.max(1)
    }
}

impl Memory {
    /// Finds out what limits this process.
    pub(crate) fn find() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut cgroups = Cgroup::candidates(&groups);
        cgroups.retain(|cgroup| cgroup.usage.exists());
        Self { cgroups, machine: of_machine(), limits_stay_for: 0 }
    }

    /// How many bytes there may be in use: as many as was set, `set`, or the machine has, whichever is less, or fewer if the kernel limits
    /// one of the groups.
    /// `None` where the system says nothing.
    pub(crate) fn limit(&mut self, set: u64) -> Option<u64> {
        self.read_limits();
        let groups = self.cgroups.iter().filter_map(|group| group.bytes_max);
        groups.chain(self.own_limit(set)).min()
    }

    fn own_limit(&self, set: u64) -> Option<u64> {
        let set = (set > 0).then_some(set);
        set.into_iter().chain(self.machine).min()
    }

    /// Reads the limits of the groups, unless they were read lately.
    fn read_limits(&mut self) {
        if self.limits_stay_for == 0 {
            self.limits_stay_for = LOOKS_PER_LIMIT;
            self.cgroups.iter_mut().for_each(Cgroup::read_limit);
        }
    }

    /// The use that is closest to its limit: of the process against what was set, `set`, or of one of its groups against the
    /// kernel's limit. `None` where the system says nothing.
    pub(crate) fn look(&mut self, set: u64) -> Option<Usage> {
        self.read_limits();
        self.limits_stay_for -= 1;
        let cgroups = self.cgroups.iter().filter_map(Cgroup::usage);
        let own = self
            .own_limit(set)
            .and_then(|limit| Some(Usage { used: crate::metrics::resident_bytes()?, limit }));
        cgroups.chain(own).max_by_key(|usage| usage.part())
    }
}

/// Bytes of the machine. Also where a service is not shown `/proc/meminfo` (`ProcSubset=pid`).
#[cfg(target_os = "linux")]
#[expect(clippy::useless_conversion, reason = "the types differ from one processor to another")]
fn of_machine() -> Option<u64> {
    let told = rustix::system::sysinfo();
    u64::from(told.totalram).checked_mul(u64::from(told.mem_unit)).filter(|bytes| *bytes > 0)
}

/// Bytes of the machine, which it does not tell.
#[cfg(not(target_os = "linux"))]
fn of_machine() -> Option<u64> {
    None
}

/// A control group.
#[derive(Debug)]
struct Cgroup {
    usage: PathBuf,
    limit: PathBuf,
    /// What `limit` said.
    bytes_max: Option<u64>,
    stat: PathBuf,
    /// What memory for files is called in `stat`, of this group and all below it.
    file_keys: [&'static str; 2],
}

impl Cgroup {
    /// Where the group and those around it may be found. In a container that sees only its own, that is at the root.
    fn candidates(groups: &str) -> Vec<Self> {
        let mut candidates = Vec::new();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let name = Path::new(name.trim_start_matches('/'));
            if controllers.split(',').any(|controller| controller == "memory") {
                candidates.extend(name.ancestors().map(|group| {
                    let group = Path::new("/sys/fs/cgroup/memory").join(group);
                    Self {
                        usage: group.join("memory.usage_in_bytes"),
                        limit: group.join("memory.limit_in_bytes"),
                        bytes_max: None,
                        stat: group.join("memory.stat"),
                        file_keys: ["total_inactive_file", "total_active_file"],
                    }
                }));
            } else if controllers.is_empty() {
                candidates.extend(name.ancestors().map(|group| {
                    let group = Path::new("/sys/fs/cgroup").join(group);
                    Self {
                        usage: group.join("memory.current"),
                        limit: group.join("memory.max"),
                        bytes_max: None,
                        stat: group.join("memory.stat"),
                        file_keys: ["inactive_file", "active_file"],
                    }
                }));
            }
        }
        candidates
    }

    fn read_limit(&mut self) {
        self.bytes_max = number_in(&self.limit).filter(|limit| *limit < UNLIMITED);
    }

    /// What it uses. `None` without a limit. When that is much, what the kernel can take back from files at any time is left
    /// out; the kernel takes long to say how much that is.
    fn usage(&self) -> Option<Usage> {
        let usage = Usage { limit: self.bytes_max?, used: number_in(&self.usage)? };
        if usage.part() < MEMORY_CALM_PERCENT * 100 {
            return Some(usage);
        }
        let stat = fs::read_to_string(&self.stat).unwrap_or_default();
        Some(Usage { used: usage.used.saturating_sub(files_in(&stat, self.file_keys)), ..usage })
    }
}

fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What the first version of control groups says in place of "no limit" is a little below 2^63.
const UNLIMITED: u64 = 1 << 60;

fn files_in(stat: &str, keys: [&str; 2]) -> u64 {
    let value = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        keys.contains(&key).then(|| value.parse::<u64>().ok())?
    };
    stat.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_high_and_ends_low() {
        let check =
            |percent, before, expected| assert_eq!(Pressure::at(percent, before), expected, "{percent}");
        check(85, Pressure::None, Pressure::None);
        check(86, Pressure::None, Pressure::High);
        check(95, Pressure::High, Pressure::High);
        check(96, Pressure::High, Pressure::Critical);
        check(96, Pressure::None, Pressure::Critical);
        check(90, Pressure::Critical, Pressure::High);
        check(81, Pressure::High, Pressure::High);
        check(79, Pressure::High, Pressure::None);
        check(81, Pressure::None, Pressure::None);
    }

    #[test]
    fn the_process_is_measured_against_what_was_set() {
        let mut memory = Memory { cgroups: Vec::new(), machine: None, limits_stay_for: 0 };
        assert_eq!((memory.look(0), memory.limit(0)), (None, None));
        assert_eq!(memory.limit(1 << 20), Some(1 << 20));
        let usage = memory.look(1 << 20).unwrap();
        assert_eq!((usage.limit, usage.pressure(Pressure::None)), (1 << 20, Pressure::Critical));
        assert_eq!(memory.look(1 << 50).unwrap().pressure(Pressure::None), Pressure::None);
    }

    #[test]
    fn a_control_group_counts_without_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut cgroup = Cgroup {
            usage: file("memory.current", "900\n"),
            limit: file("memory.max", "1000\n"),
            bytes_max: None,
            stat: file("memory.stat", "anon 300\ninactive_file 100\nactive_file 50\nfile 400\n"),
            file_keys: ["inactive_file", "active_file"],
        };
        let usage = |cgroup: &mut Cgroup| {
            cgroup.read_limit();
            cgroup.usage()
        };
        assert_eq!(usage(&mut cgroup), Some(Usage { used: 750, limit: 1000 }));
        cgroup.limit = file("memory.max", "2000\n");
        assert_eq!(
            usage(&mut cgroup),
            Some(Usage { used: 900, limit: 2000 }),
            "far below, files do not matter"
        );
        cgroup.limit = file("memory.max", "max\n");
        assert_eq!(usage(&mut cgroup), None);
        cgroup.limit = file("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(usage(&mut cgroup), None);
    }

    #[test]
    fn both_versions_of_control_groups_are_found() {
        let groups = "5:cpu,memory:/docker/abc\n4:pids:/x\n0::/user.slice\n";
        let usages: Vec<_> =
            Cgroup::candidates(groups).into_iter().map(|group| group.usage.display().to_string()).collect();
        assert_eq!(
            usages,
            [
                "/sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.usage_in_bytes",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes",
                "/sys/fs/cgroup/user.slice/memory.current",
                "/sys/fs/cgroup/memory.current",
            ]
        );
    }
}
