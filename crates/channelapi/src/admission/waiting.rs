//! Connections that have not said anything yet. When there are too many, the oldest goes: whoever means it has spoken long before.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// Those who wait, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    came: u64,
    places: BTreeMap<u64, Arc<Notify>>,
}

/// A place among them.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    evicted: Arc<Notify>,
}

impl Waiting {
    /// One more waits. Says whether the oldest had to go, because there would be more than `most`.
    pub(super) fn enter(&self, most: usize) -> (Place, bool) {
        let evicted = Arc::new(Notify::new());
        let mut queue = self.0.lock();
        queue.came += 1;
        let number = queue.came;
        queue.places.insert(number, evicted.clone());
        let oldest = if queue.places.len() > most { queue.places.pop_first() } else { None };
        if let Some((_, oldest)) = &oldest {
            oldest.notify_one();
        }
        (Place { number, evicted }, oldest.is_some())
    }

    /// One has spoken, or is gone.
    pub(super) fn leave(&self, place: &Place) {
        self.0.lock().places.remove(&place.number);
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.0.lock().places.len()
    }
}

impl Place {
    /// Ready when the place is taken away.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_goes_first() {
        let waiting = Waiting::default();
        let (first, _) = waiting.enter(2);
        let (second, _) = waiting.enter(2);
        waiting.leave(&first);
        let (third, has_evicted) = waiting.enter(2);
        assert!(!has_evicted, "the first one has spoken");
        let (_, has_evicted) = waiting.enter(2);
        assert!(has_evicted);
        second.evicted().await;
        assert_eq!(waiting.count(), 2);
        waiting.leave(&second);
        waiting.leave(&third);
        assert_eq!(waiting.count(), 1);
    }
}
