//! What a server has used so far, from `/proc`: memory now, CPU time since it began. A server may be several processes.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// What a server has in memory at a moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Every page that is there for it, also those that it shares with other processes.
    pub(crate) rss: usize,
    /// The same with a page that several processes share counted in shares. `None` where the kernel does not tell us.
    pub(crate) pss: Option<usize>,
}

impl Memory {
    /// Of all these processes together. Counted page by page: `statm` may lag behind by some pages per thread, and so may `status`, which
    /// is all that others than root are told of a process that hides its memory, as ours does.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut sum = Self { rss: 0, pss: Some(0) };
        for pid in pids {
            let exact = format!("/proc/{pid}/smaps_rollup");
            let text = match fs::read_to_string(&exact) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    fs::read_to_string(format!("/proc/{pid}/status"))
                }
                text => text,
            };
            let text = text.with_context(|| format!("cannot read {exact}"))?;
            let one = Self::parse(&text).with_context(|| format!("unusable {exact}"))?;
            sum.rss += one.rss;
            sum.pss = sum.pss.zip(one.pss).map(|(sum, pss)| sum + pss);
        }
        Ok(sum)
    }

    fn parse(text: &str) -> Option<Self> {
        let rss = kilobytes(text, "Rss:").or_else(|| kilobytes(text, "VmRSS:"))?;
        Some(Self { rss, pss: kilobytes(text, "Pss:") })
    }
}

/// A process and all that it has started, and those, as far as they live.
pub(crate) fn family(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let Ok(child) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process may end, and its files with it, while we look.
        let Ok(stat) = fs::read_to_string(format!("/proc/{child}/stat")) else { continue };
        parents.extend(parse_parent(&stat).map(|parent| (child, parent)));
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        let children = parents.iter().filter(|(_, parent)| *parent == member).map(|(child, _)| *child);
        family.extend(children);
        next += 1;
    }
    Ok(family)
}

/// The second field behind the name, unless the process has ended and is only waited for.
fn parse_parent(stat: &str) -> Option<u32> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    fields.next().filter(|_| state != "Z")?.parse().ok()
}

/// The most resident memory a process ever had, in bytes.
pub(crate) fn peak_memory(pid: u32) -> Result<usize> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    kilobytes(&text, "VmHWM:").with_context(|| format!("unusable {path}"))
}

fn kilobytes(text: &str, key: &str) -> Option<usize> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<usize>().ok()? << 10)
}

/// CPU time of a server, user and system together.
///
/// The process-wide counter moves in ticks of 10 ms and knows all threads that ever lived; the scheduler's counters are
/// exact to the nanosecond but only of living threads. [`Cpu::since`] takes the better of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    user: Duration,
    system: Duration,
    /// By thread id.
    threads: BTreeMap<u32, Duration>,
}

/// CPU time used in an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CpuUsed {
    pub(crate) total: Duration,
    /// Which part of it was spent outside the kernel, from 0 to 1; `None` if the interval is below one tick.
    pub(crate) user_share: Option<f64>,
}

impl Cpu {
    /// Of all these processes together.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut sum = Self { user: Duration::ZERO, system: Duration::ZERO, threads: BTreeMap::new() };
        for pid in pids {
            let Self { user, system, threads } = Self::of_one(*pid)?;
            sum.user += user;
            sum.system += system;
            sum.threads.extend(threads);
        }
        Ok(sum)
    }

    /// All that was used since the start, in steps of a tick: also by threads that have ended.
    pub(crate) fn so_far(&self) -> Duration {
        self.user + self.system
    }

    fn of_one(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let (user, system) = parse_stat(&stat, rustix::param::clock_ticks_per_second())
            .with_context(|| format!("unusable {path}"))?;
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = entry?;
            // A thread may end, and its files with it, while we look.
            let Ok(schedstat) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let id = thread.file_name().to_string_lossy().parse()?;
            threads.insert(id, parse_schedstat(&schedstat).context("unusable schedstat")?);
        }
        Ok(Self { user, system, threads })
    }

    /// What was used from `earlier` until this reading.
    pub(crate) fn since(&self, earlier: &Self) -> CpuUsed {
        let (user, system) =
            (self.user.saturating_sub(earlier.user), self.system.saturating_sub(earlier.system));
        let ticks = user + system;
        let exact = self.since_in_threads(earlier).filter(|exact| *exact + TICK >= ticks);
        let user_share = (!ticks.is_zero()).then(|| user.as_secs_f64() / ticks.as_secs_f64());
        CpuUsed { total: exact.unwrap_or(ticks), user_share }
    }

    /// `None` if a thread has ended in between and taken its time with it.
    fn since_in_threads(&self, earlier: &Self) -> Option<Duration> {
        let all_live = earlier.threads.keys().all(|id| self.threads.contains_key(id));
        let before: Duration = earlier.threads.values().sum();
        let now: Duration = self.threads.values().sum();
        all_live.then(|| now.saturating_sub(before))
    }
}

