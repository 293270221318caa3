//! The publishers of a simulation: what they ask to be stored, and what they are told.

use super::{CHANNELS, DURABLE, KEPT, MEMORY, OTHER, Simulation, TRIMMED};
use crate::checker::mutants::Flaw;
use crate::history::{Answer, MessageId, Outcome, Position, Publish};

pub(super) struct Publisher {
    pub(super) number: u32,
    /// Index of what it is busy with.
    pub(super) pending: Option<Pending>,
}

#[derive(Clone, Copy)]
pub(super) struct Pending {
    pub(super) publish: usize,
    /// What the server has for this attempt.
    pub(super) stored: Option<(Position, bool)>,
}

impl Simulation {
    /// Publishers and the store go one step further.
    pub(super) fn work(&mut self) {
        let index = usize::try_from(self.choices.number(0..=3)).unwrap();
        match self.publishers[index].pending {
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
        let number = self.publishers[index].number;
        self.publishers[index].number += 1;
        let id = MessageId { publisher: u32::try_from(index).unwrap(), number };
        let channel = *self.choices.pick(&CHANNELS).unwrap();
        // A memory channel forgets its keys with everything else, so nobody relies on them.
        let keyed = channel != MEMORY && self.choices.one_in(2);
        let invoked = self.tick();
        let refused = self.choices.one_in(12);
        let outcome = if refused { Outcome::Refused(503) } else { Outcome::Unknown };
        self.publishes.push(Publish { id, channel, keyed, invoked, outcome });
        let publish = self.publishes.len() - 1;
        if !refused {
            self.publishers[index].pending = Some(Pending { publish, stored: None });
        } else if self.has(Flaw::DeliversRefused) {
            let position = self.logs[&channel].newest().next();
            self.logs.get_mut(&channel).unwrap().messages.push(id);
            self.fan_out(channel, position, id);
            // Its place in the history is seen by whoever reads that at the end.
            self.struck += usize::from(channel == DURABLE || channel == OTHER);
        }
    }

    pub(super) fn store(&mut self, index: usize) {
        let Some(pending) = self.publishers[index].pending else { return };
        let publish = self.publishes[pending.publish].clone();
        let known = self.logs[&publish.channel].keys.get(&publish.id).copied();
        let again = known.is_some() && publish.channel != TRIMMED && self.has(Flaw::StoresKeyTwice);
        let stored = match known {
            Some(position) if publish.keyed && !again => (position, true),
            _ if publish.channel == DURABLE && self.has(Flaw::AcceptsWithoutStoring) => {
                self.struck += 1;
                // Told of a place, the publisher would be contradicted by the next message: too easy to see.
                let at = self.tick();
                self.record(
                    pending.publish,
                    Answer { at, branch: self.branch, position: None, duplicate: false },
                );
                self.publishers[index].pending = None;
                return;
            }
            _ => {
                self.struck += usize::from(again);
                let log = self.logs.get_mut(&publish.channel).unwrap();
                log.messages.push(publish.id);
                let position = log.newest();
                log.keys.insert(publish.id, position);
                if publish.channel == TRIMMED && log.messages.len() as u64 > KEPT {
                    log.messages.remove(0);
                    log.gone += 1;
                }
                self.fan_out(publish.channel, position, publish.id);
                (position, false)
            }
        };
        if let Some(pending) = &mut self.publishers[index].pending {
            pending.stored = Some(stored);
        }
    }

    pub(super) fn answer(&mut self, publish: usize, position: Position, duplicate: bool) {
        let position =
            (!self.choices.one_in(4) || self.publishes[publish].channel == MEMORY).then_some(position);
        let answer = Answer { at: self.tick(), branch: self.branch, position, duplicate };
        self.record(publish, answer);
    }

    fn record(&mut self, publish: usize, answer: Answer) {
        match &mut self.publishes[publish].outcome {
            Outcome::Stored(answers) => answers.push(answer),
            outcome => *outcome = Outcome::Stored(vec![answer]),
        }
    }
}
