//! The bytes of one record of the log. `docs/storage.md` draws them.
//!
//! ```text
//! length u32 | length's checksum u32 | checksum u32 | body
//! body: kind u8 | sequence u64 | …
//! ```
//!
//! Numbers are little-endian, checksums are CRC-32. `length` is the body's and has a checksum of its own, so that a record
//! whose end was never written can be told from one whose length was changed. The other checksum covers the body. A length
//! of zero is no record: it is the space behind the last one.

use crate::model::ChannelName;
use bytes::Bytes;

/// Bytes in front of every body.
pub(super) const HEADER_BYTES: usize = 12;

/// The longest body that is written. Whatever claims to be longer is damage.
pub(super) const BODY_BYTES_MAX: usize = crate::limits::DATA_BYTES_MAX + 4 * 1024;

/// The shortest record of a publication: the header, the numbers, a name of one byte, no key, and data of one byte.
pub(super) const RECORD_BYTES_MIN: usize = HEADER_BYTES + 1 + 5 * 8 + (2 + 1) + 2 + 1;

/// What is written into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Something was published.
    Publication(StoredPublication),
    /// The process started: from this sequence on, the log goes on under another name.
    Generation(Generation),
}

/// A publication with everything that must survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredPublication {
    pub(super) sequence: u64,
    /// Milliseconds since 1970.
    pub(super) published_at: u64,
    /// When it dies, in milliseconds since 1970; 0 is never.
    pub(super) expires_at: u64,
    pub(super) epoch: u64,
    pub(super) offset: u64,
    pub(super) channel: ChannelName,
    /// What repeats are recognised by, if the publisher gave one.
    pub(super) idempotency: Option<Idempotency>,
    /// JSON, as it was published.
    pub(super) data: Bytes,
}

/// A publisher's key for one publication, and what was published under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Idempotency {
    pub(super) key: Box<str>,
    /// A hash of the data, to tell a repeat from another publication under the same key.
    pub(super) fingerprint: [u8; 16],
}

/// One run of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    /// Random.
    pub(super) id: u64,
    /// The first sequence that belongs to it.
    pub(super) first: u64,
}

/// What lies at some place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record, and how many bytes it takes.
    Record(Record, usize),
    /// The end: nothing but zeros, or nothing, or the beginning of a record whose end was never written.
    End,
    /// Bytes that are no record.
    Damage,
}

const PUBLICATION: u8 = 1;
const GENERATION: u8 = 2;

impl Record {
    /// The lowest sequence that a record behind this one can have.
    pub(super) fn next_sequence(&self) -> u64 {
        match self {
            Self::Publication(publication) => publication.sequence + 1,
            Self::Generation(generation) => generation.first,
        }
    }

