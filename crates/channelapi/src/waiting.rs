//! What waits for clients: for each, and for all of them together. Of the address for which most waits, the client for whom most waits goes
//! first: many who hold a little each do not put out one who is only slow.
//!
//! Whoever is put out gives back what is queued. Answers to polls that are on their way are in the hands of connections that write them:
//! they count apart, and have only a part of the room, of which no address gets more once it has more than it leaves. What finds none of
//! it is queued until others are taken. When memory is short, the
//! largest answers that are not taken go, too.

use channelapi_core::limits::ON_THEIR_WAY_FRACTION;
use parking_lot::Mutex;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are queued for all clients of this process.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of answers to polls that their clients have not taken.
static ON_THEIR_WAY: AtomicUsize = AtomicUsize::new(0);

/// Those of each address that has some. Locked for a moment, and nothing else is meanwhile.
static ON_THEIR_WAY_OF: Mutex<BTreeMap<Owner, usize>> = Mutex::new(BTreeMap::new());

/// Bytes that may wait for all clients.
static ALL_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Bytes that wait for all clients of this process.
pub(crate) fn waiting_bytes() -> usize {
    queued_bytes() + on_their_way()
}

/// Those that are queued.
pub(crate) fn queued_bytes() -> usize {
    QUEUED.load(Ordering::Relaxed)
}

fn on_their_way() -> usize {
    ON_THEIR_WAY.load(Ordering::Relaxed)
}

/// Sets how many may wait for all of them.
pub(crate) fn set_waiting_bytes_max(bytes: usize) {
    ALL_MAX.store(bytes, Ordering::Relaxed);
}

/// How many may be queued for all of them, beside what is on its way.
pub(crate) fn queued_bytes_max() -> usize {
    room_beside(on_their_way(), ALL_MAX.load(Ordering::Relaxed))
}

/// What is on its way takes no more than its part: clients that take nothing leave room for others.
fn room_beside(on_their_way: usize, all_max: usize) -> usize {
    all_max - on_their_way.min(all_max / ON_THEIR_WAY_FRACTION)
}

/// Whether there is no room to queue so many more.
pub(crate) fn is_full_with(more: usize) -> bool {
    queued_bytes().saturating_add(more) > queued_bytes_max()
}

/// How many more there is room for on their way to clients of somebody.
pub(crate) fn room_on_the_way(owner: Owner) -> usize {
    let most = ALL_MAX.load(Ordering::Relaxed) / ON_THEIR_WAY_FRACTION;
    room_left(most, on_their_way(), || ON_THEIR_WAY_OF.lock().get(&owner).copied().unwrap_or(0))
}

/// What is left of `most` for somebody who has so many already, `of_owner`, of `all`. Whoever has more than that gets no more: others find
/// room whatever one address does.
fn room_left(most: usize, all: usize, of_owner: impl FnOnce() -> usize) -> usize {
    let left = most.saturating_sub(all);
    // As long as nobody can have so many, nobody is looked up.
    if all <= left || of_owner() <= left { left } else { 0 }
}

/// Whose clients some are, as far as they share a part of the room: an address that limits hold for, by its number, or
/// [nobody's](Owner::NOBODY).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner(u32);

impl Owner {
    /// No limit per address holds for it. It may stand for many, or be one of many behind one, so it is taken by itself.
    pub(crate) const NOBODY: Self = Self(u32::MAX);

    /// The address with a number.
    pub(crate) const fn address(number: u32) -> Self {
        Self(number)
    }
}

/// A client for whom something may wait.
pub(crate) trait Reader: Send + Sync {
    /// Whose it is.
    fn owner(&self) -> Owner;

    /// What waits for it, in bytes.
    fn waiting_bytes(&self) -> usize;

    /// Ends it, because it is among the slowest.
    fn put_out(&self, reason: Slowest);
}

/// Those of one kind.
pub(crate) trait Readers: Send + Sync {
    /// All of them.
    fn readers(&self) -> Vec<Arc<dyn Reader>>;
}

/// Why the slowest have to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slowest {
    /// Too much waits for all together.
    Node,
    /// Memory is short.
    Memory,
}

/// Ends those for whom most waits, of the address for which most waits, until no more than `bytes` wait for all.
pub(crate) fn put_out_slowest(all: &[Arc<dyn Readers>], bytes: usize, reason: Slowest) {
    put_out(all, |_| bytes, reason);
}

/// The same, until half of what waits for all is gone.
pub(crate) fn put_out_slower_half(all: &[Arc<dyn Readers>], reason: Slowest) {
    put_out(all, |total| total / 2, reason);
}

