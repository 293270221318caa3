//! The bytes of one segment: its name, its header, and the records behind it, damage included.

use super::record::{Found, NUMBER_MAX, Record, extent_of, is_marked, may_begin};
use std::ops::Range;

/// The first bytes of every segment, its format in them.
const MAGIC: [u8; 8] = *b"CHANLOG1";

/// The part of [`MAGIC`] that is the same in every format.
const FAMILY: &[u8] = b"CHANLOG";

/// Magic, number, first sequence, and a checksum over them.
pub(in super::super) const SEGMENT_HEADER_BYTES: usize = 28;

/// The file that is given up when the disk is full, so that there is room to tidy up.
pub(super) const RESERVE: &str = "reserve";

/// What a file in the log's directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Name {
    /// A segment, by its number.
    Segment(u64),
    /// A segment that is being rewritten; nothing, once the process has ended.
    Rewritten(u64),
    /// See [`RESERVE`].
    Reserve,
}

/// The file of a segment.
pub(in super::super) fn name_of(number: u64) -> String {
    format!("{number:016x}.log")
}

/// The file a segment is rewritten into.
pub(in super::super) fn rewritten_name_of(number: u64) -> String {
    format!("{number:016x}.new")
}

/// What a file is; `None` if it is not ours.
pub(in super::super) fn parse_name(name: &str) -> Option<Name> {
    if name == RESERVE {
        return Some(Name::Reserve);
    }
    let (digits, kind) = name.split_once('.')?;
    let number = u64::from_str_radix(digits, 16).ok().filter(|number| *number < NUMBER_MAX)?;
    if format!("{number:016x}") != digits {
        return None;
    }
    match kind {
        "log" => Some(Name::Segment(number)),
        "new" => Some(Name::Rewritten(number)),
        _ => None,
    }
}

/// The first bytes of a segment.
pub(in super::super) fn header(number: u64, first: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&number.to_le_bytes());
    header.extend_from_slice(&first.to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    header
}

/// The first sequence of a segment; `None` if its header is damaged, which is no reason to give it up: the records behind it
/// have checksums of their own. Another format is refused.
pub(in super::super) fn first_of(name: &str, number: u64, bytes: &[u8]) -> Result<Option<u64>, OtherFormat> {
    let Some((header, _)) = bytes.split_first_chunk::<SEGMENT_HEADER_BYTES>() else {
        return Ok(None);
    };
    let (front, checksum) = header.split_at(SEGMENT_HEADER_BYTES - 4);
    if crc32fast::hash(front).to_le_bytes() != checksum {
        return Ok(None);
    }
    if front.starts_with(FAMILY) && !front.starts_with(&MAGIC) {
        return Err(OtherFormat { name: name.to_owned() });
    }
    let is_ours = front.starts_with(&MAGIC) && front[8..16] == number.to_le_bytes();
    let first = is_ours.then(|| u64::from_le_bytes(*front[16..].first_chunk().expect("it has eight bytes")));
    Ok(first.filter(|first| *first < NUMBER_MAX))
}

/// A segment is in another format than ours.
#[derive(Debug)]
pub(in super::super) struct OtherFormat {
    /// The name of its file.
    pub(in super::super) name: String,
}

/// A part of a segment.
#[derive(Debug)]
pub(in super::super) enum Part<'a> {
    /// A record, where it begins, and how many bytes it takes.
    Record(Record<'a>, u32, u32),
    /// Bytes that are no record, from here to there.
    Damage(usize, usize),
}

/// Where the records of a segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct End {
    /// Behind the last whole one.
    pub(in super::super) position: usize,
    /// Everything before this was synced once.
    pub(in super::super) synced: usize,
    pub(in super::super) kind: EndKind,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum EndKind {
    /// A seal: the log goes on in another segment.
    Sealed,
    /// Nothing, zeros, or parts of what was never written as a whole.
    Torn,
    /// Bytes that are no record, to the very end.
    Damaged,
}

