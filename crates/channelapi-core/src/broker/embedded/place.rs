//! Where something is in the order in which this log stores publications, and how a client is told so that it cannot read it.
//!
//! A [`Cursor`] is a [`Place`] in a cipher. Whoever may hear one channel holds cursors that count what is stored in all of them, and could
//! tell from two of them how much was published in between.

use crate::model::{CURSOR_BYTES, Cursor};
use aes::Aes128Enc;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

/// A place in the order of everything that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The life of the log in which it was given out.
    pub(super) generation: u64,
    /// Publications in the log up to here.
    pub(super) sequence: u64,
    /// Publications kept only in memory up to here, in this life.
    pub(super) memory: u64,
}

impl Place {
    /// The turn of what is newest there. Only this life knows what it means.
    pub(super) fn turn(self) -> u64 {
        self.sequence + self.memory
    }

    /// The second half of a cursor: `sequence u48 | memory u40`.
    fn count(self) -> u128 {
        u128::from(self.sequence & SEQUENCE_MAX) << 40 | u128::from(self.memory & MEMORY_MAX)
    }
}

/// The highest sequence in a cursor.
const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// The highest count of what is kept in memory only.
const MEMORY_MAX: u64 = (1 << 40) - 1;

/// The highest number of a life of the log that this program begins.
pub(super) const GENERATION_MAX: u64 = (1 << 48) - 1;

/// The highest number that fits into the first half of a cursor, which has 10 bytes: `generation u48 | moment u32`.
const LEFT_MAX: u128 = (1 << 80) - 1;

/// The highest number that fits into the second half, which has 11.
const RIGHT_MAX: u128 = (1 << 88) - 1;

/// What makes a place of a sequence, and a cursor of that: the life of the log that this process is, and the key.
#[derive(Clone, Copy)]
pub(super) struct Life<'a> {
    pub(super) generation: u64,
    pub(super) key: &'a CursorKey,
}

/// What makes cursors of places, and reads them.
///
/// A Feistel network of four rounds (Luby and Rackoff) over the two halves of a cursor, with AES-128 as the keyed function: a permutation
/// that nobody without the key tells from a random one before some 2^40 cursors. So a cursor is hardly longer than a place, and one
/// that was changed is a place of a life that never was.
pub struct CursorKey {
    cipher: Aes128Enc,
    /// The moments that were told of so far, and some.
    moments: AtomicU32,
}

/// Stands for no moment, but for a publication.
const PUBLISHED: u32 = 0;

