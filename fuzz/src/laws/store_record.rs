//! The body of one record of the log.

use channelapi_core::broker::fuzzing::rewritten_body;

/// Where a publication's flags are. Those that mean nothing are not written again.
const FLAGS: usize = 1;
const PUBLICATION: u8 = 1;

/// The input is a record's body; its checksums are right.
///
/// - A record has one form: what was read and written again is the same bytes, but for flags without a meaning.
/// - What was written is read again.
pub fn store_record(data: &[u8]) -> bool {
    let Some(again) = rewritten_body(data) else { return false };
    let mut expected = data.to_vec();
    if let [PUBLICATION, flags, ..] = &mut expected[..] {
        *flags = again[FLAGS];
    }
    assert_eq!(again, expected);
    assert_eq!(rewritten_body(&again), Some(again));
    true
}
