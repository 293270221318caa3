//! The bytes of one record of the log. `docs/storage.md` draws them.
//!
//! ```text
//! length u32 | length's checksum u32 | checksum u32 | body
//! body: kind u8 | …
//! ```
//!
//! Numbers are little-endian, checksums are CRC-32. `length` is the body's and has a checksum of its own, so that a record
//! whose end was never written can be told from one whose length was changed. The other checksum covers the body. A length
//! of zero is no record: it is the space behind the last one. The highest bit of `length` marks a record before which
//! everything in its segment was synced when it was written.
//!
//! Records borrow their text and data, from a publisher or from the segment they lie in: nothing is copied to write or read one.

use crate::broker::Gap;

/// Sequences, offsets and times stay below this, which is what a cursor has room for. Counting on from a larger one, which only somebody
/// else can have written, would end the process one day.
pub(super) const NUMBER_MAX: u64 = 1 << 48;

/// Bytes in front of every body.
pub(super) const HEADER_BYTES: usize = 12;

/// The longest body that is written. Whatever claims to be longer is damage.
pub(super) const BODY_BYTES_MAX: usize = crate::limits::DATA_BYTES_MAX + 4 * 1024;

/// The shortest record that has a sequence of its own: a purge of a channel whose name has one byte.
pub(super) const RECORD_BYTES_MIN: usize = HEADER_BYTES + 1 + 2 * 8 + 1;

/// What is written into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// Something was published.
    Publication(StoredPublication<'a>),
    /// What whoever reads on from here has to know of what came before: at the beginning of each segment and of each life.
    Preface(Preface),
    /// Where a channel stands of which nothing is kept.
    Top(StoredTop<'a>),
    /// A channel's history was given up on request.
    Purge(Purge<'a>),
    /// Records with these sequences were here, and nobody needs them any more.
    Skip {
        /// The first of them.
        from: u64,
        /// The first one behind them.
        to: u64,
    },
    /// The last record of a segment: the next one goes on with this sequence.
    Seal {
        /// It.
        next: u64,
    },
}

/// A publication with everything that must survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredPublication<'a> {
    /// The next record belongs to the same batch: if it is missing at the end of the log, this one counts for nothing.
    pub(super) continues: bool,
    pub(super) sequence: u64,
    /// Nothing of the channel has a sequence between this one and the publication's own.
    pub(super) previous: u64,
    /// Milliseconds since 1970.
    pub(super) published_at: u64,
    /// When it dies, in milliseconds since 1970; 0 is never.
    pub(super) expires_at: u64,
    pub(super) epoch: u64,
    pub(super) offset: u64,
    pub(super) channel: &'a str,
    /// The event it arrives as; empty for the usual one.
    pub(super) event: &'a str,
    /// What repeats are recognised by, if the publisher gave one: a key, and a hash of what was published under it.
    pub(super) idempotency: Option<(&'a str, [u8; 16])>,
    /// JSON, as it was published.
    pub(super) data: &'a [u8],
}

/// What came before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Preface {
    /// The sequence of the next record that has one.
    pub(super) next: u64,
    /// The log begins with the segment of this number; older ones are not missing but given up.
    pub(super) begins: u64,
    /// Of a channel that the log does not know, nothing with a lower sequence is provably known.
    pub(super) floor: u64,
    /// The lives of the log, the oldest first.
    pub(super) generations: Vec<Generation>,
}

/// One run of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    /// Random; 0 for a stretch of damage that may have held one.
    pub(super) id: u64,
    /// The first sequence that belongs to it.
    pub(super) first: u64,
    /// Which channels were kept in memory only.
    pub(super) layout: u64,
}

/// Where a channel stands of which nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredTop<'a> {
    pub(super) epoch: u64,
    pub(super) next_offset: u64,
    /// Nothing of the channel has a higher sequence.
    pub(super) last: u64,
    /// The tag of the newest publication.
    pub(super) tag: u32,
    /// Why it is not kept.
    pub(super) loss: Gap,
    pub(super) channel: &'a str,
}

/// A channel's history was given up on request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Purge<'a> {
    pub(super) sequence: u64,
    /// The history that begins with the next publication.
    pub(super) epoch: u64,
    pub(super) channel: &'a str,
}