/// By how much the process-wide counter may run ahead of the exact ones without a thread having come and gone.
const TICK: Duration = Duration::from_millis(20);

/// User and system time; the fields are counted after the parenthesised name, which may contain anything.
fn parse_stat(stat: &str, ticks_per_second: u64) -> Option<(Duration, Duration)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let mut time = || -> Option<Duration> {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_nanos(ticks.checked_mul(1_000_000_000)? / ticks_per_second))
    };
    Some((time()?, time()?))
}

/// Nanoseconds on a CPU come first.
fn parse_schedstat(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(user: u64, system: u64, threads: &[(u32, u64)]) -> Cpu {
        Cpu {
            user: Duration::from_millis(user),
            system: Duration::from_millis(system),
            threads: threads.iter().map(|(id, time)| (*id, Duration::from_millis(*time))).collect(),
        }
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "55d0-7ffe ---p 00000000 00:00 0    [rollup]\nRss:     1024 kB\nPss:      512 kB\n";
        assert_eq!(Memory::parse(text), Some(Memory { rss: 1 << 20, pss: Some(512 << 10) }));
        let coarse = "VmHWM:     3 kB\nVmRSS:     2 kB\n";
        assert_eq!(Memory::parse(coarse), Some(Memory { rss: 2 << 10, pss: None }));
        assert_eq!(Memory::parse("Pss: 1 kB\n"), None);
    }

    #[test]
    fn parents_are_found_behind_any_name() {
        assert_eq!(parse_parent("42 (a ) R 1 (b) S 7 42 42 0 -1"), Some(7));
        assert_eq!(parse_parent("42 (a) Z 7 42 42 0 -1"), None, "it has no memory any more");
        assert_eq!(parse_parent("42 (a"), None);
    }

    /// A peer may be several processes: what only the first of them takes would be a part of its price.
    #[test]
    fn memory_and_time_are_those_of_all_processes() {
        let mut shell = std::process::Command::new("sh");
        // The second one works, for some seconds at most, and the first one waits for it.
        shell.args(["-c", "sh -c 'i=0; while [ $i -lt 9000000 ]; do i=$((i+1)); done' & wait"]);
        let mut child = shell.stdout(std::process::Stdio::null()).spawn().unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        let all = loop {
            let all = family(child.id()).unwrap();
            let is_working = Cpu::of(&all).is_ok_and(|cpu| cpu.user >= Duration::from_millis(50));
            if is_working || std::time::Instant::now() > until {
                break all;
            }
        };
        let (first, both) = (Memory::of(&all[..1]).unwrap(), Memory::of(&all).unwrap());
        let of_the_first = Cpu::of(&all[..1]).unwrap();
        for pid in all.iter().rev() {
            let pid = rustix::process::Pid::from_raw((*pid).try_into().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        child.wait().unwrap();
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(both.rss > first.rss && both.pss > first.pss, "{first:?}, {both:?}");
        assert!(both.pss.unwrap() < both.rss, "they share the program");
        assert!(of_the_first.user < Duration::from_millis(50), "{of_the_first:?}");
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a ) (b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 3 0 100 1000 10";
        assert_eq!(parse_stat(stat, 100), Some((Duration::from_millis(2500), Duration::from_millis(500))));
        assert_eq!(parse_stat("42 (a) S", 100), None);
        assert_eq!(parse_schedstat("771125 62073 1\n"), Some(Duration::from_nanos(771_125)));
    }

    #[test]
    fn exact_counters_win_while_all_threads_live() {
        let (earlier, later) = (cpu(10, 10, &[(1, 21)]), cpu(30, 20, &[(1, 40), (2, 12)]));
        let used = later.since(&earlier);
        assert_eq!(used.total, Duration::from_millis(31));
        assert!((used.user_share.unwrap() - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn time_of_an_ended_thread_is_not_lost() {
        let earlier = cpu(10, 10, &[(1, 15), (2, 6)]);
        assert_eq!(cpu(100, 50, &[(1, 30)]).since(&earlier).total, Duration::from_millis(130));
        let came_and_went = cpu(100, 50, &[(1, 30), (2, 6)]).since(&earlier);
        assert_eq!(came_and_went.total, Duration::from_millis(130));
    }

    #[test]
    fn own_process_can_be_read() {
        let pid = std::process::id();
        let Memory { rss, pss } = Memory::of(&[pid]).unwrap();
        assert!(rss > 0 && peak_memory(pid).unwrap() >= rss / 2);
        assert!(pss.is_some_and(|pss| pss > 0 && pss <= rss), "{pss:?} of {rss}");
        let earlier = Cpu::of(&[pid]).unwrap();
        // On a busy machine it may take a while to get that much of it.
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while Cpu::of(&[pid]).unwrap().since(&earlier).total < Duration::from_millis(10) {
            assert!(std::time::Instant::now() < until, "this process uses time, but none is read");
        }
    }
}
