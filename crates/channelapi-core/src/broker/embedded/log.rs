//! The segments of the log: appending groups, finding them again, reading single records.
//!
//! Invariants:
//! - A group is appended and synced as a whole; nobody is told of it before.
//! - A failed write leaves nothing behind: it is cut off again. A failed sync, or a failed cut, fences the log for good, because
//!   what the disk holds then is unknown.
//! - Segments are named by the first sequence in them; only the last one grows.

use super::disk::{Disk, LogFile};
use super::record::{Found, RECORD_BYTES_MIN, Record};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The first bytes of every segment, its format in them.
const MAGIC: [u8; 8] = *b"CHANLOG1";

/// The part of [`MAGIC`] that is the same in every format.
const FAMILY: &[u8] = b"CHANLOG";

/// Magic, first sequence, and a checksum over both.
const SEGMENT_HEADER_BYTES: usize = 20;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment, by its first sequence.
    pub(super) segment: u64,
    /// Where in it.
    pub(super) position: u32,
    /// Bytes of the record, header included.
    pub(super) length: u32,
}

/// The log, open for appending.
pub(super) struct Log {
    disk: Box<dyn Disk>,
    segment_bytes_max: u64,
    segments: BTreeMap<u64, Segment>,
    /// Lower sequences may have been used by records that damage has hidden.
    first_free: u64,
    is_fenced: bool,
}

struct Segment {
    file: Arc<dyn LogFile>,
    length: u64,
}

/// Reads the record at a place of its segment's file.
pub(super) fn read(file: &dyn LogFile, place: Place) -> io::Result<Record> {
    let length = usize::try_from(place.length).expect("32 bits fit");
    match Record::find(&file.read_at(place.position.into(), length)?) {
        Found::Record(record, _) => Ok(record),
        Found::End | Found::Damage => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the record is damaged"))
        }
    }
}

/// Why a group was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// The disk took nothing; later groups may be stored.
    #[error("the log could not be written: {0}")]
    NotStored(io::Error),
    /// Nobody knows what the disk holds; the log takes nothing more.
    #[error("the log could not be synced and is closed: {0}")]
    Fenced(io::Error),
}

/// Why a log could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system says no.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A newer version of this program wrote it.
    #[error("{0} was written in another format: start the version that wrote it, or restore a backup")]
    Format(String),
    /// A file that is not ours lies among the segments.
    #[error("{0} is no segment of the log: move it away")]
    Foreign(String),
}

impl Log {
    /// Opens a log and hands each of its records to `on_record`, in order. Damage is stepped over: whoever gets the records
    /// sees a gap in their sequence.
    pub(super) fn open(
        disk: Box<dyn Disk>,
        segment_bytes_max: u64,
        mut on_record: impl FnMut(Record, Place),
    ) -> Result<Self, OpenError> {
        let mut names = Vec::new();
        for name in disk.list()? {
            names.push((parse_name(&name).ok_or_else(|| OpenError::Foreign(name.clone()))?, name));
        }
        names.sort_unstable();
        let last = names.last().map(|(first, _)| *first);
        let mut segments = BTreeMap::new();
        let mut first_free = 0;
        for (first, name) in names {
            let bytes = disk.read(&name)?;
            let is_last = Some(first) == last;
            if is_last && bytes.len() < SEGMENT_HEADER_BYTES {
                // Made, but never written to: the process ended in between.
                disk.remove(&name)?;
                continue;
            }
            check_format(&name, &bytes)?;
            let end = scan(&bytes, |record, position, length| {
                first_free = record.next_sequence();
                on_record(record, Place { segment: first, position, length });
            });
            first_free = first_free.max(first);
            if is_last && !end.is_clean {
                // Nobody knows how many records the damage hides, but there is room for so many.
                first_free += ((bytes.len() - end.position) / RECORD_BYTES_MIN + 1) as u64;
            }
            // What was cut off by a crash is removed. Damage is kept as it is, and nothing is written behind it.
            let length = if is_last && end.is_clean { end.position } else { bytes.len() };
            let length = u64::try_from(length).expect("a length in memory fits");
            let file = disk.open_cut(&name, length)?;
            let is_sealed = is_last && !end.is_clean;
            let length = if is_sealed { segment_bytes_max.max(length) } else { length };
            segments.insert(first, Segment { file, length });
        }
        Ok(Self { disk, segment_bytes_max, segments, first_free, is_fenced: false })
    }

    /// The lowest sequence that no record in the log can have.
    pub(super) fn first_free(&self) -> u64 {
        self.first_free
    }