fn put_out(all: &[Arc<dyn Readers>], may_stay: impl FnOnce(usize) -> usize, reason: Slowest) {
    let readers = all.iter().flat_map(|some| some.readers());
    let mut waiting: Vec<_> = readers
        .map(|reader| (reader.owner(), reader.waiting_bytes(), reader))
        .filter(|(_, waiting, _)| *waiting > 0)
        .collect();
    waiting.sort_unstable_by_key(|(owner, waiting, _)| (*owner, *waiting));
    let mut total: usize = waiting.iter().map(|(_, waiting, _)| waiting).sum();
    let bytes = may_stay(total);
    // Each is what waits for some who belong together, and where they are in the list, the largest at the end.
    let mut crowds = BinaryHeap::new();
    let mut begin = 0;
    for crowd in waiting.chunk_by(|(one, ..), (other, ..)| one == other && *one != Owner::NOBODY) {
        let end = begin + crowd.len();
        crowds.push((crowd.iter().map(|(_, waiting, _)| waiting).sum::<usize>(), begin, end));
        begin = end;
    }
    while total > bytes
        && let Some((sum, begin, end)) = crowds.pop()
        && let Some((_, largest, reader)) = waiting[begin..end].last()
    {
        reader.put_out(reason);
        total -= largest;
        crowds.push((sum - largest, begin, end - 1));
    }
}

/// Bytes that are queued for one client. They count for all until they are sent, or this is dropped. Small, because every connection has
/// one: nobody has gigabytes waiting.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitingBytes(u32);

impl WaitingBytes {
    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.0 as usize
    }
}

impl AddAssign<usize> for WaitingBytes {
    fn add_assign(&mut self, more: usize) {
        self.0 += counted(more);
        QUEUED.fetch_add(more, Ordering::Relaxed);
    }
}

