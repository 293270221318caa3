//! Opening a log: what lies on the disk becomes what is known in memory, leftovers of a crash are removed, and a new life begins.

pub(super) mod replay;

use super::epoch::random;
use super::log::disk::{Disk, LogFile, is_full, is_gone, is_sync_failure};
use super::log::record::{Generation, RECORD_BYTES_MIN, Record};
use super::log::reserve::{cut_reserve, make_reserve, remove_reserve, reserve_bytes};
use super::log::segment::{
    End, EndKind, Name, OtherFormat, Part, SEGMENT_HEADER_BYTES, first_of, name_of, parse_name, scan,
    unsynced,
};
use super::log::{AppendError, Head, Log, start};
use super::place::{CursorKey, GENERATION_MAX};
use super::settings::StoreSettings;
use super::stored::hot::Hot;
use super::stored::{Segment, Segments, Stored};
use super::writer::repeats::Repeats;
use crate::fence::Fence;
use crate::model::Policies;
use replay::Replay;
use std::io;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::thread;
use tracing::{info, warn};

/// Why a log could not be opened. Nothing that counts was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system says no.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The operating system took nothing of what was read.
    #[error(
        "{0} cannot be stored again, as a start does with what the last process may not have synced: {1}; {advice}",
        advice = unwritable_advice(.1)
    )]
    Unwritable(String, io::Error),
    /// A newer version of this program wrote it.
    #[error("{0} was written in another format: start the version that wrote it, or restore a backup")]
    Format(String),
    /// A file that is not ours lies among the segments.
    #[error("{0} is no segment of the log: move it away")]
    Foreign(String),
}

/// What to do about a segment that cannot be stored again.
fn unwritable_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::FileTooLarge => {
            "let this process have files that are larger than that (`LimitFSIZE=` of systemd, `ulimit -f` of a shell)"
        }
        _ => {
            "start again when the disk is well, or copy what can be read to another one with `channelapi store backup`, and start there"
        }
    }
}

impl From<OtherFormat> for OpenError {
    fn from(other: OtherFormat) -> Self {
        Self::Format(other.name)
    }
}

/// What a log is opened into.
pub(super) struct Opened {
    pub(super) log: Log,
    pub(super) stored: Stored,
    pub(super) repeats: Repeats,
    /// The age of the log, by which its keys are aged.
    pub(super) keys_now: u64,
    /// The sequence of the next publication.
    pub(super) next: u64,
    /// Whether the file is there that is given up when the disk is full.
    pub(super) has_reserve: bool,
}

/// Opens a log, or makes one. What is too old is left to upkeep: a machine that has just started may not know yet what time it is.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    policies: &Arc<Policies>,
    settings: &StoreSettings,
    fence: &Fence,
    cursors: Arc<CursorKey>,
    now: u64,
) -> Result<Opened, OpenError> {
    let Listing { mut numbers, longest, leftovers, reserve } = list(&**disk)?;
    let has_reserve = reserve >= reserve_bytes(settings.segment_bytes);
    let mut replay = Replay::new(policies, settings.keys_max, settings.index_bytes_max, now);
    let (oldest, mut last) = begins(&**disk, &numbers, longest)?;
    replay.begins = oldest;
    for name in leftovers {
        disk.remove(&name)?;
    }
    if let Some(number) = numbers.pop_if(|number| was_never_written(*number, &last)) {
        // Made, but never written to: the process ended in between. The one before it is the last one.
        disk.remove(&name_of(number))?;
        last = numbers.last().map_or(Ok(Vec::new()), |number| read(&**disk, *number, longest))?;
    }
    let newest = numbers.last().copied();
    let (given_up, mut kept): (Vec<_>, Vec<_>) =
        numbers.into_iter().partition(|number| *number < replay.begins);
    kept.pop_if(|number| Some(*number) == newest);
    let mut read = Read::with_room(settings.hot_bytes_max);
    // Where there was more memory, segments were longer: they are read one by one then, and the last one once more.
    let has_room = longest as u64 <= 2 * settings.segment_bytes;
    if !has_room {
        last = Vec::new();
    }
    let buffers = if has_room { 2 } else { 1 };
    read.segments(disk, &mut replay, &kept, (0..buffers).map(|_| Vec::with_capacity(longest)))?;
    if let Some(newest) = newest.filter(|newest| *newest >= replay.begins) {
        if !has_room {
            last = self::read(&**disk, newest, longest)?;
        }
        read.last_segment(disk, &mut replay, newest, &last)?;
    }
    drop(last);
    // A crash came before they were removed. What gives them up is in the last segment, and survives a power cut only now.
    for number in given_up {
        disk.remove(&name_of(number))?;
    }
    finish(disk, replay, read, settings, has_reserve, fence, cursors)
}