    /// Appends the bytes of a group of records, the first of which has the sequence `first`, and returns when they are durable:
    /// the segment they are in, and where they begin.
    pub(super) fn append(&mut self, first: u64, group: &[u8]) -> Result<(u64, u64), AppendError> {
        if self.is_fenced {
            return Err(AppendError::Fenced(io::Error::other("an earlier sync failed")));
        }
        let segment = self.segment_for(first)?;
        let head = self.segments.get_mut(&segment).expect("it was just looked up");
        if let Err(error) = head.file.append(group) {
            return Err(match head.file.cut(head.length) {
                Ok(()) => AppendError::NotStored(error),
                Err(_) => self.fence(error),
            });
        }
        if let Err(error) = head.file.sync() {
            return Err(self.fence(error));
        }
        let position = head.length;
        head.length += group.len() as u64;
        Ok((segment, position))
    }

    /// The files of all segments, for readers, who need no log.
    pub(super) fn files(&self) -> BTreeMap<u64, Arc<dyn LogFile>> {
        self.segments.iter().map(|(first, segment)| (*first, segment.file.clone())).collect()
    }

    /// Removes the oldest segment, unless it is the one that grows. Returns its name.
    pub(super) fn remove_oldest(&mut self) -> io::Result<Option<u64>> {
        if self.segments.len() < 2 {
            return Ok(None);
        }
        let oldest = *self.segments.keys().next().expect("there are two");
        self.disk.remove(&name_of(oldest))?;
        self.segments.remove(&oldest);
        Ok(Some(oldest))
    }

    /// The oldest segment.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.segments.keys().next().copied()
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.length).sum()
    }

    fn segment_for(&mut self, first: u64) -> Result<u64, AppendError> {
        if let Some((name, head)) = self.segments.last_key_value()
            && head.length < self.segment_bytes_max
        {
            return Ok(*name);
        }
        let file = self.disk.create(&name_of(first)).map_err(AppendError::NotStored)?;
        let mut header = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&first.to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        if let Err(error) = file.append(&header) {
            // An empty last segment is removed at the next start, too.
            return Err(match self.disk.remove(&name_of(first)) {
                Ok(()) => AppendError::NotStored(error),
                Err(_) => self.fence(error),
            });
        }
        self.segments.insert(first, Segment { file, length: header.len() as u64 });
        Ok(first)
    }

    fn fence(&mut self, error: io::Error) -> AppendError {
        self.is_fenced = true;
        AppendError::Fenced(error)
    }
}

fn name_of(first: u64) -> String {
    format!("{first:016x}.log")
}

fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|first| name_of(*first) == name)
}

/// Refuses another format. Damage in the header is no reason to: the records behind it have their own checksums.
fn check_format(name: &str, bytes: &[u8]) -> Result<(), OpenError> {
    let is_other = bytes.starts_with(FAMILY) && !bytes.starts_with(&MAGIC);
    let header = bytes.get(..SEGMENT_HEADER_BYTES).unwrap_or(bytes);
    let is_sound = header
        .split_last_chunk::<4>()
        .is_some_and(|(front, checksum)| crc32fast::hash(front) == u32::from_le_bytes(*checksum));
    if is_other && is_sound { Err(OpenError::Format(name.to_owned())) } else { Ok(()) }
}

/// Where a scan ended, and whether nothing but the beginning of a record or zeros follows.
struct End {
    position: usize,
    is_clean: bool,
}

fn scan(bytes: &Bytes, mut on_record: impl FnMut(Record, u32, u32)) -> End {
    let mut position = SEGMENT_HEADER_BYTES;
    let number = |value: usize| u32::try_from(value).expect("segments are smaller than 4 GiB");
    loop {
        let rest = bytes.slice(position.min(bytes.len())..);
        match Record::find(&rest) {
            Found::Record(record, length) => {
                on_record(record, number(position), number(length));
                position += length;
            }
            Found::End => return End { position, is_clean: true },
            Found::Damage => match next_record(&rest) {
                Some(distance) => position += distance,
                None => return End { position, is_clean: false },
            },
        }
    }
}

/// How far behind damage the next whole record begins.
fn next_record(bytes: &Bytes) -> Option<usize> {
    let is_record = |distance: &usize| {
        Record::may_begin(&bytes[*distance..])
            && matches!(Record::find(&bytes.slice(*distance..)), Found::Record(..))
    };
    (1..bytes.len()).find(is_record)
}
