//! A door for the fuzzer to the bytes on disk. Built for it alone, never into a release.
//!
//! Checksums keep whoever makes up bytes from being read at all, so they are put right here.

use super::log::record::{Found, HEADER_BYTES, Record};
use super::log::segment::{header, name_of};

/// Finds the record that has this body, and writes it again. `None` if no record has.
pub fn rewritten_body(body: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    append(body, &mut bytes);
    let Found::Record(record, length) = Record::find(&bytes) else {
        return None;
    };
    assert_eq!(length, bytes.len(), "a record ends where its length says");
    let mut again = Vec::new();
    record.write(&mut again);
    Some(again.split_off(HEADER_BYTES))
}

/// The name and the bytes of a log's first segment, which holds these bodies as records with the right checksums.
pub fn segment(first: u64, bodies: &[&[u8]]) -> (String, Vec<u8>) {
    let mut bytes = header(1, first);
    bodies.iter().for_each(|body| append(body, &mut bytes));
    (name_of(1), bytes)
}

fn append(body: &[u8], bytes: &mut Vec<u8>) {
    let length = u32::try_from(body.len()).expect("inputs of the fuzzer are short").to_le_bytes();
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&crc32fast::hash(&length).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    bytes.extend_from_slice(body);
}