/// What lies at some place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A record, and how many bytes it takes.
    Record(Record<'a>, usize),
    /// The end: nothing but zeros, or nothing, or the beginning of a record whose end was never written.
    End,
    /// Bytes that are no record.
    Damage,
}

/// The bit of a length that marks a record.
const MARK: u32 = 1 << 31;

const PUBLICATION: u8 = 1;
const PREFACE: u8 = 2;
const TOP: u8 = 3;
const PURGE: u8 = 4;
const SKIP: u8 = 5;
const SEAL: u8 = 6;

/// Set in a publication's flags if the batch goes on.
const CONTINUES: u8 = 1;

impl<'a> Record<'a> {
    /// The record's own sequence, if it has one.
    pub(super) fn sequence(&self) -> Option<u64> {
        match self {
            Self::Publication(publication) => Some(publication.sequence),
            Self::Purge(purge) => Some(purge.sequence),
            _ => None,
        }
    }

    /// Appends the record's bytes, and returns its checksum: the tag of a publication.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> u32 {
        write_record(out, |out| match self {
            Self::Publication(publication) => publication.write_body(out),
            Self::Preface(preface) => {
                out.push(PREFACE);
                write_numbers(&[preface.next, preface.begins, preface.floor], out);
                for generation in &preface.generations {
                    write_numbers(&[generation.id, generation.first, generation.layout], out);
                }
            }
            Self::Top(top) => {
                out.push(TOP);
                write_numbers(&[top.epoch, top.next_offset, top.last], out);
                out.extend_from_slice(&top.tag.to_le_bytes());
                out.push(code_of(top.loss));
                out.extend_from_slice(top.channel.as_bytes());
            }
            Self::Purge(purge) => {
                out.push(PURGE);
                write_numbers(&[purge.sequence, purge.epoch], out);
                out.extend_from_slice(purge.channel.as_bytes());
            }
            Self::Skip { from, to } => {
                out.push(SKIP);
                write_numbers(&[*from, *to], out);
            }
            Self::Seal { next } => {
                out.push(SEAL);
                write_numbers(&[*next], out);
            }
        })
    }

    /// Reads what lies at the beginning of `bytes`, which reach to the end of the segment.
    pub(super) fn find(bytes: &'a [u8]) -> Found<'a> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Found::End;
        };
        let [l0, l1, l2, l3, k0, k1, k2, k3, c0, c1, c2, c3] = *header;
        let length = [l0, l1, l2, l3];
        if length == [0; 4] {
            return if bytes.iter().all(|byte| *byte == 0) { Found::End } else { Found::Damage };
        }
        let body_bytes = usize::try_from(u32::from_le_bytes(length) & !MARK).unwrap_or(usize::MAX);
        if crc32fast::hash(&length) != u32::from_le_bytes([k0, k1, k2, k3]) || body_bytes > BODY_BYTES_MAX {
            return Found::Damage;
        }
        let Some(body) = rest.get(..body_bytes) else {
            // Cut off by the end of the file: never written as a whole, so nobody was told that it was.
            return Found::End;
        };
        if crc32fast::hash(body) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Found::Damage;
        }
        match Self::read_body(body) {
            Some(record) => Found::Record(record, HEADER_BYTES + body_bytes),
            None => Found::Damage,
        }
    }

    /// Whether a record could begin here, judged by the header alone: a quick look for whoever searches behind damage.
    pub(super) fn may_begin(bytes: &[u8]) -> bool {
        bytes.first_chunk::<8>().is_some_and(|&[l0, l1, l2, l3, k0, k1, k2, k3]| {
            let length = [l0, l1, l2, l3];
            length != [0; 4] && crc32fast::hash(&length) == u32::from_le_bytes([k0, k1, k2, k3])
        })
    }

    fn read_body(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields { rest: body };
        let [kind] = fields.array::<1>()?;
        let record = match kind {
            PUBLICATION => Self::Publication(StoredPublication::read(&mut fields)?),
            PREFACE => {
                let (next, begins, floor) = (fields.number()?, fields.number()?, fields.number()?);
                let mut generations = Vec::new();
                while !fields.rest.is_empty() {
                    generations.push(Generation {
                        id: fields.u64()?,
                        first: fields.number()?,
                        layout: fields.u64()?,
                    });
                }
                Self::Preface(Preface { next, begins, floor, generations })
            }
            TOP => Self::Top(StoredTop {
                epoch: fields.u64()?,
                next_offset: fields.number()?,
                last: fields.number()?,
                tag: u32::from_le_bytes(fields.array()?),
                loss: fields.array::<1>().and_then(|[code]| loss_of(code))?,
                channel: std::str::from_utf8(fields.take_rest()).ok()?,
            }),
            PURGE => Self::Purge(Purge {
                sequence: fields.number()?,
                epoch: fields.u64()?,
                channel: std::str::from_utf8(fields.take_rest()).ok()?,
            }),
            SKIP => Self::Skip { from: fields.number()?, to: fields.number()? },
            SEAL => Self::Seal { next: fields.number()? },
            _ => return None,
        };
        fields.rest.is_empty().then_some(record)
    }
}

