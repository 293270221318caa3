//! Connections that have not sent a whole request yet: those that have said nothing, and those that have begun something.
//!
//! When there are too many of a kind, one of it goes: the oldest of the address that has the most. Whoever means it has spoken long
//! before, and a crowd from one address costs that address its places, and nobody else.
//!
//! How many is too many depends on the [`Room`] that whoever has asked for something leaves: these get by with less when the node is nearly
//! full, so that they never fill it.
//!
//! Invariants:
//! - The two kinds never take each other's places. A flood of silent connections does not touch a handshake that is under way, and
//!   half-finished ones do not touch a client whose first byte has not arrived yet.
//! - Strangers and whoever is none never take each other's places either.

use channelapi_core::limits::HANDSHAKES_FRACTION;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Notify;

/// Whom a place is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    /// Somebody without a limit per address. All of them share one account here.
    Neighbour,
    /// Somebody whom a proxy has still to announce: most likely a stranger. These share one account, too.
    Unannounced,
    /// An address.
    Stranger(IpAddr),
}

impl Who {
    /// Whoever an address is counted for, or nobody is.
    pub(super) fn of(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Neighbour, Self::Stranger)
    }

    /// Whether the connections that are kept for others are none for it.
    pub(super) fn is_stranger(self) -> bool {
        self != Self::Neighbour
    }
}

/// How many may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Of each kind, however much room there is.
    pub(super) most: usize,
    /// Connections there may be, and how many there are, those who wait among them.
    pub(super) limit: usize,
    pub(super) taken: usize,
}

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    came: u64,
    strangers: Crowds,
    others: Crowds,
}

/// Those of both kinds.
#[derive(Debug, Default)]
struct Crowds {
    silent: Crowd,
    begun: Crowd,
    /// Those whose places were taken away, and who are not gone yet.
    leaving: usize,
}

/// Those of one kind.
#[derive(Debug, Default)]
struct Crowd {
    count: usize,
    /// The places of each address, in the order they were taken.
    places: HashMap<Who, BTreeMap<u64, Arc<Notify>>>,
    /// The addresses by how many places they have; of those that have as many, the one with the oldest is the last.
    order: BTreeSet<(usize, Reverse<u64>, Who)>,
}

/// A place among them.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    who: Who,
    has_begun: bool,
    evicted: Arc<Notify>,
}

impl Waiting {
    /// One more waits, and has said nothing yet.
    pub(super) fn enter(&self, who: Who, room: Room) -> Place {
        self.0.lock().take(who, false, room)
    }

    /// It has begun to say something, or what it said has told who it is.
    pub(super) fn begin(&self, place: &mut Place, who: Who, room: Room) {
        let mut queue = self.0.lock();
        queue.of(place.who).leave(place);
        *place = queue.take(who, true, room);
    }

    /// Nobody gets in any more: there is less room for those who wait, be they strangers or not.
    pub(super) fn shrink(&self, are_strangers: bool, room: Room) {
        let mut queue = self.0.lock();
        let crowds = if are_strangers { &mut queue.strangers } else { &mut queue.others };
        crowds.keep(false, room);
        crowds.keep(true, room);
    }

    /// One has said everything, or is gone. Each is said to once.
    pub(super) fn leave(&self, place: &Place) {
        self.0.lock().of(place.who).leave(place);
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        let queue = self.0.lock();
        queue.strangers.count() + queue.others.count()
    }
}

impl Queue {
    fn of(&mut self, who: Who) -> &mut Crowds {
        if who.is_stranger() { &mut self.strangers } else { &mut self.others }
    }

    fn take(&mut self, who: Who, has_begun: bool, room: Room) -> Place {
        self.came += 1;
        let place = Place { number: self.came, who, has_begun, evicted: Arc::default() };
        let crowds = self.of(who);
        crowds.kind(has_begun).insert(&place);
        crowds.keep(has_begun, room);
        place
    }
}

impl Crowds {
    fn kind(&mut self, has_begun: bool) -> &mut Crowd {
        if has_begun { &mut self.begun } else { &mut self.silent }
    }

    fn count(&self) -> usize {
        self.silent.count + self.begun.count
    }

