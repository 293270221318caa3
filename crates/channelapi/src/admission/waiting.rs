//! Connections that have not sent a whole request yet: those that have said nothing, and those that have begun something.
//!
//! When there are too many of a kind, one of it goes: the oldest of the address that has the most. Whoever means it has spoken long
//! before, and a crowd from one address costs that address its places, and nobody else.
//!
//! Invariant: the two kinds never take each other's places. A flood of silent connections does not touch a handshake that is under
//! way, and half-finished ones do not touch a client whose first byte has not arrived yet.

use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Notify;

/// Whom a place is counted for; `None` for whoever has no limit per address, who share one account here.
type Who = Option<IpAddr>;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    came: u64,
    silent: Crowd,
    begun: Crowd,
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
    /// One more waits, and has said nothing yet. There may be `most` of these.
    pub(super) fn enter(&self, who: Who, most: usize) -> Place {
        self.take(who, false, most)
    }

    /// It has begun to say something, or what it said has told who it is. There may be `most` of these.
    pub(super) fn begin(&self, place: &mut Place, who: Who, most: usize) {
        self.leave(place);
        *place = self.take(who, true, most);
    }

    fn take(&self, who: Who, has_begun: bool, most: usize) -> Place {
        let mut queue = self.0.lock();
        queue.came += 1;
        let place = Place { number: queue.came, who, has_begun, evicted: Arc::default() };
        let crowd = queue.of(has_begun);
        crowd.insert(&place);
        while crowd.count > most {
            crowd.evict();
        }
        place
    }

    /// One has said everything, or is gone.
    pub(super) fn leave(&self, place: &Place) {
        self.0.lock().of(place.has_begun).remove(place.who, place.number);
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        let queue = self.0.lock();
        queue.silent.count + queue.begun.count
    }
}

impl Queue {
    fn of(&mut self, has_begun: bool) -> &mut Crowd {
        if has_begun { &mut self.begun } else { &mut self.silent }
    }
}

impl Crowd {
    fn insert(&mut self, place: &Place) {
        self.change(place.who, |places| places.insert(place.number, place.evicted.clone()).is_none());
        self.count += 1;
    }

    /// Nothing happens if the place was taken away already.
    fn remove(&mut self, who: Who, number: u64) {
        if self.change(who, |places| places.remove(&number).is_some()) {
            self.count -= 1;
        }
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
    pub(super) fn who(&self) -> Option<IpAddr> {
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

    fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(203, 0, 113, number).into()
    }

    fn is_evicted(place: &Place) -> bool {
        let evicted = std::pin::pin!(place.evicted());
        evicted.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    /// Nobody is remembered who has no place.
    fn assert_empty(waiting: &Waiting) {
        assert_eq!(waiting.count(), 0);
        let queue = waiting.0.lock();
        for crowd in [&queue.silent, &queue.begun] {
            assert!(crowd.places.is_empty() && crowd.order.is_empty());
        }
    }

    #[test]
    fn the_oldest_goes_first() {
        let waiting = Waiting::default();
        let first = waiting.enter(None, 2);
        let second = waiting.enter(None, 2);
        waiting.leave(&first);
        let third = waiting.enter(None, 2);
        assert!(!is_evicted(&second), "the first one has spoken");
        let fourth = waiting.enter(None, 2);
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
        let newcomer = waiting.enter(Some(address(1)), 10);
        let neighbour = waiting.enter(None, 10);
        let crowd: Vec<_> = (0..100).map(|_| waiting.enter(Some(address(2)), 10)).collect();
        let late = waiting.enter(Some(address(3)), 10);
        for honest in [&newcomer, &neighbour, &late] {
            assert!(!is_evicted(honest));
        }
        let evicted: Vec<_> = crowd.iter().map(is_evicted).collect();
        assert_eq!(evicted, [[true; 93].as_slice(), &[false; 7]].concat(), "its oldest go");
        assert_eq!(waiting.count(), 10);
        crowd.iter().chain([&newcomer, &neighbour, &late]).for_each(|place| waiting.leave(place));
        assert_empty(&waiting);
    }

    #[test]
    fn of_many_addresses_with_one_place_each_the_oldest_goes() {
        let waiting = Waiting::default();
        let crowd: Vec<_> = (0..20).map(|number| waiting.enter(Some(address(255 - number)), 10)).collect();
        let evicted: Vec<_> = crowd.iter().map(is_evicted).collect();
        assert_eq!(evicted, [[true; 10], [false; 10]].concat());
    }

    #[test]
    fn those_that_have_begun_are_not_those_that_are_silent() {
        let waiting = Waiting::default();
        let mut newcomer = waiting.enter(Some(address(1)), 10);
        waiting.begin(&mut newcomer, Some(address(1)), 10);
        let silent: Vec<_> = (0..20).map(|_| waiting.enter(Some(address(1)), 10)).collect();
        assert!(!is_evicted(&newcomer), "it has spoken");
        assert_eq!(waiting.count(), 11);
        let mut begun: Vec<_> = (0..20).map(|_| waiting.enter(Some(address(2)), 10)).collect();
        for place in &mut begun {
            waiting.begin(place, Some(address(2)), 10);
        }
        let quiet = waiting.enter(Some(address(3)), 10);
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
        let mut late = waiting.enter(None, 1);
        waiting.enter(None, 1);
        waiting.begin(&mut late, None, 1);
        assert!(!is_evicted(&late), "what was said of its former place means nothing");
        assert_eq!(waiting.count(), 2);
    }
}