/// Hands every part of a segment to `on_part`, in order. The beginning of a batch whose end is missing at the end of the segment
/// counts as never written.
pub(in super::super) fn scan<'a>(bytes: &'a [u8], mut on_part: impl FnMut(Part<'a>)) -> End {
    let mut position = SEGMENT_HEADER_BYTES.min(bytes.len());
    let mut synced = 0;
    let mut batch: Vec<(Record<'a>, u32, u32)> = Vec::new();
    let number = |value: usize| u32::try_from(value).expect("segments are smaller than 4 GiB");
    loop {
        let rest = &bytes[position..];
        match Record::find(rest) {
            Found::Record(record, length) => {
                if is_marked(rest) {
                    synced = position;
                }
                let continues = matches!(&record, Record::Publication(publication) if publication.continues);
                let is_seal = matches!(record, Record::Seal { .. });
                if continues || !batch.is_empty() {
                    batch.push((record, number(position), number(length)));
                    if !continues {
                        batch
                            .drain(..)
                            .for_each(|(record, at, length)| on_part(Part::Record(record, at, length)));
                    }
                } else {
                    on_part(Part::Record(record, number(position), number(length)));
                }
                position += length;
                if is_seal {
                    return End { position, synced, kind: EndKind::Sealed };
                }
            }
            found if matches!(found, Found::End) || is_torn(bytes, position) => {
                let position = batch.first().map_or(position, |(_, begin, _)| *begin as usize);
                return End { position, synced, kind: EndKind::Torn };
            }
            _ => {
                batch.drain(..).for_each(|(record, at, length)| on_part(Part::Record(record, at, length)));
                let Some(distance) = next_record(rest) else {
                    on_part(Part::Damage(position, bytes.len()));
                    return End { position, synced, kind: EndKind::Damaged };
                };
                on_part(Part::Damage(position, position + distance));
                position += distance;
            }
        }
    }
}

/// Where records lie next to each other that were read whole, of what nobody knows to have been synced. Between these stretches is damage.
pub(in super::super) fn unsynced(bytes: &[u8], end: &End, has_header: bool) -> Vec<Range<usize>> {
    let mut position = end.synced.max(SEGMENT_HEADER_BYTES);
    let mut begin = if has_header { end.synced } else { position };
    let mut stretches = Vec::new();
    while position < end.position {
        if let Found::Record(_, length) = Record::find(&bytes[position..]) {
            position += length;
            continue;
        }
        stretches.push(begin..position);
        position += next_record(&bytes[position..]).unwrap_or(bytes.len());
        begin = position;
    }
    stretches.push(begin..end.position);
    stretches.retain(|stretch| !stretch.is_empty());
    stretches
}

/// A disk writes so many bytes as a whole, at places that are multiples of it: after a power cut they are as they were, which is
/// zeros behind the end of the log, or as they were to be.
const SECTOR_BYTES: usize = if cfg!(test) { 32 } else { 512 };

/// Whether what should be a record at `position` is part of what was being written when the power went: a sector of it is
/// missing, or its end and everything behind it, and nothing behind it was written after it had been synced. Whatever else it is,
/// is damage.
fn is_torn(bytes: &[u8], position: usize) -> bool {
    let end = position.saturating_add(extent_of(&bytes[position..])).min(bytes.len());
    let sectors = position / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
    let is_missing = |sector: usize| {
        let from = position.max(sector * SECTOR_BYTES);
        let to = bytes.len().min((sector + 1) * SECTOR_BYTES);
        bytes[from..to].iter().all(|byte| *byte == 0)
    };
    let has_no_end = bytes[end - 1..].iter().all(|byte| *byte == 0);
    if !has_no_end && !sectors.into_iter().any(is_missing) {
        return false;
    }
    let mut behind = position;
    while let Some(distance) = next_record(&bytes[behind..]) {
        behind += distance;
        if is_marked(&bytes[behind..]) {
            return false;
        }
    }
    true
}

/// How far behind damage the next whole record begins.
fn next_record(bytes: &[u8]) -> Option<usize> {
    let is_record = |distance: &usize| {
        may_begin(&bytes[*distance..]) && matches!(Record::find(&bytes[*distance..]), Found::Record(..))
    };
    (1..bytes.len()).find(is_record)
}

#[cfg(test)]
mod tests {
    use super::super::record::mark;
    use super::*;

    #[test]
    fn names_are_recognised_and_nothing_else_is() {
        let check = |name: &str, expected| assert_eq!(parse_name(name), expected, "{name}");
        check(&name_of(1), Some(Name::Segment(1)));
        check(&rewritten_name_of(NUMBER_MAX - 1), Some(Name::Rewritten(NUMBER_MAX - 1)));
        check(RESERVE, Some(Name::Reserve));
        for name in ["1.log", "000000000000000G.log", "00000000000000AB.log", "0000000000000001.txt", "notes"]
        {
            check(name, None);
        }
        check(&name_of(NUMBER_MAX), None);
    }

    #[test]
    fn another_format_is_refused_and_damage_is_not() {
        let whole = header(3, 7);
        assert!(matches!(first_of("x", 3, &whole), Ok(Some(7))));
        assert!(matches!(first_of("x", 4, &whole), Ok(None)), "a segment under another's name");
        let mut other = whole[..SEGMENT_HEADER_BYTES - 4].to_vec();
        other[7] = b'2';
        other.extend_from_slice(&crc32fast::hash(&other).to_le_bytes());
        assert!(matches!(first_of("x", 3, &other), Err(OtherFormat { .. })));
        other[9] ^= 1;
        assert!(matches!(first_of("x", 3, &other), Ok(None)));
    }

    #[test]
    fn only_what_was_read_whole_is_written_again() {
        let mut bytes = header(1, 1);
        let mut ends = vec![bytes.len()];
        for from in 1..=4 {
            Record::Skip { from, to: from + 1 }.write(&mut bytes);
            ends.push(bytes.len());
        }
        let unsynced = |bytes: &[u8], has_header| -> Vec<_> {
            let stretches = unsynced(bytes, &scan(bytes, drop), has_header).into_iter();
            stretches.map(|stretch| (stretch.start, stretch.end)).collect()
        };
        assert_eq!(unsynced(&bytes, true), [(0, ends[4])]);
        assert_eq!(unsynced(&bytes, false), [(ends[0], ends[4])]);
        bytes[ends[1] + 3..ends[2] + 3].fill(u8::MAX);
        assert_eq!(unsynced(&bytes, true), [(0, ends[1]), (ends[3], ends[4])]);
        mark(&mut bytes[ends[3]..]);
        assert_eq!(unsynced(&bytes, true), [(ends[3], ends[4])]);
        bytes[ends[3]..].fill(u8::MAX);
        assert_eq!(unsynced(&bytes, true), [(0, ends[1])]);
    }
}
