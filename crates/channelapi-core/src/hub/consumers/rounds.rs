//! Acks that are written together, and those who wait for it.

use crate::limits::ACKS_WAITING_MAX;
use crate::model::{ChannelName, ConsumerName};
use crate::state::{Ack, StateError, StoredPosition};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use tokio::sync::watch;

/// Whose progress it is.
pub(super) type Key = (ChannelName, ConsumerName);

/// What became of a round: where each of its consumers stands now, or why nothing was written.
pub(super) type Outcome = Arc<Result<Vec<Option<StoredPosition>>, String>>;

/// Acks that are written together.
struct Round {
    acks: Vec<Ack>,
    /// Where a consumer's ack is among them.
    places: HashMap<Key, usize>,
    outcome: watch::Sender<Option<Outcome>>,
}

/// The round that gathers, and the one before.
#[derive(Default)]
pub(super) struct Rounds {
    gathering: Round,
    /// The round before, while it is being written.
    writing: Option<Round>,
}

/// The end of a round that somebody waits for.
pub(super) struct Waiter {
    outcome: watch::Receiver<Option<Outcome>>,
    /// Its ack, unless the round was full.
    pub(super) place: Option<usize>,
}

impl Rounds {
    /// Adds an ack to the round that gathers.
    pub(super) fn add(&mut self, ack: Ack) -> Waiter {
        self.gathering.add(ack)
    }

    /// Ends the round that gathers, and returns its acks to be written. [`finish`](Self::finish) must follow.
    pub(super) fn close(&mut self) -> Vec<Ack> {
        let mut round = std::mem::take(&mut self.gathering);
        let acks = std::mem::take(&mut round.acks);
        self.writing = Some(round);
        acks
    }

    /// Tells those who wait for the round that was closed what became of it.
    pub(super) fn finish(&mut self, written: Result<Vec<Option<StoredPosition>>, StateError>) {
        let round = self.writing.take().expect("only one round is written at a time");
        round.outcome.send_replace(Some(Arc::new(written.map_err(|error| error.to_string()))));
    }

    /// The end of a round that has an ack of this consumer.
    pub(super) fn waiter_of(&self, key: &Key) -> Option<Waiter> {
        let mut rounds = [Some(&self.gathering), self.writing.as_ref()].into_iter().flatten();
        rounds.find_map(|round| round.places.get(key).map(|place| round.waiter(Some(*place))))
    }

    /// How many acks gather.
    #[cfg(test)]
    pub(super) fn gathering(&self) -> usize {
        self.gathering.acks.len()
    }
}

impl Default for Round {
    fn default() -> Self {
        Self { acks: Vec::new(), places: HashMap::new(), outcome: watch::Sender::new(None) }
    }
}

impl Round {
    fn add(&mut self, ack: Ack) -> Waiter {
        let is_full = self.acks.len() >= ACKS_WAITING_MAX;
        let place = match self.places.entry((ack.channel.clone(), ack.consumer.clone())) {
            Entry::Occupied(place) => {
                let place = *place.get();
                let waiting = &mut self.acks[place].position;
                if waiting.epoch != ack.position.epoch || waiting.offset < ack.position.offset {
                    *waiting = ack.position;
                }
                Some(place)
            }
            Entry::Vacant(_) if is_full => None,
            Entry::Vacant(place) => {
                place.insert(self.acks.len());
                self.acks.push(ack);
                Some(self.acks.len() - 1)
            }
        };
        self.waiter(place)
    }

    fn waiter(&self, place: Option<usize>) -> Waiter {
        Waiter { outcome: self.outcome.subscribe(), place }
    }
}

impl Waiter {
    /// Waits for the end, and says what became of the round.
    pub(super) async fn wait(&self) -> Result<Outcome, StateError> {
        let mut outcome = self.outcome.clone();
        let outcome = outcome.wait_for(Option::is_some).await;
        let stopped = || StateError::Failed("the server is stopping".into());
        outcome.ok().and_then(|outcome| outcome.clone()).ok_or_else(stopped)
    }
}