    /// Appends the record's bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        match self {
            Self::Publication(publication) => publication.write(out),
            Self::Generation(generation) => {
                out.push(GENERATION);
                out.extend_from_slice(&generation.first.to_le_bytes());
                out.extend_from_slice(&generation.id.to_le_bytes());
            }
        }
        let body = out.len() - start - HEADER_BYTES;
        let length = u32::try_from(body).expect("bodies are limited").to_le_bytes();
        out[start..start + 4].copy_from_slice(&length);
        out[start + 4..start + 8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
        let checksum = crc32fast::hash(&out[start + HEADER_BYTES..]);
        out[start + 8..start + HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads what lies at the beginning of `bytes`, which reach to the end of the segment.
    pub(super) fn find(bytes: &Bytes) -> Found {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Found::End;
        };
        let [l0, l1, l2, l3, k0, k1, k2, k3, c0, c1, c2, c3] = *header;
        let length = [l0, l1, l2, l3];
        if length == [0; 4] {
            return if bytes.iter().all(|byte| *byte == 0) { Found::End } else { Found::Damage };
        }
        let body_bytes = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
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
        match Self::read_body(&bytes.slice(HEADER_BYTES..HEADER_BYTES + body_bytes)) {
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

    fn read_body(body: &Bytes) -> Option<Self> {
        let mut fields = Fields { bytes: body, at: 0 };
        match fields.array::<1>()? {
            [PUBLICATION] => StoredPublication::read(&mut fields).map(Self::Publication),
            [GENERATION] => {
                let first = fields.u64()?;
                let id = fields.u64()?;
                fields.is_at_end().then_some(Self::Generation(Generation { id, first }))
            }
            _ => None,
        }
    }
}

impl StoredPublication {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(PUBLICATION);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        for number in [self.published_at, self.expires_at, self.epoch, self.offset] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        write_text(self.channel.as_str(), out);
        match &self.idempotency {
            None => write_text("", out),
            Some(Idempotency { key, fingerprint }) => {
                write_text(key, out);
                out.extend_from_slice(fingerprint);
            }
        }
        out.extend_from_slice(&self.data);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            sequence: fields.u64()?,
            published_at: fields.u64()?,
            expires_at: fields.u64()?,
            epoch: fields.u64()?,
            offset: fields.u64()?,
            channel: ChannelName::parse(fields.text()?).ok()?,
            idempotency: match fields.text()? {
                "" => None,
                key => Some(Idempotency { key: key.into(), fingerprint: fields.array()? }),
            },
            data: fields.rest(),
        })
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("names and keys are limited");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Walks over a body.
struct Fields<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(array)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let text = self.bytes.get(self.at..)?.get(..length)?;
        self.at += length;
        std::str::from_utf8(text).ok()
    }

    fn rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.at..);
        self.at = self.bytes.len();
        rest
    }

    fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn publication() -> impl Strategy<Value = StoredPublication> {
        let key = prop::option::of(("[a-z]{1,40}", any::<[u8; 16]>()));
        (any::<[u64; 5]>(), "[a-zé/]{1,60}", key, prop::collection::vec(any::<u8>(), 0..200)).prop_map(
            |([sequence, published_at, expires_at, epoch, offset], channel, key, data)| StoredPublication {
                sequence,
                published_at,
                expires_at,
                epoch,
                offset,
                channel: ChannelName::parse(&channel).unwrap(),
                idempotency: key.map(|(key, fingerprint)| Idempotency { key: key.into(), fingerprint }),
                data: data.into(),
            },
        )
    }

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            publication().prop_map(Record::Publication),
            any::<(u64, u64)>().prop_map(|(id, first)| Record::Generation(Generation { id, first })),
        ]
    }

    fn bytes_of(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(record in record(), behind in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = bytes_of(&record);
            let length = bytes.len();
            let found = Record::find(&[bytes, behind].concat().into());
            prop_assert_eq!(found, Found::Record(record, length));
        }

        #[test]
        fn a_flipped_bit_is_damage(record in record(), bit in any::<prop::sample::Index>()) {
            let mut bytes = bytes_of(&record);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Record::find(&bytes.into()), Found::Damage);
        }

        #[test]
        fn a_record_cut_anywhere_is_the_end(record in record(), cut in any::<prop::sample::Index>()) {
            let mut bytes = bytes_of(&record);
            bytes.truncate(cut.index(bytes.len()));
            prop_assert_eq!(Record::find(&bytes.into()), Found::End);
        }
    }

    #[test]
    fn the_shortest_record_is_known() {
        let shortest = StoredPublication {
            sequence: 1,
            published_at: 0,
            expires_at: 0,
            epoch: 0,
            offset: 1,
            channel: ChannelName::parse("a").unwrap(),
            idempotency: None,
            data: Bytes::from_static(b"1"),
        };
        assert_eq!(bytes_of(&Record::Publication(shortest)).len(), RECORD_BYTES_MIN);
    }

    #[test]
    fn zeros_are_the_end_and_anything_behind_them_is_damage() {
        assert_eq!(Record::find(&Bytes::new()), Found::End);
        assert_eq!(Record::find(&vec![0; 100].into()), Found::End);
        let mut bytes = vec![0; 100];
        bytes[99] = 1;
        assert_eq!(Record::find(&bytes.into()), Found::Damage);
    }
}
