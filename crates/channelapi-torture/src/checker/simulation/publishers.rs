//! The publishers of a simulation: what they ask to be stored, and what they are told.

use std::time::Duration;

use super::flaw::Flaw;
use super::{
    DURABLE, EXPIRING, KEPT, LONG_LIFE, MEMORY, OTHER, PURGED, PURGER, SHORT_LIFE, Simulation, TRIMMED,
};
use crate::history::{Answer, ChannelId, MessageId, Outcome, Position, Publish, Time};

pub(super) struct Publisher {
    pub(super) number: u32,
    pub(super) batches: u32,
    /// Index of what it is busy with.
    pub(super) pending: Option<Pending>,
}

#[derive(Clone, Copy)]
pub(super) struct Pending {
    pub(super) publish: usize,
    /// What the server has for this attempt.
    pub(super) stored: Option<(Position, bool)>,
}

/// Channels to which everybody publishes who purges nothing.
const SHARED: [ChannelId; 5] = [DURABLE, OTHER, TRIMMED, MEMORY, EXPIRING];

impl Simulation {
    /// Publishers and the store go one step further.
    pub(super) fn work(&mut self) {
        let index = usize::try_from(self.choices.number(0..=PURGER as u64)).unwrap();
        match self.publishers[index].pending {
            None if index == PURGER && self.choices.one_in(4) => self.purge(),
            None if index != PURGER && self.choices.one_in(6) => self.invoke_batch(index),
            None => self.invoke(index),
            Some(Pending { stored: None, .. }) => self.store(index),
            Some(Pending { publish, stored: Some((position, duplicate)) }) => {
                self.answer(publish, position, duplicate);
                self.publishers[index].pending = None;
                // Some repeat what they know to be stored.
                if self.publishes[publish].keyed && self.choices.one_in(4) {
                    self.publishers[index].pending = Some(Pending { publish, stored: None });
                }
            }
        }
    }

    fn invoke(&mut self, index: usize) {
        let channel = if index == PURGER { PURGED } else { *self.choices.pick(&SHARED).unwrap() };
        // A memory channel forgets its keys with everything else, so nobody relies on them.
        let keyed = index == PURGER || channel != MEMORY && self.choices.one_in(2);
        let invoked = self.tick();
        let publish = self.begin(index, channel, keyed, None, invoked);
        let refused = self.choices.one_in(12);
        if !refused {
            self.publishers[index].pending = Some(Pending { publish, stored: None });
        } else if keyed {
            // It tries again.
            self.publishers[index].pending = Some(Pending { publish, stored: None });
            if self.flaw == Some(Flaw::StoresRefused) {
                self.store(index);
                self.publishers[index].pending = Some(Pending { publish, stored: None });
            }
        } else {
            self.publishes[publish].outcome = Outcome::Refused(503);
            if self.flaw == Some(Flaw::DeliversRefused) {
                self.append(publish);
                // Its place in the history is seen by whoever reads that at the end.
                self.struck += usize::from(is_read_at_the_end(channel));
            }
        }
    }

    /// Everything about a batch, in one step.
    fn invoke_batch(&mut self, index: usize) {
        let channel = *self.choices.pick(&SHARED).unwrap();
        let batch = Some(self.publishers[index].batches);
        self.publishers[index].batches += 1;
        let invoked = self.tick();
        let publishes: Vec<_> = (0..self.choices.number(2..=4))
            .map(|_| self.begin(index, channel, false, batch, invoked))
            .collect();
        if self.choices.one_in(12) {
            for publish in publishes {
                self.publishes[publish].outcome = Outcome::Refused(503);
            }
            return;
        }
        let torn = self.flaw == Some(Flaw::TearsBatch);
        let mixed = self.flaw == Some(Flaw::MixesBatch);
        // Nobody is told whether it is stored.
        let broken = torn || self.choices.one_in(4);
        if broken {
            let at = self.tick();
            for publish in &publishes {
                self.publishes[*publish].doubtful = Some(at);
            }
            if !torn && self.choices.one_in(2) {
                return;
            }
        }
        self.struck += usize::from((torn || mixed) && is_read_at_the_end(channel));
        let stored = if torn { 1 } else { publishes.len() };
        for &publish in &publishes[..stored] {
            let position = self.append(publish);
            if !broken {
                self.answer(publish, position, false);
            }
            if mixed && publish == publishes[0] {
                let between = self.begin(index, channel, false, None, invoked);
                let position = self.append(between);
                self.answer(between, position, false);
            }
        }
    }