/// Reads a segment into memory with room for the longest one: what is given back fits the next one then.
fn read(disk: &dyn Disk, number: u64, longest: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(longest);
    disk.read_into(&name_of(number), &mut bytes).map(|()| bytes)
}

/// The number of the segment with which the log begins, as its last segments say, and the bytes of the last one.
pub(super) fn begins(disk: &dyn Disk, numbers: &[u64], longest: usize) -> io::Result<(u64, Vec<u8>)> {
    let (mut begins, mut last) = (0, Vec::new());
    for (place, number) in numbers.iter().rev().take(2).enumerate() {
        let bytes = read(disk, *number, longest)?;
        scan(&bytes, |part| {
            if let Part::Record(Record::Preface(preface), ..) = part {
                begins = begins.max(preface.begins);
            }
        });
        if place == 0 {
            last = bytes;
        }
        if begins > 0 {
            // A later preface never names an earlier segment.
            break;
        }
    }
    Ok((begins, last))
}

/// What lies in the directory.
pub(super) struct Listing {
    /// The numbers of the segments, in order.
    pub(super) numbers: Vec<u64>,
    /// The bytes of the longest one.
    pub(super) longest: usize,
    leftovers: Vec<String>,
    /// Bytes of the reserve.
    reserve: u64,
}

/// Looks at everything that is there before anything is changed. While a server runs, it may give up segments meanwhile: they are
/// left out.
pub(super) fn list(disk: &dyn Disk) -> Result<Listing, OpenError> {
    let mut listing = Listing { numbers: Vec::new(), longest: 0, leftovers: Vec::new(), reserve: 0 };
    for name in disk.list()? {
        match parse_name(&name).ok_or_else(|| OpenError::Foreign(name.clone()))? {
            Name::Segment(number) => {
                let (file, length) = match disk.open(&name) {
                    Err(error) if is_gone(&error) => continue,
                    file => file?,
                };
                listing.longest = listing.longest.max(usize::try_from(length).map_err(io::Error::other)?);
                let header = file.read_at(0, SEGMENT_HEADER_BYTES).unwrap_or_default();
                first_of(&name, number, &header)?;
                listing.numbers.push(number);
            }
            Name::Reserve => match disk.open(&name) {
                Err(error) if is_gone(&error) => {}
                file => listing.reserve = file?.1,
            },
            Name::Rewritten(_) => listing.leftovers.push(name),
        }
    }
    listing.numbers.sort_unstable();
    Ok(listing)
}

/// What was read of the segments.
pub(super) struct Read {
    pub(super) segments: Segments,
    hot: Hot,
    head: Option<Head>,
}

impl Read {
    /// Nothing, with room for so many of the newest bytes.
    pub(super) fn with_room(hot_bytes_max: usize) -> Self {
        Self { segments: Segments::default(), hot: Hot::with_room(hot_bytes_max), head: None }
    }

    /// Reads sealed segments. Where there are two buffers, another thread has the disk read the next one while one is taken in.
    fn segments(
        &mut self,
        disk: &Arc<dyn Disk>,
        replay: &mut Replay,
        numbers: &[u64],
        buffers: impl Iterator<Item = Vec<u8>>,
    ) -> Result<(), OpenError> {
        thread::scope(|scope| {
            let (full, filled) = mpsc::sync_channel(1);
            let (empty, emptied) = mpsc::channel();
            // They go around.
            for buffer in buffers {
                _ = empty.send(buffer);
            }
            scope.spawn(move || {
                for (number, mut bytes) in numbers.iter().zip(emptied) {
                    let done = disk.read_into(&name_of(*number), &mut bytes).map(|()| bytes);
                    if full.send(done).is_err() {
                        return;
                    }
                }
            });
            for (number, bytes) in numbers.iter().zip(filled) {
                let bytes = bytes?;
                self.segment(disk, replay, *number, &bytes, false)?;
                // Nobody waits for it behind the last one.
                _ = empty.send(bytes);
            }
            Ok(())
        })
    }

