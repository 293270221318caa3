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

/// A place in the order of everything that is kept. As bytes it has 19: `generation u64 | sequence u48 | memory u40`.
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

    /// As two numbers, of 72 and 80 bits.
    fn halves(self) -> (u128, u128) {
        let Self { generation, sequence, memory } = self;
        let left = u128::from(generation) << 8 | u128::from(sequence >> 40 & 0xFF);
        let right = u128::from(sequence) << 40 & RIGHT_MAX | u128::from(memory & MEMORY_MAX);
        (left, right)
    }

    fn from_halves(left: u128, right: u128) -> Self {
        let [generation, high] = [left >> 8, left & 0xFF];
        let [low, memory] = [right >> 40, right & u128::from(MEMORY_MAX)];
        let narrow = |number: u128| u64::try_from(number).expect("it was made from one");
        Self { generation: narrow(generation), sequence: narrow(high << 40 | low), memory: narrow(memory) }
    }
}

/// The highest number that fits into the second half of a place.
const RIGHT_MAX: u128 = (1 << 80) - 1;

/// The highest number that fits into the first half.
const LEFT_MAX: u128 = (1 << 72) - 1;

/// The highest count of what is kept in memory only.
const MEMORY_MAX: u64 = (1 << 40) - 1;

/// What makes a place of a sequence, and a cursor of that: the life of the log that this process is, and the key.
#[derive(Clone, Copy)]
pub(super) struct Life<'a> {
    pub(super) generation: u64,
    pub(super) key: &'a CursorKey,
}

/// What makes cursors of places, and reads them.
///
/// A Feistel network of four rounds (Luby and Rackoff) over the two unequal halves of a place, with AES-128 as the keyed
/// function: a permutation of all places that nobody without the key tells from a random one before some 2^36 cursors. So a cursor
/// is no longer than a place, the same place is always the same cursor, and one that was changed is a place of a life that never was.
#[derive(Clone)]
pub struct CursorKey(Aes128Enc);

impl CursorKey {
    /// The key that belongs to a secret of the data directory. With another secret, every cursor is of a life that nobody knows.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(b"channelapi cursor 1");
        let bytes: [u8; 32] = mac.finalize().into_bytes().into();
        Self::new(*bytes.first_chunk().expect("it is longer"))
    }

    fn new(key: [u8; 16]) -> Self {
        Self(Aes128Enc::new(&key.into()))
    }

    /// The cursor that says where this is.
    pub(super) fn seal(&self, place: Place) -> Cursor {
        let (mut left, mut right) = place.halves();
        left ^= self.mask(0, right) & LEFT_MAX;
        right ^= self.mask(1, left) & RIGHT_MAX;
        left ^= self.mask(2, right) & LEFT_MAX;
        right ^= self.mask(3, left) & RIGHT_MAX;
        let mut bytes = [0; CURSOR_BYTES];
        bytes[..9].copy_from_slice(&left.to_be_bytes()[7..]);
        bytes[9..].copy_from_slice(&right.to_be_bytes()[6..]);
        Cursor::from_bytes(bytes)
    }

    /// Where a cursor of ours is; somewhere that never was, if it is none.
    pub(super) fn open(&self, cursor: Cursor) -> Place {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
        let bytes = cursor.to_bytes();
        let (mut left, mut right) = (number(&bytes[..9]), number(&bytes[9..]));
        right ^= self.mask(3, left) & RIGHT_MAX;
        left ^= self.mask(2, right) & LEFT_MAX;
        right ^= self.mask(1, left) & RIGHT_MAX;
        left ^= self.mask(0, right) & LEFT_MAX;
        Place::from_halves(left, right)
    }

    /// What a round does to one half because of the other.
    fn mask(&self, round: u128, half: u128) -> u128 {
        let mut block = (round << 120 | half).to_be_bytes().into();
        self.0.encrypt_block(&mut block);
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
        fn a_place_survives_its_cursor(generation: u64, sequence in 0_u64..1 << 48, memory in 0_u64..1 << 40, key: [u8; 16]) {
            let (place, key) = (Place { generation, sequence, memory }, CursorKey::new(key));
            prop_assert_eq!(key.open(key.seal(place)), place);
        }

        #[test]
        fn every_cursor_is_one_place(bytes: [u8; CURSOR_BYTES]) {
            let cursor = Cursor::from_bytes(bytes);
            prop_assert_eq!(key().seal(key().open(cursor)), cursor);
        }
    }

    /// Each bit of a cursor changes with half of all places, whatever is next to it: nothing can be counted with.
    #[test]
    fn cursors_of_neighbours_have_nothing_in_common() {
        let key = key();
        let place = |sequence| Place { generation: 1, sequence, memory: 0 };
        let mut flips = [0_u32; CURSOR_BYTES * 8];
        for sequence in 0..4_000 {
            let pair = [sequence, sequence + 1].map(|sequence| key.seal(place(sequence)).to_bytes());
            for (bit, count) in flips.iter_mut().enumerate() {
                let differs = pair.map(|bytes| bytes[bit / 8] >> (bit % 8) & 1);
                *count += u32::from(differs[0] != differs[1]);
            }
        }
        // Seven standard deviations of a coin that is thrown so often.
        assert!(flips.iter().all(|count| (1_780..=2_220).contains(count)), "{flips:?}");
    }

    #[test]
    fn a_cursor_of_another_key_is_of_another_life() {
        let place = Place { generation: 1, sequence: 2, memory: 3 };
        let others = (0..=255).map(|byte| CursorKey::from_secret(&[byte; 32]));
        let sealed: HashSet<_> = others.clone().map(|other| other.seal(place)).collect();
        assert_eq!(sealed.len(), 256);
        assert!(others.map(|other| other.open(key().seal(place))).all(|read| read.generation != 1));
        assert_eq!(format!("{:?}", key()), "CursorKey");
    }

    /// Who changes a cursor, however little, stands nowhere.
    #[test]
    fn a_cursor_that_was_changed_is_of_another_life() {
        let place = Place { generation: 0x1234_5678_9ABC_DEF0, sequence: 1_000, memory: 7 };
        let key = key();
        let sealed = key.seal(place).to_bytes();
        for bit in 0..CURSOR_BYTES * 8 {
            let mut changed = sealed;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(key.open(Cursor::from_bytes(changed)).generation, place.generation, "{bit}");
        }
    }
}
