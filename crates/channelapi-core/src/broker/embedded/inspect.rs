//! Looking at a log from outside, and copying it: whether a server runs on it or not, nothing of it is changed.

use super::index::Ages;
use super::log::disk::{Directory, Disk, is_gone};
use super::log::record::Record;
use super::log::segment::{End, EndKind, Part, first_of, name_of, scan};
use super::open::replay::Replay;
use super::open::{Listing, OpenError, Read, begins, list, was_never_written};
use crate::limits::IDEMPOTENCY_KEYS_MAX;
use crate::model::{ChannelName, Policies};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a check of every byte found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments.
    pub segments: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Records of every kind.
    pub records: u64,
    /// Publications among them, also those that retention has given up.
    pub publications: u64,
    /// Bytes at the end that were never written as a whole: what a crash leaves. The next start cuts them off.
    pub torn_bytes: u64,
    /// What is wrong; nothing if it is empty.
    pub damage: Vec<Damage>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub position: u64,
    /// What is wrong.
    pub what: String,
}

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Its segments, the oldest first.
    pub segments: Vec<SegmentStats>,
    /// Channels that are known, also those of which nothing is kept.
    pub channels: usize,
    /// Publications that are kept.
    pub publications: usize,
    /// When the oldest and the newest of them were published, in milliseconds since 1970.
    pub times: Option<(u64, u64)>,
    /// The channels that take most: their names, publications and bytes.
    pub largest: Vec<(ChannelName, usize, u64)>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentStats {
    /// Its file.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of what is kept; the others are given back when it is rewritten or removed.
    pub live_bytes: u64,
    /// Publications that are kept.
    pub publications: u32,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backup {
    /// Segments.
    pub segments: usize,
    /// Bytes of them.
    pub bytes: u64,
}

/// Why a log was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// What was to be copied.
    #[error(transparent)]
    Read(#[from] OpenError),
    /// The copy, which may be on another disk.
    #[error("the copy cannot be written: {path}: {error}; make room there, or name another place")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Channels that [`Stats`] names.
const LARGEST: usize = 10;

/// Checks every record of the log in a directory.
pub fn verify(path: &Path) -> Result<Report, OpenError> {
    verify_on(&Directory::existing(path))
}

/// Sums up the log in a directory: what a server with these policies would know of it at this time.
pub fn stats(path: &Path, policies: &Policies, now: u64) -> Result<Stats, OpenError> {
    stats_on(&(Arc::new(Directory::existing(path)) as Arc<dyn Disk>), policies, now)
}

/// Copies the log in a directory to a new one, also while a server writes to it: everything that was answered before this was
/// called is in the copy.
pub fn backup(path: &Path, destination: &Path) -> Result<Backup, CopyError> {
    let disk = Directory::existing(path);
    make_empty(destination).map_err(unwritten(destination))?;
    let mut copied = std::collections::BTreeMap::new();
    // The oldest first: whatever is removed or rewritten meanwhile is told of in what is copied later. The last one is copied
    // again if it was sealed meanwhile, until there is nothing newer.
    loop {
        let newest = copied.keys().next_back().copied();
        let numbers = list(&disk)?.numbers;
        let is_whole = newest.is_some() && numbers.last().copied() == newest;
        if is_whole || numbers.is_empty() {
            break;
        }
        for number in numbers.into_iter().filter(|number| newest.is_none_or(|newest| *number >= newest)) {
            let (bytes, end) = match read(&disk, number) {
                // Given up since it was listed.
                Err(error) if is_gone(&error) => continue,
                read => read.map_err(OpenError::from)?,
            };
            // Without the zeros behind its end.
            let length = if is_zero(&bytes[end.position..]) { end.position } else { bytes.len() };
            let file = destination.join(name_of(number));
            write(&file, &bytes[..length]).map_err(unwritten(&file))?;
            copied.insert(number, length as u64);
        }
    }
    let synced = File::open(destination).and_then(|folder| folder.sync_all());
    synced.map_err(unwritten(destination))?;
    Ok(Backup { segments: copied.len(), bytes: copied.values().sum() })
}

fn unwritten(path: &Path) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.to_owned();
    move |error| CopyError::Write { path, error }
}

/// Makes the place of a copy, which must have been empty.
fn make_empty(destination: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(destination)?;
    if fs::read_dir(destination)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the destination is not empty"));
    }
    Ok(())
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A segment that looks wrong is read so often: what a server writes meanwhile may be seen in parts.
const READS_MAX: usize = 10;

/// Reads a segment, and where its records end.
fn read(disk: &dyn Disk, number: u64) -> io::Result<(Bytes, End)> {
    let mut reads = 0;
    loop {
        let bytes = disk.read(&name_of(number))?;
        let mut is_damaged = false;
        let end = scan(&bytes, |part| is_damaged |= matches!(part, Part::Damage(..)));
        reads += 1;
        if reads == READS_MAX || !is_damaged && is_zero(&bytes[end.position..]) {
            return Ok((bytes, end));
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The numbers of the segments that are there, and of the one with which the log begins.
fn look(disk: &dyn Disk) -> Result<(Vec<u64>, u64), OpenError> {
    let mut looks = 0;
    loop {
        let Listing { numbers, longest, .. } = list(disk)?;
        looks += 1;
        match begins(disk, &numbers, longest) {
            // Given up since they were listed: the log has gone on in others.
            Err(error) if is_gone(&error) && looks < READS_MAX => {}
            begins => return Ok((numbers, begins?.0)),
        }
    }
}

/// The way through the segments of a log, of which a server may give up the oldest meanwhile.
struct Walk<'a> {
    disk: &'a dyn Disk,
    /// The number of the segment with which the log begins; 0 if nothing says so.
    begins: u64,
    /// The number behind that of the last segment that was read; `None` if all that was read has been given up.
    next: Option<u64>,
}

impl Walk<'_> {
    /// Whether something is missing before a segment. What seems so may have been given up since it was listed, and everything before
    /// it, too: then the log says so by now.
    fn misses(&mut self, number: u64) -> Result<bool, OpenError> {
        if number > self.begins && self.expected(number) != number {
            self.begins = look(self.disk)?.1;
            self.next = self.next.filter(|_| number > self.begins);
        }
        Ok(self.expected(number) != number)
    }

    /// The number that should be the next one, where this one is.
    fn expected(&self, number: u64) -> u64 {
        self.next.unwrap_or(if self.begins == 0 { number } else { self.begins })
    }
}

pub(super) fn verify_on(disk: &dyn Disk) -> Result<Report, OpenError> {
    let (numbers, begins) = look(disk)?;
    let mut report = Report::default();
    let newest = numbers.last().copied();
    let mut walk = Walk { disk, begins, next: None };
    let mut next = None;
    for number in numbers {
        let is_missing = walk.misses(number)?;
        if number < walk.begins {
            continue;
        }
        if walk.next.is_none() {
            // All that was read has been given up.
            next = None;
        }
        let name = name_of(number);
        let (bytes, end) = match read(disk, number) {
            // Given up since it was listed; if not, it is missing before the next one.
            Err(error) if is_gone(&error) => continue,
            read => read?,
        };
        let torn = if is_zero(&bytes[end.position..]) { 0 } else { (bytes.len() - end.position) as u64 };
        report.segments += 1;
        report.bytes += end.position as u64 + torn;
        let mut damage = Vec::new();
        let mut find =
            |position: u64, what: String| damage.push(Damage { file: name.clone(), position, what });
        if is_missing {
            find(0, "the segment before this one is missing".into());
        }
        walk.next = Some(number + 1);
        match first_of(&name, number, &bytes)? {
            None if Some(number) == newest && was_never_written(number, &bytes) => {}
            None => find(0, "the header is damaged".into()),
            Some(first) => next = next.or(Some(first)),
        }
        scan(&bytes, |part| match part {
            Part::Damage(from, to) => find(from as u64, format!("{} bytes are no record", to - from)),
            Part::Record(record, position, _) => {
                report.records += 1;
                report.publications += u64::from(matches!(record, Record::Publication(_)));
                let (from, to) = match &record {
                    Record::Skip { from, to } => (Some(*from), *to),
                    Record::Seal { next } => (Some(*next), *next),
                    record => (record.sequence(), record.sequence().map_or(0, |sequence| sequence + 1)),
                };
                if let Some(from) = from {
                    if next.is_some_and(|next| next != from) {
                        let missing = i128::from(from) - i128::from(next.unwrap_or(from));
                        find(
                            position.into(),
                            format!("{missing} publications are missing before this record"),
                        );
                    }
                    next = Some(to);
                }
            }
        });
        match end.kind {
            EndKind::Torn if Some(number) == newest => {
                report.torn_bytes = torn;
            }
            EndKind::Torn => find(end.position as u64, "the end of the segment is missing".into()),
            EndKind::Sealed | EndKind::Damaged => {}
        }
        report.damage.append(&mut damage);
    }
    Ok(report)
}

pub(super) fn stats_on(disk: &Arc<dyn Disk>, policies: &Policies, now: u64) -> Result<Stats, OpenError> {
    let (numbers, begins) = look(&**disk)?;
    let newest = numbers.last().copied();
    let policies = Arc::new(policies.clone());
    let (mut replay, mut read) =
        (Replay::new(&policies, IDEMPOTENCY_KEYS_MAX, usize::MAX, now), Read::with_room(0));
    let mut walk = Walk { disk: &**disk, begins, next: None };
    for number in numbers {
        // Whether something is missing is found again by whoever takes the segment in.
        walk.misses(number)?;
        if number < walk.begins {
            continue;
        }
        if walk.next.is_none() {
            // All that was read has been given up.
            (replay, read) =
                (Replay::new(&policies, IDEMPOTENCY_KEYS_MAX, usize::MAX, now), Read::with_room(0));
            replay.begins = walk.begins;
        }
        let bytes = disk.read(&name_of(number)).map_err(OpenError::from);
        let taken =
            bytes.and_then(|bytes| read.segment(disk, &mut replay, number, &bytes, Some(number) == newest));
        match taken {
            // Given up since it was listed.
            Err(OpenError::Io(error)) if is_gone(&error) => {}
            taken => {
                taken?;
                walk.next = Some(number + 1);
            }
        }
    }
    let index = &mut replay.index;
    let ids = 0..index.ids();
    index.trim_old(&mut ids.clone(), Ages { read: now, own: now }, usize::MAX);
    let mut stats = Stats { publications: index.size().1, ..Stats::default() };
    for known in ids.filter_map(|id| index.get(id)) {
        stats.channels += 1;
        let (Some(oldest), Some(newest)) = (known.entries.front(), known.entries.back()) else {
            continue;
        };
        let (from, to) = stats.times.unwrap_or((u64::MAX, 0));
        stats.times = Some((from.min(oldest.published_at), to.max(newest.published_at)));
        let bytes = known.entries.iter().map(|entry| u64::from(entry.length)).sum();
        stats.largest.push((known.name.clone(), known.entries.len(), bytes));
    }
    stats.largest.sort_unstable_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
    stats.largest.truncate(LARGEST);
    for (number, segment) in &read.segments.list {
        let usage = index.usage(segment.id);
        stats.segments.push(SegmentStats {
            file: name_of(*number),
            bytes: segment.length,
            live_bytes: usage.live_bytes,
            publications: usage.live,
        });
    }
    Ok(stats)
}
