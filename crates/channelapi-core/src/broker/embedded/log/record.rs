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
//! `header.rs` writes and reads what stands in front of the body, `body.rs` the body.
//!
//! Records borrow their text and data, from a publisher or from the segment they lie in: nothing is copied to write or read one.

mod body;
mod header;

pub(in super::super) use header::{HEADER_BYTES, extent_of, is_marked, mark, may_begin, tag_of};

use crate::broker::history::Gap;
use header::Framed;

/// Sequences, offsets and times stay below this, which is what a cursor has room for, and so does the next one of each: nobody counts on
/// from a larger one. A channel that comes to its last offset begins a new epoch, and a log that comes to its last sequence takes nothing
/// more; in practice only somebody else can have written such numbers.
pub(in super::super) const NUMBER_MAX: u64 = 1 << 48;

/// The shortest record that has a sequence of its own: a purge of a channel whose name has one byte.
pub(in super::super) const RECORD_BYTES_MIN: usize = HEADER_BYTES + 1 + 2 * 8 + 1;

/// What is written into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Record<'a> {
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
pub(in super::super) struct StoredPublication<'a> {
    /// The next record belongs to the same batch: if it is missing at the end of the log, this one counts for nothing.
    pub(in super::super) continues: bool,
    /// Its epoch begins with it and takes over what the channel has kept: something may be missing before it, and its offset is the next one of
    /// what is known.
    pub(in super::super) takes_over: bool,
    pub(in super::super) sequence: u64,
    /// Nothing of the channel has a sequence between this one and the publication's own.
    pub(in super::super) previous: u64,
    /// Milliseconds since 1970.
    pub(in super::super) published_at: u64,
    /// When it dies, in milliseconds since 1970; 0 is never.
    pub(in super::super) expires_at: u64,
    pub(in super::super) epoch: u64,
    pub(in super::super) offset: u64,
    pub(in super::super) channel: &'a str,
    /// The event it arrives as; empty for the usual one.
    pub(in super::super) event: &'a str,
    /// What repeats are recognised by, if the publisher gave one: a key, and a hash of what was published under it.
    pub(in super::super) idempotency: Option<(&'a str, [u8; 16])>,
    /// JSON, as it was published.
    pub(in super::super) data: &'a [u8],
}

/// What came before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Preface {
    /// The sequence of the next record that has one.
    pub(in super::super) next: u64,
    /// The log begins with the segment of this number; older ones are not missing but given up.
    pub(in super::super) begins: u64,
    /// Of a channel that the log does not know, nothing with a lower sequence is provably known.
    pub(in super::super) floor: u64,
    /// The lives of the log, the oldest first.
    pub(in super::super) generations: Vec<Generation>,
}

/// One run of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Generation {
    /// Random; 0 for a stretch of damage that may have held one.
    pub(in super::super) id: u64,
    /// The first sequence that belongs to it.
    pub(in super::super) first: u64,
    /// Which channels were kept in memory only; 0 for none.
    pub(in super::super) layout: u64,
}

impl Generation {
    /// Whether channels may have been kept in memory only that are not by a layout.
    pub(in super::super) fn may_hold_others(&self, than: u64) -> bool {
        match self.id {
            0 => than != 0,
            _ => self.layout != 0 && self.layout != than,
        }
    }
}

/// Where a channel stands of which nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct StoredTop<'a> {
    pub(in super::super) epoch: u64,
    pub(in super::super) next_offset: u64,
    /// Nothing of the channel has a higher sequence.
    pub(in super::super) last: u64,
    /// The tag of the newest publication.
    pub(in super::super) tag: u32,
    /// Why it is not kept.
    pub(in super::super) loss: Gap,
    pub(in super::super) channel: &'a str,
}

/// A channel's history was given up on request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Purge<'a> {
    pub(in super::super) sequence: u64,
    /// The history that begins with the next publication.
    pub(in super::super) epoch: u64,
    pub(in super::super) channel: &'a str,
}

/// What lies at some place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Found<'a> {
    /// A record, and how many bytes it takes.
    Record(Record<'a>, usize),
    /// The end: nothing but zeros, or nothing, or the beginning of a record whose end was never written.
    End,
    /// Bytes that are no record.
    Damage,
}

impl<'a> Record<'a> {
    /// The record's own sequence, if it has one.
    pub(in super::super) fn sequence(&self) -> Option<u64> {
        match self {
            Self::Publication(publication) => Some(publication.sequence),
            Self::Purge(purge) => Some(purge.sequence),
            _ => None,
        }
    }

    /// Reads what lies at the beginning of `bytes`, which reach to the end of the segment.
    pub(in super::super) fn find(bytes: &'a [u8]) -> Found<'a> {
        let body = match header::look(bytes) {
            Framed::Body(body) => body,
            Framed::End => return Found::End,
            Framed::Damage => return Found::Damage,
        };
        match Self::read_body(body) {
            Some(record) => Found::Record(record, HEADER_BYTES + body.len()),
            None => Found::Damage,
        }
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
                takes_over: sequence % 3 == 0,
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
            numbers in prop::array::uniform6(1..NUMBER_MAX - 1),
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
        for number in [NUMBER_MAX - 1, NUMBER_MAX, u64::MAX] {
            let mut bytes = Vec::new();
            Record::Purge(Purge { sequence: number, epoch: u64::MAX, channel: "a" }).write(&mut bytes);
            assert_eq!(Record::find(&bytes), Found::Damage);
        }
    }

    #[test]
    fn no_publication_is_before_the_first_place() {
        for (offset, is_known) in [(0, false), (1, true), (NUMBER_MAX - 2, true)] {
            for kind in [0, 2] {
                let numbers = [1, 1, 1, 1, 1, offset];
                check_any(kind, numbers, "a", None, b"1", |_, bytes| {
                    assert_eq!(Record::find(&bytes) != Found::Damage, is_known);
                    Ok(())
                })
                .unwrap();
            }
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
