//! Random bytes for the names of sessions, of which every client needs some when it comes: a thread asks the operating system for many of
//! them at once.
//!
//! Invariant: no byte is given out twice, and none stays here that was given out.

use std::cell::RefCell;

/// Bytes that are asked for at once: enough for some sixteen names. A request for up to 256 is never interrupted.
const POOL_BYTES: usize = 256;

struct Pool {
    bytes: [u8; POOL_BYTES],
    /// So many, at the end, have not been given out.
    left: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], left: 0 }) };
}

/// Bytes that nobody can guess.
pub(super) fn random_bytes<const COUNT: usize>() -> [u8; COUNT] {
    const { assert!(COUNT <= POOL_BYTES) }
    POOL.with_borrow_mut(|pool| {
        if pool.left < COUNT {
            getrandom::fill(&mut pool.bytes).expect("the operating system has random numbers");
            pool.left = POOL_BYTES;
        }
        let start = POOL_BYTES - pool.left;
        pool.left -= COUNT;
        let mut given = [0; COUNT];
        given.swap_with_slice(&mut pool.bytes[start..start + COUNT]);
        given
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_bytes_are_given_out_twice_and_none_stay() {
        // 256 is no multiple of 12, so that now and then a rest is thrown away.
        let few = (0..1_000).map(|_| random_bytes::<12>());
        assert_eq!(few.collect::<HashSet<_>>().len(), 1_000);
        let others = std::thread::spawn(random_bytes::<POOL_BYTES>).join().unwrap();
        assert_ne!(random_bytes::<POOL_BYTES>(), others);
        POOL.with_borrow(|pool| assert_eq!((pool.left, pool.bytes), (0, [0; POOL_BYTES])));
    }
}