impl<'a> StoredPublication<'a> {
    fn write_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[PUBLICATION, if self.continues { CONTINUES } else { 0 }]);
        write_numbers(
            &[self.sequence, self.previous, self.published_at, self.expires_at, self.epoch, self.offset],
            out,
        );
        write_text(self.channel, out);
        write_text(self.event, out);
        match self.idempotency {
            None => write_text("", out),
            Some((key, fingerprint)) => {
                write_text(key, out);
                out.extend_from_slice(&fingerprint);
            }
        }
        out.extend_from_slice(self.data);
    }

    fn read(fields: &mut Fields<'a>) -> Option<Self> {
        let [flags] = fields.array()?;
        Some(Self {
            continues: flags & CONTINUES != 0,
            sequence: fields.number()?,
            previous: fields.number()?,
            published_at: fields.number()?,
            expires_at: fields.u64()?,
            epoch: fields.u64()?,
            offset: fields.number()?,
            channel: fields.text()?,
            event: fields.text()?,
            idempotency: match fields.text()? {
                "" => None,
                key => Some((key, fields.array()?)),
            },
            data: fields.take_rest(),
        })
    }
}

/// Appends a header and the body that `write_body` writes, and returns the body's checksum.
fn write_record(out: &mut Vec<u8>, write_body: impl FnOnce(&mut Vec<u8>)) -> u32 {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write_body(out);
    let body = out.len() - start - HEADER_BYTES;
    let length = u32::try_from(body).expect("bodies are limited").to_le_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + 8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
    let checksum = crc32fast::hash(&out[start + HEADER_BYTES..]);
    out[start + 8..start + HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// The checksum of the record at the beginning of `bytes`: the tag of a publication.
pub(super) fn tag_of(bytes: &[u8]) -> u32 {
    let tag = bytes.get(8..HEADER_BYTES).and_then(|tag| tag.first_chunk());
    tag.map_or(0, |tag| u32::from_le_bytes(*tag))
}

/// Marks the record at the beginning of `bytes`: everything before it in its segment was synced when it was written.
pub(super) fn mark(bytes: &mut [u8]) {
    let [l0, l1, l2, l3, ..] = *bytes else {
        return;
    };
    let length = (u32::from_le_bytes([l0, l1, l2, l3]) | MARK).to_le_bytes();
    bytes[..4].copy_from_slice(&length);
    bytes[4..8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
}

/// See [`mark`].
pub(super) fn is_marked(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|length| u32::from_le_bytes(*length) & MARK != 0)
}

/// How many bytes the record takes that begins here, judged by its header; no more than the header if that is damaged.
pub(super) fn extent_of(bytes: &[u8]) -> usize {
    let body = bytes
        .first_chunk()
        .filter(|_| Record::may_begin(bytes))
        .map_or(0, |length| usize::try_from(u32::from_le_bytes(*length) & !MARK).unwrap_or(usize::MAX));
    HEADER_BYTES.saturating_add(body)
}

fn write_numbers(numbers: &[u64], out: &mut Vec<u8>) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("names and keys are limited");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// How a loss is written down.
pub(super) fn code_of(loss: Gap) -> u8 {
    match loss {
        Gap::NoHistory => 2,
        Gap::Epoch => 1,
        _ => 0,
    }
}

pub(super) fn loss_of(code: u8) -> Option<Gap> {
    [Gap::Trimmed, Gap::Epoch, Gap::NoHistory].get(usize::from(code)).copied()
}

/// Walks over a body.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// One that is counted on from.
    fn number(&mut self) -> Option<u64> {
        self.u64().filter(|number| *number < NUMBER_MAX)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        std::str::from_utf8(text).ok()
    }

    fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of a record of some kind, with the record to compare.
    fn check_any(
        kind: u8,
        numbers: [u64; 6],
        name: &str,
        key: Option<&(String, [u8; 16])>,
        data: &[u8],
        check: impl FnOnce(Record<'_>, Vec<u8>) -> Result<(), TestCaseError>,
    ) -> Result<(), TestCaseError> {
        let [sequence, previous, published_at, expires_at, epoch, offset] = numbers;
        let record = match kind {
            0 => Record::Publication(StoredPublication {
                continues: sequence % 2 == 0,
                sequence,
                previous,
                published_at,
                expires_at,
                epoch,
                offset,
                channel: name,
                event: if epoch % 2 == 0 { "" } else { "order placed" },
                idempotency: key.map(|(key, fingerprint)| (key.as_str(), *fingerprint)),
                data,
            }),
            1 => Record::Preface(Preface {
                next: sequence,
                begins: previous,
                floor: published_at,
                generations: vec![Generation { id: epoch, first: offset, layout: 0 }; data.len() % 4],
            }),
            2 => Record::Top(StoredTop {
                epoch,
                next_offset: offset,
                last: previous,
                tag: 7,
                loss: [Gap::Trimmed, Gap::Epoch, Gap::NoHistory][data.len() % 3],
                channel: name,
            }),
            3 => Record::Purge(Purge { sequence, epoch, channel: name }),
            4 => Record::Skip { from: sequence, to: previous },
            _ => Record::Seal { next: sequence },
        };
        let mut bytes = Vec::new();
        assert_eq!(record.write(&mut bytes), tag_of(&bytes));
        check(record, bytes)
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written_and_damage_is_noticed(
            kind in 0_u8..6,
            numbers in prop::array::uniform6(0..NUMBER_MAX),
            name in "[a-zé/]{1,60}",
            key in prop::option::of(("[a-z]{1,40}", any::<[u8; 16]>())),
            data in prop::collection::vec(any::<u8>(), 0..200),
            behind in prop::collection::vec(any::<u8>(), 0..40),
            place in any::<prop::sample::Index>(),
        ) {
            check_any(kind, numbers, &name, key.as_ref(), &data, |record, mut bytes| {
                let length = bytes.len();
                prop_assert!(!is_marked(&bytes));
                if numbers[0] % 3 == 0 {
                    mark(&mut bytes);
                    prop_assert!(is_marked(&bytes));
                }
                prop_assert_eq!(extent_of(&bytes), length);
                let followed = [&bytes[..], &behind].concat();
                prop_assert_eq!(Record::find(&followed), Found::Record(record, length));
                let mut flipped = bytes.clone();
                let bit = place.index(length * 8);
                flipped[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(Record::find(&flipped), Found::Damage);
                prop_assert_eq!(Record::find(&bytes[..place.index(length)]), Found::End);
                Ok(())
            })?;
        }
    }

    #[test]
    fn the_shortest_record_is_known() {
        let mut bytes = Vec::new();
        Record::Purge(Purge { sequence: 1, epoch: 1, channel: "a" }).write(&mut bytes);
        assert_eq!(bytes.len(), RECORD_BYTES_MIN);
    }

    #[test]
    fn numbers_that_nobody_can_count_on_from_are_damage() {
        for number in [NUMBER_MAX, u64::MAX] {
            let mut bytes = Vec::new();
            Record::Purge(Purge { sequence: number, epoch: u64::MAX, channel: "a" }).write(&mut bytes);
            assert_eq!(Record::find(&bytes), Found::Damage);
        }
    }

    #[test]
    fn zeros_are_the_end_and_anything_behind_them_is_damage() {
        assert_eq!(Record::find(&[]), Found::End);
        assert_eq!(Record::find(&[0; 100]), Found::End);
        let mut bytes = [0; 100];
        bytes[99] = 1;
        assert_eq!(Record::find(&bytes), Found::Damage);
    }
}