    /// Takes places away while there are too many of a kind.
    fn keep(&mut self, have_begun: bool, room: Room) {
        let others = room.taken.saturating_sub(self.count() + self.leaving);
        let left = room.limit.saturating_sub(others) / HANDSHAKES_FRACTION;
        while self.kind(have_begun).count > room.most.min(left).max(1) {
            self.kind(have_begun).evict();
            self.leaving += 1;
        }
    }

    fn leave(&mut self, place: &Place) {
        if !self.kind(place.has_begun).remove(place.who, place.number) {
            self.leaving -= 1;
        }
    }
}

impl Crowd {
    fn insert(&mut self, place: &Place) {
        self.change(place.who, |places| places.insert(place.number, place.evicted.clone()).is_none());
        self.count += 1;
    }

    /// Says whether the place was not taken away already.
    fn remove(&mut self, who: Who, number: u64) -> bool {
        let is_here = self.change(who, |places| places.remove(&number).is_some());
        self.count -= usize::from(is_here);
        is_here
    }

    /// Takes the oldest place away from whoever has the most.
    fn evict(&mut self) {
        let Some((_, Reverse(oldest), who)) = self.order.last().copied() else { return };
        if let Some(evicted) = self.places.get(&who).and_then(|places| places.get(&oldest)) {
            evicted.notify_one();
        }
        self.remove(who, oldest);
    }

    /// Changes the places of one address, and keeps its rank.
    fn change<R>(&mut self, who: Who, change: impl FnOnce(&mut BTreeMap<u64, Arc<Notify>>) -> R) -> R {
        let places = self.places.entry(who).or_default();
        let rank = |places: &BTreeMap<u64, _>| {
            places.first_key_value().map(|(oldest, _)| (places.len(), Reverse(*oldest), who))
        };
        let before = rank(places);
        let changed = change(places);
        let after = rank(places);
        if after.is_none() {
            self.places.remove(&who);
        }
        if let Some(before) = before {
            self.order.remove(&before);
        }
        self.order.extend(after);
        changed
    }
}

impl Place {
    /// Whether it is among those that have begun.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whom it is counted for.
    pub(super) fn who(&self) -> Who {
        self.who
    }

    /// Ready when the place is taken away.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::task::{Context, Poll, Waker};

    fn address(number: u8) -> Who {
        Who::Stranger(Ipv4Addr::new(203, 0, 113, number).into())
    }

    /// Room for everybody, but for no more than `most` of a kind.
    fn most(most: usize) -> Room {
        Room { most, limit: usize::MAX, taken: 0 }
    }

