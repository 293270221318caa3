//! The disk itself: what a record costs that is only appended and synced, without a server and without a store.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::statfs;

use crate::backend::{DATA_BYTES, TIMER_TICK};
use crate::lanes::Load;
use crate::statistics::real;

/// What Linux calls the file systems that live in memory.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Appends and syncs, one after the other, until the time has come. Waits: not for an async task.
pub(crate) fn sync_repeatedly(time: Duration) -> Result<Load> {
    let folder = tempfile::tempdir()?;
    let mut file = File::create(folder.path().join("records"))?;
    let (mut latencies, started) = (Vec::new(), Instant::now());
    while started.elapsed() < time {
        let before = Instant::now();
        file.write_all(&[0x5a; DATA_BYTES])?;
        file.sync_data()?;
        latencies.push(before.elapsed());
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    Ok(Load { latencies, elapsed })
}

/// The same for records that are due at so many a second: whatever is due is appended and synced together. As for those who publish to a
/// server, a record's clock starts when its publisher has woken, which is not the disk's doing, and, if the disk was busy then, when it
/// was due. Nobody who comes at any time can be served sooner by this disk. Waits: not for an async task.
pub(crate) fn sync_what_is_due(rate: f64, time: Duration) -> Result<Load> {
    let folder = tempfile::tempdir()?;
    let mut file = File::create(folder.path().join("records"))?;
    let interval = Duration::from_secs(1).div_f64(rate);
    let (mut latencies, started) = (Vec::new(), Instant::now());
    let due = |number: usize| started + interval.mul_f64(real(number));
    while started.elapsed() < time {
        let first = latencies.len();
        let asleep = Instant::now();
        std::thread::sleep(due(first).saturating_duration_since(asleep));
        let now = Instant::now();
        let mut count = 1;
        while due(first + count) <= now {
            count += 1;
        }
        file.write_all(&[0x5a; DATA_BYTES].repeat(count))?;
        file.sync_data()?;
        let stored = Instant::now();
        let since = |due: Instant| if due > asleep && now - due < TIMER_TICK { now } else { due };
        latencies.extend((first..first + count).map(|number| stored - since(due(number))));
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    Ok(Load { latencies, elapsed })
}

/// Fails if a folder is on a file system in memory, where making things durable costs nothing.
pub(crate) fn ensure_disk(folder: &Path) -> Result<()> {
    let file_system = statfs(folder).with_context(|| format!("cannot look at {}", folder.display()))?.f_type;
    ensure!(
        !u64::try_from(file_system).is_ok_and(|file_system| IN_MEMORY.contains(&file_system)),
        "{} is in memory: set TMPDIR to a folder on a disk",
        folder.display()
    );
    Ok(())
}

/// Bytes of the files in a folder.
pub(crate) fn size_of(folder: &Path) -> Result<usize> {
    let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    entries.map(|entry| Ok(usize::try_from(entry?.metadata()?.len())?)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_counted() {
        let load = sync_repeatedly(Duration::from_millis(50)).unwrap();
        assert!(!load.latencies.is_empty());
        assert!(load.latencies.iter().sum::<Duration>() <= load.elapsed);
    }

    #[test]
    fn whatever_is_due_is_synced_once() {
        let load = sync_what_is_due(2_000.0, Duration::from_millis(50)).unwrap();
        // As many as were due when the last sync began.
        let most = real(1) + 2_000.0 * load.elapsed.as_secs_f64();
        assert!(!load.latencies.is_empty() && real(load.latencies.len()) <= most);
        assert!(load.latencies.iter().all(|latency| *latency > Duration::ZERO && *latency <= load.elapsed));
    }

    #[test]
    fn memory_is_no_disk() {
        let error = ensure_disk(Path::new("/dev/shm")).unwrap_err().to_string();
        assert!(error.contains("set TMPDIR"), "{error}");
    }
}
