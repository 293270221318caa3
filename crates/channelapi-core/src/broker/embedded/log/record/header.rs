//! What stands in front of every body: its length, the mark, and the checksums.

/// Bytes in front of every body.
pub(in super::super::super) const HEADER_BYTES: usize = 12;

/// The longest body that is written. Whatever claims to be longer is damage.
const BODY_BYTES_MAX: usize = crate::limits::DATA_BYTES_MAX + 4 * 1024;

/// The bit of a length that marks a record.
const MARK: u32 = 1 << 31;

/// What lies at some place, judged by its header and its checksums.
pub(super) enum Framed<'a> {
    /// A body that is as it was written.
    Body(&'a [u8]),
    /// See [`Found::End`](super::Found::End).
    End,
    /// Bytes that are no record.
    Damage,
}

/// Reads the header at the beginning of `bytes`, which reach to the end of the segment.
pub(super) fn look(bytes: &[u8]) -> Framed<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Framed::End;
    };
    let [l0, l1, l2, l3, k0, k1, k2, k3, c0, c1, c2, c3] = *header;
    let length = [l0, l1, l2, l3];
    if length == [0; 4] {
        return if bytes.iter().all(|byte| *byte == 0) { Framed::End } else { Framed::Damage };
    }
    let body_bytes = usize::try_from(u32::from_le_bytes(length) & !MARK).unwrap_or(usize::MAX);
    if crc32fast::hash(&length) != u32::from_le_bytes([k0, k1, k2, k3]) || body_bytes > BODY_BYTES_MAX {
        return Framed::Damage;
    }
    let Some(body) = rest.get(..body_bytes) else {
        // Cut off by the end of the file: never written as a whole, so nobody was told that it was.
        return Framed::End;
    };
    if crc32fast::hash(body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Framed::Damage;
    }
    Framed::Body(body)
}

/// Whether a record could begin here, judged by the header alone: a quick look for whoever searches behind damage.
pub(in super::super::super) fn may_begin(bytes: &[u8]) -> bool {
    bytes.first_chunk::<8>().is_some_and(|&[l0, l1, l2, l3, k0, k1, k2, k3]| {
        let length = [l0, l1, l2, l3];
        length != [0; 4] && crc32fast::hash(&length) == u32::from_le_bytes([k0, k1, k2, k3])
    })
}

/// Appends a header and the body that `write_body` writes, and returns the body's checksum.
pub(super) fn write(out: &mut Vec<u8>, write_body: impl FnOnce(&mut Vec<u8>)) -> u32 {
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
pub(in super::super::super) fn tag_of(bytes: &[u8]) -> u32 {
    let tag = bytes.get(8..HEADER_BYTES).and_then(|tag| tag.first_chunk());
    tag.map_or(0, |tag| u32::from_le_bytes(*tag))
}

/// Marks the record at the beginning of `bytes`: everything before it in its segment was synced when it was written.
pub(in super::super::super) fn mark(bytes: &mut [u8]) {
    let [l0, l1, l2, l3, ..] = *bytes else {
        return;
    };
    let length = (u32::from_le_bytes([l0, l1, l2, l3]) | MARK).to_le_bytes();
    bytes[..4].copy_from_slice(&length);
    bytes[4..8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
}

/// See [`mark`].
pub(in super::super::super) fn is_marked(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|length| u32::from_le_bytes(*length) & MARK != 0)
}

/// How many bytes the record takes that begins here, judged by its header; no more than the header if that is damaged.
pub(in super::super::super) fn extent_of(bytes: &[u8]) -> usize {
    let body = bytes
        .first_chunk()
        .filter(|_| may_begin(bytes))
        .map_or(0, |length| usize::try_from(u32::from_le_bytes(*length) & !MARK).unwrap_or(usize::MAX));
    HEADER_BYTES.saturating_add(body)
}
