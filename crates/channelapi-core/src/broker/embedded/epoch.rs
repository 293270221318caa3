//! The numbers of epochs: new ones, and those of epochs that take over what the one before them has kept.
//!
//! A record says that its epoch takes over, and the epoch's number says from which: damage may have hidden that there was another one in
//! between, or a purge, and then what is kept is not what was taken over.

/// The half of an epoch's number that says whose successor it is.
const LINK: u64 = 0xFFFF_FFFF;

/// A number that nothing else has: of an epoch that takes over from none, or of a life of the log. Never 0.
pub(super) fn random() -> u64 {
    getrandom::u64().expect("the operating system has random numbers").max(1)
}

/// A new epoch, of those that may take over from this one. Never 0.
pub(super) fn successor(of: u64) -> u64 {
    linked((random() & !LINK).max(LINK + 1), of)
}

/// Whether an epoch is one of those that may take over from another one.
pub(super) fn succeeds(epoch: u64, of: u64) -> bool {
    linked(epoch, of) == epoch
}

/// An epoch with its random half, as a successor.
fn linked(epoch: u64, of: u64) -> u64 {
    let random = epoch & !LINK;
    let mut hash = crc32fast::Hasher::new();
    hash.update(&of.to_le_bytes());
    hash.update(&random.to_le_bytes());
    random | u64::from(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_one_of_its_predecessor_alone() {
        let (first, other) = (random(), random());
        let (second, another) = (successor(first), successor(first));
        let third = successor(second);
        assert!(succeeds(second, first) && succeeds(another, first) && succeeds(third, second));
        assert_ne!(second, another);
        let wrong = [
            (second, other),
            (third, first),
            (first, second),
            (second, another),
            (first, first),
            (other, first),
        ];
        assert!(wrong.iter().all(|(epoch, of)| !succeeds(*epoch, *of)), "{wrong:?}");
    }
}