    fn is_evicted(place: &Place) -> bool {
        let evicted = std::pin::pin!(place.evicted());
        evicted.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    /// Nobody is remembered who has no place.
    fn assert_empty(waiting: &Waiting) {
        assert_eq!(waiting.count(), 0);
        let queue = waiting.0.lock();
        for crowds in [&queue.strangers, &queue.others] {
            assert_eq!(crowds.leaving, 0);
            for crowd in [&crowds.silent, &crowds.begun] {
                assert!(crowd.places.is_empty() && crowd.order.is_empty());
            }
        }
    }

    #[test]
    fn the_oldest_goes_first() {
        let waiting = Waiting::default();
        let first = waiting.enter(Who::Neighbour, most(2));
        let second = waiting.enter(Who::Neighbour, most(2));
        waiting.leave(&first);
        let third = waiting.enter(Who::Neighbour, most(2));
        assert!(!is_evicted(&second), "the first one has spoken");
        let fourth = waiting.enter(Who::Neighbour, most(2));
        assert!(is_evicted(&second) && !is_evicted(&third));
        assert_eq!(waiting.count(), 2);
        for place in [&second, &third, &fourth] {
            waiting.leave(place);
        }
        assert_empty(&waiting);
    }

    #[test]
    fn a_crowd_takes_places_from_itself_alone() {
        let waiting = Waiting::default();
        let newcomer = waiting.enter(address(1), most(10));
        let neighbour = waiting.enter(Who::Neighbour, most(10));
        let crowd: Vec<_> = (0..100).map(|_| waiting.enter(address(2), most(10))).collect();
        let late = waiting.enter(address(3), most(10));
        for honest in [&newcomer, &neighbour, &late] {
            assert!(!is_evicted(honest));
        }
        let evicted: Vec<_> = crowd.iter().map(is_evicted).collect();
        assert_eq!(evicted, [[true; 92].as_slice(), &[false; 8]].concat(), "its oldest go");
        assert_eq!(waiting.count(), 11, "ten strangers, and a neighbour");
        crowd.iter().chain([&newcomer, &neighbour, &late]).for_each(|place| waiting.leave(place));
        assert_empty(&waiting);
    }

    #[test]
    fn of_many_addresses_with_one_place_each_the_oldest_goes() {
        let waiting = Waiting::default();
        let crowd: Vec<_> = (0..20).map(|number| waiting.enter(address(255 - number), most(10))).collect();
        let evicted: Vec<_> = crowd.iter().map(is_evicted).collect();
        assert_eq!(evicted, [[true; 10], [false; 10]].concat());
    }

    #[test]
    fn those_that_have_begun_are_not_those_that_are_silent() {
        let waiting = Waiting::default();
        let mut newcomer = waiting.enter(address(1), most(10));
        waiting.begin(&mut newcomer, address(1), most(10));
        let silent: Vec<_> = (0..20).map(|_| waiting.enter(address(1), most(10))).collect();
        assert!(!is_evicted(&newcomer), "it has spoken");
        assert_eq!(waiting.count(), 11);
        let mut begun: Vec<_> = (0..20).map(|_| waiting.enter(address(2), most(10))).collect();
        for place in &mut begun {
            waiting.begin(place, address(2), most(10));
        }
        let quiet = waiting.enter(address(3), most(10));
        assert!(!is_evicted(&quiet) && !is_evicted(&newcomer));
        assert_eq!(
            begun.iter().filter(|place| is_evicted(place)).count(),
            11,
            "ten, of whom one is the newcomer"
        );
        silent.iter().chain(&begun).chain([&newcomer, &quiet]).for_each(|place| waiting.leave(place));
        assert_empty(&waiting);
    }

    #[test]
    fn whoever_began_when_its_place_was_given_away_has_another() {
        let waiting = Waiting::default();
        let mut late = waiting.enter(Who::Neighbour, most(1));
        waiting.enter(Who::Neighbour, most(1));
        waiting.begin(&mut late, Who::Neighbour, most(1));
        assert!(!is_evicted(&late), "what was said of its former place means nothing");
        assert_eq!(waiting.count(), 2);
    }

    #[test]
    fn the_less_room_there_is_the_fewer_may_wait() {
        let waiting = Waiting::default();
        let room = |taken| Room { most: 100, limit: 60, taken };
        let who = address(1);
        let silent: Vec<_> = (1..=60).map(|taken| waiting.enter(who, room(taken))).collect();
        assert_eq!(waiting.count(), 20, "a third of it");
        let begins = |_| {
            let mut place = waiting.enter(who, room(60));
            waiting.begin(&mut place, who, room(60));
            place
        };
        let begun: Vec<_> = (0..30).map(begins).collect();
        assert_eq!(waiting.count(), 19 + 20, "and again a third, in favour of which a silent one went");
        silent.iter().chain(&begun).filter(|place| is_evicted(place)).for_each(|place| waiting.leave(place));
        // Others came meanwhile, asked for something, and have the rest of the room, and more than that.
        waiting.shrink(true, room(60));
        assert_eq!(waiting.count(), 26);
        waiting.shrink(true, room(200));
        assert_eq!(waiting.count(), 2, "there is always one on its way");
        silent.iter().chain(&begun).filter(|place| is_evicted(place)).for_each(|place| waiting.leave(place));
        assert_eq!(waiting.0.lock().strangers.count(), 2);
    }

    /// Once, a crowd of strangers with a place each took those of publishers, who share an account.
    #[test]
    fn strangers_and_others_take_no_places_from_each_other() {
        let waiting = Waiting::default();
        let publishers: Vec<_> = (0..5).map(|_| waiting.enter(Who::Neighbour, most(10))).collect();
        let crowd: Vec<_> = (0..20).map(|number| waiting.enter(address(number), most(10))).collect();
        waiting.shrink(true, most(1));
        assert!(!publishers.iter().any(is_evicted));
        assert_eq!(crowd.iter().filter(|place| is_evicted(place)).count(), 19);
        waiting.shrink(false, most(1));
        assert_eq!(publishers.iter().filter(|place| is_evicted(place)).count(), 4);
        crowd.iter().chain(&publishers).for_each(|place| waiting.leave(place));
        assert_empty(&waiting);
    }
}