impl CursorKey {
    /// The key that belongs to a secret of the data directory. With another secret, every cursor is of a life that nobody knows.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(b"channelapi cursor 2");
        let bytes: [u8; 32] = mac.finalize().into_bytes().into();
        Self::new(*bytes.first_chunk().expect("it is longer"))
    }

    fn new(key: [u8; 16]) -> Self {
        Self { cipher: Aes128Enc::new(&key.into()), moments: AtomicU32::new(0) }
    }

    /// The cursor behind a publication: always the same one.
    pub(super) fn of_publication(&self, place: Place) -> Cursor {
        self.seal(place, PUBLISHED)
    }

    /// A cursor for a place where somebody stands for another reason than a publication of its own. It is not the same one again before four
    /// billion others: whoever looks often would see by that when something is stored elsewhere.
    pub(super) fn of_moment(&self, place: Place) -> Cursor {
        let next = || self.moments.fetch_add(1, Ordering::Relaxed);
        let mut moment = next();
        if moment == PUBLISHED {
            moment = next();
        }
        self.seal(place, moment)
    }

    fn seal(&self, place: Place, moment: u32) -> Cursor {
        let mut left = u128::from(place.generation & GENERATION_MAX) << 32 | u128::from(moment);
        let mut right = place.count();
        left ^= self.mask(0, right) & LEFT_MAX;
        right ^= self.mask(1, left) & RIGHT_MAX;
        left ^= self.mask(2, right) & LEFT_MAX;
        right ^= self.mask(3, left) & RIGHT_MAX;
        let mut bytes = [0; CURSOR_BYTES];
        bytes[..10].copy_from_slice(&left.to_be_bytes()[6..]);
        bytes[10..].copy_from_slice(&right.to_be_bytes()[5..]);
        Cursor::from_bytes(bytes)
    }

    /// Where a cursor of ours is; somewhere that never was, if it is none.
    pub(super) fn open(&self, cursor: Cursor) -> Place {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
        let bytes = cursor.to_bytes();
        let (mut left, mut right) = (number(&bytes[..10]), number(&bytes[10..]));
        right ^= self.mask(3, left) & RIGHT_MAX;
        left ^= self.mask(2, right) & LEFT_MAX;
        right ^= self.mask(1, left) & RIGHT_MAX;
        left ^= self.mask(0, right) & LEFT_MAX;
        let narrow = |number: u128| u64::try_from(number).expect("it has fewer bits");
        Place {
            generation: narrow(left >> 32),
            sequence: narrow(right >> 40),
            memory: narrow(right & u128::from(MEMORY_MAX)),
        }
    }

    /// What a round does to one half because of the other.
    fn mask(&self, round: u128, half: u128) -> u128 {
        let mut block = (round << 120 | half).to_be_bytes().into();
        self.cipher.encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    }
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn key() -> CursorKey {
        CursorKey::new([7; 16])
    }

    proptest! {
        #[test]
        fn a_place_survives_its_cursor(generation in 0..=GENERATION_MAX, sequence in 0..=SEQUENCE_MAX, memory in 0..=MEMORY_MAX, key: [u8; 16]) {
            let (place, key) = (Place { generation, sequence, memory }, CursorKey::new(key));
            prop_assert_eq!(key.open(key.of_publication(place)), place);
            prop_assert_eq!(key.open(key.of_moment(place)), place);
        }

        #[test]
        fn every_text_that_looks_like_a_cursor_is_somewhere(bytes: [u8; CURSOR_BYTES]) {
            let place = key().open(Cursor::from_bytes(bytes));
            prop_assert!(place.sequence <= SEQUENCE_MAX && place.memory <= MEMORY_MAX);
            prop_assert_eq!(key().open(key().of_publication(place)), place);
        }
    }

    /// Each bit changes with half of all places and with half of all moments, whatever is next to it: nothing can be counted with.
    #[test]
    fn cursors_of_neighbours_have_nothing_in_common() {
        let key = key();
        let place = |sequence| Place { generation: 1, sequence, memory: 0 };
        let publications = (0..4_000).map(|sequence| key.of_publication(place(sequence))).collect();
        let moments = (0..4_000).map(|_| key.of_moment(place(7))).collect();
        for cursors in [publications, moments] {
            let cursors: Vec<Cursor> = cursors;
            assert_eq!(cursors.iter().collect::<HashSet<_>>().len(), cursors.len());
            let mut flips = [0_u32; CURSOR_BYTES * 8];
            for pair in cursors.windows(2) {
                for (bit, count) in flips.iter_mut().enumerate() {
                    let shown = |cursor: Cursor| cursor.to_bytes()[bit / 8] >> (bit % 8) & 1;
                    *count += u32::from(shown(pair[0]) != shown(pair[1]));
                }
            }
            // Seven standard deviations of a coin that is thrown so often.
            assert!(flips.iter().all(|count| (1_780..=2_220).contains(count)), "{flips:?}");
        }
    }

    #[test]
    fn only_publications_have_the_same_cursor_again() {
        let key = CursorKey { moments: AtomicU32::new(u32::MAX - 1_000), ..key() };
        let place = Place { generation: 1, sequence: 2, memory: 3 };
        let publication = key.of_publication(place);
        assert_eq!(key.of_publication(place), publication);
        let moments: HashSet<_> = (0..2_000).map(|_| key.of_moment(place)).collect();
        assert!(moments.len() == 2_000 && !moments.contains(&publication), "also when all were told of");
    }

    #[test]
    fn a_cursor_of_another_key_is_of_another_life() {
        let place = Place { generation: 1, sequence: 2, memory: 3 };
        let others: Vec<_> = (0..=255).map(|byte| CursorKey::from_secret(&[byte; 32])).collect();
        let sealed: HashSet<_> = others.iter().map(|other| other.of_publication(place)).collect();
        assert_eq!(sealed.len(), 256);
        let own = key().of_publication(place);
        assert!(others.iter().all(|other| other.open(own).generation != 1));
        assert_eq!(format!("{:?}", key()), "CursorKey");
    }

    /// Who changes a cursor, however little, stands nowhere.
    #[test]
    fn a_cursor_that_was_changed_is_of_another_life() {
        let place = Place { generation: 0x5678_9ABC_DEF0, sequence: 1_000, memory: 7 };
        let key = key();
        let sealed = key.of_publication(place).to_bytes();
        for bit in 0..CURSOR_BYTES * 8 {
            let mut changed = sealed;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(key.open(Cursor::from_bytes(changed)).generation, place.generation, "{bit}");
        }
    }
}