impl SubAssign<usize> for WaitingBytes {
    fn sub_assign(&mut self, less: usize) {
        self.0 -= counted(less);
        QUEUED.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for WaitingBytes {
    fn drop(&mut self) {
        QUEUED.fetch_sub(self.count(), Ordering::Relaxed);
    }
}

fn counted(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a connection is full long before 4 GiB wait for it")
}

/// Bytes of an answer to a poll that is on its way. They count until this is dropped: behind a proxy, that may be a moment after the last
/// session of their address has gone, and its number is another's.
#[derive(Debug)]
pub(crate) struct BytesOnTheWay {
    count: usize,
    owner: Owner,
}

impl BytesOnTheWay {
    /// So many set out.
    pub(crate) fn new(count: usize, owner: Owner) -> Self {
        ON_THEIR_WAY.fetch_add(count, Ordering::Relaxed);
        if owner != Owner::NOBODY {
            *ON_THEIR_WAY_OF.lock().entry(owner).or_default() += count;
        }
        Self { count, owner }
    }
}

impl Drop for BytesOnTheWay {
    fn drop(&mut self) {
        ON_THEIR_WAY.fetch_sub(self.count, Ordering::Relaxed);
        if self.owner == Owner::NOBODY {
            return;
        }
        if let Entry::Occupied(mut of_owner) = ON_THEIR_WAY_OF.lock().entry(self.owner) {
            *of_owner.get_mut() -= self.count;
            if *of_owner.get() == 0 {
                of_owner.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Client(Owner, usize, Mutex<Option<Slowest>>);

    impl Reader for Client {
        fn owner(&self) -> Owner {
            self.0
        }

        fn waiting_bytes(&self) -> usize {
            self.1
        }

        fn put_out(&self, reason: Slowest) {
            assert_eq!(self.2.lock().replace(reason), None, "each goes once");
        }
    }

    /// Some of one owner, each with what waits for it.
    fn of(owner: Owner, bytes: impl IntoIterator<Item = usize>) -> Vec<Arc<Client>> {
        bytes.into_iter().map(|bytes| Arc::new(Client(owner, bytes, Mutex::new(None)))).collect()
    }

    /// Which of them have gone.
    fn are_out(clients: &[Arc<Client>]) -> Vec<bool> {
        clients.iter().map(|one| one.2.lock().is_some()).collect()
    }

    struct Crowd(Vec<Arc<Client>>);

    impl Readers for Crowd {
        fn readers(&self) -> Vec<Arc<dyn Reader>> {
            self.0.iter().map(|client| client.clone() as Arc<dyn Reader>).collect()
        }
    }

    #[test]
    fn what_is_on_its_way_leaves_room_to_what_is_queued() {
        for (on_their_way, room) in [(0, 100), (30, 70), (50, 50), (1_000, 50)] {
            assert_eq!(room_beside(on_their_way, 100), room, "{on_their_way}");
        }
    }

    #[test]
    fn no_address_has_more_on_its_way_than_it_leaves_and_an_answer() {
        let check =
            |all, of_owner, left| assert_eq!(room_left(100, all, || of_owner), left, "{all}, {of_owner}");
        check(0, 0, 100);
        check(50, 50, 50);
        check(51, 51, 0);
        check(51, 49, 49);
        check(90, 0, 10);
        check(90, 10, 10);
        check(90, 11, 0);
        check(100, 0, 0);
        check(200, 0, 0);
    }

    #[test]
    fn what_is_on_its_way_to_an_address_is_forgotten_when_it_is_taken() {
        let owner = Owner::address(4_711);
        let of_owner = || ON_THEIR_WAY_OF.lock().get(&owner).copied();
        let answers = [10, 20].map(|count| BytesOnTheWay::new(count, owner));
        assert_eq!(of_owner(), Some(30));
        let [first, second] = answers;
        drop(first);
        assert_eq!(of_owner(), Some(20));
        drop(second);
        assert_eq!(of_owner(), None);
    }

    #[test]
    fn the_slowest_go_first_whatever_kind_they_are_of() {
        let kinds = [of(Owner::NOBODY, [5, 0, 30]), of(Owner::NOBODY, [20, 10])];
        let all: Vec<Arc<dyn Readers>> =
            kinds.iter().map(|kind| Arc::new(Crowd(kind.clone())) as Arc<dyn Readers>).collect();
        put_out_slowest(&all, 65, Slowest::Node);
        let is_out = || kinds.each_ref().map(|kind| are_out(kind));
        assert_eq!(is_out(), [vec![false; 3], vec![false; 2]], "no more than that waits");
        put_out_slowest(&all, 15, Slowest::Memory);
        assert_eq!(is_out(), [vec![false, false, true], vec![true, false]]);
        assert_eq!(*kinds[0][2].2.lock(), Some(Slowest::Memory));
        kinds.iter().flatten().for_each(|one| *one.2.lock() = None);
        put_out_slower_half(&all, Slowest::Memory);
        assert_eq!(is_out(), [vec![false, false, true], vec![true, false]], "30 and 20 of 65");
    }

    /// Once, whoever was slower than each of many from one address went before all of them.
    #[test]
    fn of_the_address_for_which_most_waits_the_largest_go_first() {
        let crowd = of(Owner::address(1), [10, 40, 20, 30]);
        let (slow, neighbours) = (of(Owner::address(2), [50, 20]), of(Owner::NOBODY, [60, 55, 1]));
        let everybody = [crowd.clone(), slow.clone(), neighbours.clone()].concat();
        let all: [Arc<dyn Readers>; 1] = [Arc::new(Crowd(everybody.clone()))];
        let check = |bytes, expected: [&[bool]; 3]| {
            put_out_slowest(&all, bytes, Slowest::Node);
            assert_eq!([&crowd, &slow, &neighbours].map(|some| are_out(some)), expected, "{bytes}");
            for one in &everybody {
                *one.2.lock() = None;
            }
        };
        check(286, [&[false; 4], &[false; 2], &[false; 3]]);
        check(285, [&[false, true, false, false], &[false; 2], &[false; 3]]);
        // 60 are left for the one address, 70 for the other, and neighbours are taken one by one.
        check(246, [&[false, true, false, false], &[false; 2], &[false; 3]]);
        check(245, [&[false, true, false, false], &[true, false], &[false; 3]]);
        check(100, [&[false, true, false, true], &[true, false], &[true, true, false]]);
        check(0, [&[true; 4], &[true; 2], &[true; 3]]);
    }

    /// It holds up whoever watches over memory.
    #[test]
    fn a_crowd_is_put_out_in_no_time() {
        let began = std::time::Instant::now();
        let crowd = of(Owner::address(1), 1..=100_000);
        let others = (2..50_000).flat_map(|number| of(Owner::address(number), [1, 2]));
        let everybody: Vec<_> =
            crowd.into_iter().chain(others).chain(of(Owner::NOBODY, 1..=50_000)).collect();
        put_out_slowest(&[Arc::new(Crowd(everybody.clone()))], 0, Slowest::Node);
        assert!(are_out(&everybody).iter().all(|is_out| *is_out));
        assert!(
            began.elapsed() < std::time::Duration::from_secs(20),
            "it takes a few of them if it is quadratic"
        );
    }
}