    /// A publisher asks for a message to be stored.
    pub(super) fn begin(
        &mut self,
        index: usize,
        channel: ChannelId,
        keyed: bool,
        batch: Option<u32>,
        invoked: Time,
    ) -> usize {
        let number = self.publishers[index].number;
        self.publishers[index].number += 1;
        let id = MessageId { publisher: u32::try_from(index).unwrap(), number };
        let (doubtful, outcome) = (None, Outcome::Unknown);
        let ttl = match self.choices.number(0..=3) {
            _ if !(keyed && channel == EXPIRING) => None,
            0 => None,
            1 => Some(LONG_LIFE),
            _ => Some(SHORT_LIFE),
        };
        let ttl = ttl.map(Duration::from_millis);
        self.publishes.push(Publish { id, channel, keyed, ttl, batch, invoked, doubtful, outcome });
        self.publishes.len() - 1
    }

    /// The server stores a message at the end of its channel, and hands it out.
    pub(super) fn append(&mut self, publish: usize) -> Position {
        let Publish { id, channel, ttl, .. } = self.publishes[publish];
        let ends = ttl.map(|ttl| Time(self.time().0 + ttl));
        let log = self.logs.get_mut(&channel).unwrap();
        log.ends.extend(ends.map(|ends| (id, ends)));
        log.messages.push(id);
        let position = log.newest();
        log.keys.insert(id, position);
        if channel == TRIMMED && log.messages.len() as u64 > KEPT {
            log.messages.remove(0);
            log.gone += 1;
        }
        self.fan_out(channel, position, id);
        position
    }

    pub(super) fn store(&mut self, index: usize) {
        let Some(pending) = self.publishers[index].pending else { return };
        let publish = self.publishes[pending.publish].clone();
        let known = self.logs[&publish.channel].keys.get(&publish.id).copied();
        let again = known.is_some() && !forgets(publish.channel) && self.has(Flaw::StoresKeyTwice);
        let stored = match known {
            Some(position) if publish.keyed && !again => (position, true),
            _ if publish.channel == DURABLE && self.has(Flaw::AcceptsWithoutStoring) => {
                self.struck += 1;
                // Told of a place, the publisher would be contradicted by the next message: too easy to see.
                let at = self.tick();
                let (branch, position, tag) = (self.branch, None, None);
                self.record(pending.publish, Answer { at, branch, position, tag, duplicate: false });
                self.publishers[index].pending = None;
                return;
            }
            _ => {
                self.struck += usize::from(again);
                (self.append(pending.publish), false)
            }
        };
        if let Some(pending) = &mut self.publishers[index].pending {
            pending.stored = Some(stored);
        }
    }

    pub(super) fn answer(&mut self, publish: usize, position: Position, duplicate: bool) {
        let told = &self.publishes[publish];
        self.struck += usize::from(duplicate && told.answers().is_empty() && told.doubtful.is_none());
        // Of what is over by the time that anybody comes, only its publisher can say where it was.
        let is_told = matches!(told.channel, MEMORY | PURGED) || told.ttl.is_some();
        let position = (is_told || !self.choices.one_in(4)).then_some(position);
        let answer = Answer { at: self.tick(), branch: self.branch, position, tag: None, duplicate };
        self.record(publish, answer);
    }

    fn record(&mut self, publish: usize, answer: Answer) {
        match &mut self.publishes[publish].outcome {
            Outcome::Stored(answers) => answers.push(answer),
            outcome => *outcome = Outcome::Stored(vec![answer]),
        }
    }
}

/// Whether what the channel holds may be gone in the end.
fn forgets(channel: ChannelId) -> bool {
    channel == TRIMMED || channel == EXPIRING || channel == PURGED
}

/// Whether everything that the channel holds is known in the end.
fn is_read_at_the_end(channel: ChannelId) -> bool {
    channel == DURABLE || channel == OTHER
}