    /// Reads a segment, and says where it ends.
    pub(super) fn segment(
        &mut self,
        disk: &Arc<dyn Disk>,
        replay: &mut Replay,
        number: u64,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<(Arc<dyn LogFile>, End), OpenError> {
        let name = name_of(number);
        let (file, length) = disk.open(&name)?;
        let id = self.segments.identify(file.clone());
        let first = first_of(&name, number, bytes)?;
        let before = self.segments.list.keys().next_back().copied();
        if first.is_none() {
            warn!(segment = name, "the header of a segment is damaged");
        }
        if before.is_some_and(|before| before + 1 != number)
            || before.is_none() && replay.begins < number && replay.begins > 0
        {
            warn!(
                before = name,
                "a segment is missing: channels that had publications in it begin a new epoch"
            );
            replay.damage();
        }
        if let Some(first) = first {
            if before.is_none() && replay.begins == number {
                // What was before it was given up on purpose.
                replay.index.advance(first - 1);
            } else if replay.index.expect(first) {
                warn!(before = name, "publications before this segment are missing");
            }
        }
        let mut segment = Segment { id, length, overhead: 0, is_damaged: first.is_none(), keyed_at: 0 };
        let end = replay.segment(&name, bytes, is_last, &mut segment);
        self.segments.list.insert(number, segment);
        Ok((file, end))
    }

    /// Reads the segment that grew when the last process ended.
    fn last_segment(
        &mut self,
        disk: &Arc<dyn Disk>,
        replay: &mut Replay,
        number: u64,
        bytes: &[u8],
    ) -> Result<(), OpenError> {
        let (file, end) = self.segment(disk, replay, number, bytes, true)?;
        let segment = self.segments.list.get_mut(&number).expect("it was just read");
        let is_torn = end.kind == EndKind::Torn;
        if is_torn {
            let behind = &bytes[end.position..];
            if behind.iter().any(|byte| *byte != 0) {
                let segment = name_of(number);
                info!(segment, from = end.position, "what was never written as a whole is cut off");
            }
            if !behind.is_empty() {
                file.cut(end.position as u64)?;
            }
            segment.length = end.position as u64;
            // The end of the log is what is asked for first.
            let from = end.position.saturating_sub(self.hot.room() / 2);
            self.hot.push(segment.id, from as u64, bytes[from..end.position].to_vec());
        }
        // What the last process left to the operating system is made to survive a power cut before anyone reads it.
        let name = name_of(number);
        let has_header = first_of(&name, number, bytes)?.is_some();
        write_again(&*file, bytes, unsynced(bytes, &end, has_header))
            .map_err(|error| OpenError::Unwritable(name, error))?;
        if end.kind == EndKind::Damaged {
            // Nobody knows how many records the damage hides, but there is room for so many.
            let hidden = (bytes.len() - end.position) / RECORD_BYTES_MIN + 1;
            replay.index.expect(replay.index.next_sequence() + hidden as u64);
        }
        if end.kind == EndKind::Sealed {
            segment.length = end.position as u64;
        }
        let length = segment.length;
        let (is_synced, is_sealed) = (true, !is_torn);
        self.head = Some(Head {
            number,
            id: segment.id,
            file,
            length,
            file_length: length,
            is_synced,
            is_sealed,
            needs_cut: false,
        });
        Ok(())
    }
}

/// Stores what may not have been synced. If a sync had failed, the operating system may take for stored what is not: it stores what is
/// written again. That is only what was read whole: what cannot be read now may be read by the next start.
fn write_again(file: &dyn LogFile, bytes: &[u8], stretches: Vec<Range<usize>>) -> io::Result<()> {
    for stretch in stretches {
        match file.write_at(stretch.start as u64, &bytes[stretch]) {
            Err(error) if !is_full(&error) => return Err(error),
            _ => {}
        }
    }
    file.sync()
}

/// Whether the last segment holds nothing, not even a header.
pub(super) fn was_never_written(number: u64, bytes: &[u8]) -> bool {
    let has_header = matches!(first_of(&name_of(number), number, bytes), Ok(Some(_)));
    let nothing = End { position: SEGMENT_HEADER_BYTES, synced: 0, kind: EndKind::Torn };
    bytes.len() < SEGMENT_HEADER_BYTES || !has_header && scan(bytes, drop) == nothing
}

/// Starts a new life at the end of the log.
fn finish(
    disk: &Arc<dyn Disk>,
    mut replay: Replay,
    read: Read,
    settings: &StoreSettings,
    has_reserve: bool,
    fence: &Fence,
    key: Arc<CursorKey>,
) -> Result<Opened, OpenError> {
    let Read { mut segments, hot, head } = read;
    let next = replay.index.next_sequence();
    replay.index.settle();
    if replay.index.bytes() > settings.index_bytes_max {
        replay.index.make_room(settings.index_bytes_max);
    }
    replay.index.hold(settings.held_bytes_max);
    // From here on the log goes on under another name: a position of a life that this disk has not seen is recognised.
    let generation = Generation {
        id: (random() & GENERATION_MAX).max(1),
        first: next,
        layout: replay.policies.memory_layout(),
    };
    replay.generations.push(generation);
    replay.repeats.adopt(generation.id);
    let number = head.as_ref().map_or(1, |head| head.number + 1);
    let begins = segments.list.keys().next().copied().unwrap_or(number);
    replay.index.doubt_what_was_in_memory(&replay.generations);
    let mut stored = Stored {
        index: replay.index,
        segments: Segments::default(),
        hot,
        generations: replay.generations,
        in_memory: 0,
        begins,
        key,
    };
    let mut preface = Vec::new();
    Record::Preface(stored.preface(next, begins)).write(&mut preface);
    let mut has_reserve = has_reserve
        || match make_reserve(&**disk, settings.segment_bytes) {
            Err(error) if is_sync_failure(&error) => return Err(OpenError::Io(error)),
            Err(error) => {
                warn!(%error, "no room could be set aside on the disk: publications are refused until it takes something again");
                false
            }
            Ok(()) => true,
        };
    let begin = || match &head {
        Some(head) if !head.is_sealed && head.length < settings.segment_bytes => {
            let mut log = Log::new(disk.clone(), settings, head.clone(), fence.clone());
            log.append(&mut preface.clone())?;
            log.sync()?;
            Ok(log)
        }
        head => {
            let mut number = 1;
            if let Some(head) = head {
                number = head.number + 1;
                if !head.is_sealed {
                    let mut log = Log::new(disk.clone(), settings, head.clone(), fence.clone());
                    log.seal(next)?;
                }
            }
            let head = start(&**disk, number, next, &preface)?;
            let mut log = Log::new(disk.clone(), settings, head, fence.clone());
            log.sync()?;
            Ok(log)
        }
    };
    let mut log = begin();
    // That is what it is for, all of it if need be.
    for is_all in [false, true] {
        if matches!(&log, Err(AppendError::NotStored(error)) if is_full(error)) {
            has_reserve = false;
            let given_up =
                if is_all { remove_reserve(&**disk) } else { cut_reserve(&**disk, settings.segment_bytes) };
            log = given_up.map_err(AppendError::NotStored).and_then(|()| begin());
        }
    }
    let mut log = log.map_err(|error| OpenError::Io(io::Error::other(error)))?;
    if let Some(sealed) = head.filter(|head| head.number != log.head.number)
        && let Some(segment) = segments.list.get_mut(&sealed.number)
    {
        segment.length = disk.open(&name_of(sealed.number))?.1;
    }
    if segments.file(log.head.id).is_none() {
        log.head.id = segments.identify(log.head.file.clone());
    }
    let segment = segments.list.entry(log.head.number).or_insert(Segment {
        id: log.head.id,
        length: 0,
        overhead: 0,
        is_damaged: false,
        keyed_at: 0,
    });
    segment.length = log.head.length;
    stored.segments = segments;
    Ok(Opened { log, stored, repeats: replay.repeats, keys_now: replay.keys_now, next, has_reserve })
}
