//! The server of a simulation: what it keeps of each channel, what it says of it to those who come back, and how it dies.

use std::collections::{BTreeMap, HashMap};

use super::clients::{Cursor, Item};
use super::flaw::Flaw;
use super::publishers::Pending;
use super::{Copy, DURABLE, MEMORY, PURGED, Simulation, TRIMMED};
use crate::choices::Choices;
use crate::history::{
    Answer, ChannelId, Delivered, Door, Dump, Event, MessageId, Position, Reason, Restore, Time,
};

#[derive(Clone)]
pub(super) struct Log {
    pub(super) epoch: u64,
    /// How many were trimmed.
    pub(super) gone: u64,
    pub(super) messages: Vec<MessageId>,
    pub(super) keys: HashMap<MessageId, Position>,
    /// When messages end that do not live for ever.
    pub(super) ends: HashMap<MessageId, Time>,
}

impl Log {
    pub(super) fn new(choices: &mut Choices) -> Self {
        let (keys, ends) = (HashMap::new(), HashMap::new());
        Self { epoch: choices.number(1..=u64::MAX - 1), gone: 0, messages: Vec::new(), keys, ends }
    }

    pub(super) fn newest(&self) -> Position {
        Position { epoch: self.epoch, offset: self.gone + self.messages.len() as u64 }
    }

    /// Everything behind a position, with its own.
    pub(super) fn after(&self, position: Position) -> Vec<(Position, MessageId)> {
        let skipped = usize::try_from(position.offset.saturating_sub(self.gone)).unwrap();
        let first = position.offset.max(self.gone) + 1;
        let messages = self.messages.iter().skip(skipped).zip(first..);
        messages.map(|(id, offset)| (Position { epoch: self.epoch, offset }, *id)).collect()
    }

    /// Everything whose time is not over.
    pub(super) fn shown(&self, now: Time) -> Vec<(Position, MessageId)> {
        let mut all = self.after(Position { epoch: self.epoch, offset: self.gone });
        all.retain(|(_, id)| self.ends.get(id).is_none_or(|ends| *ends > now));
        all
    }
}

impl Simulation {
    pub(super) fn fan_out(&mut self, channel: ChannelId, position: Position, id: MessageId) {
        let batch_ends = self.choices.one_in(2);
        let newest: BTreeMap<_, _> =
            self.logs.iter().map(|(channel, log)| (*channel, log.newest())).collect();
        let foreign = self.has(Flaw::ForeignChannel);
        for player in &mut self.clients {
            if player.client.door == Door::Seed && self.flaw == Some(Flaw::DeafSeed) {
                continue;
            }
            let Some(wire) = &mut player.wire else { continue };
            let covered = player.client.channels.contains(&channel);
            if !covered && !foreign {
                continue;
            }
            let has_positions = matches!(player.client.door, Door::Explicit | Door::Stream);
            let position = has_positions.then_some(position);
            wire.push_back(Item::Event(Event::Delivered(Delivered { channel, id, position })));
            if player.client.door == Door::Handshake && batch_ends {
                wire.push_back(Item::Checkpoint(newest.clone()));
            }
        }
    }

    /// Why what the cursor's owner missed in the channel is not complete, if it is not.
    pub(super) fn judge(&mut self, channel: ChannelId, cursor: &Cursor) -> Option<Reason> {
        let log = &self.logs[&channel];
        let position = cursor.positions[&channel];
        let copied = self.restores.get(usize::from(cursor.branch.0)).map(|restore| restore.copied);
        let gone = log.gone;
        if cursor.branch != self.branch && copied.is_some_and(|copied| cursor.at > copied) {
            if self.flaw == Some(Flaw::TrustsReplacedHistory) {
                return None;
            }
            return Some(Reason::Diverged);
        }
        if position.epoch != log.epoch {
            assert!(channel == PURGED || cursor.life != self.life);
            let is_silent = channel == PURGED && self.flaw == Some(Flaw::SilentPurge);
            if is_silent || self.has(Flaw::HidesNewEpoch) {
                return None;
            }
            return Some(Reason::Epoch);
        }
        if position.offset < gone {
            if self.flaw == Some(Flaw::HidesTrim) {
                return None;
            }
            return Some(Reason::Trimmed);
        }
        (channel != TRIMMED && self.has(Flaw::FalselyIncomplete)).then_some(Reason::Trimmed)
    }

    pub(super) fn replay(
        &mut self,
        channel: ChannelId,
        from: Position,
        reason: Option<Reason>,
    ) -> Vec<(ChannelId, MessageId)> {
        let replay = self.replay_with_positions(channel, from, reason);
        replay.into_iter().map(|(_, id)| (channel, id)).collect()
    }

    pub(super) fn replay_with_positions(
        &mut self,
        channel: ChannelId,
        from: Position,
        reason: Option<Reason>,
    ) -> Vec<(Position, MessageId)> {
        let log = &self.logs[&channel];
        match reason {
            // Whose history is another one starts from now.
            Some(Reason::Diverged | Reason::Epoch | Reason::NoCursor) => return Vec::new(),
            // What follows is not known to be wrong by anybody, unless there is something.
            None if from.epoch != log.epoch => return log.after(Position { offset: 0, ..from }),
            _ => {}
        }
        let mut replay = log.after(from);
        let (now, forgets) = (self.time(), self.flaw == Some(Flaw::ForgetsLongLived));
        let shows = self.flaw == Some(Flaw::ShowsOver);
        let ends = &self.logs[&channel].ends;
        replay.retain(|(_, id)| match ends.get(id) {
            Some(ends) => (*ends > now || shows) && !forgets,
            None => true,
        });
        if replay.len() > 1 && self.has(Flaw::SkipsOnResume) {
            replay.remove(0);
        }
        if from.offset > self.logs[&channel].gone && self.has(Flaw::RepeatsOnResume) {
            replay.insert(0, self.logs[&channel].after(Position { offset: from.offset - 1, ..from })[0]);
        }
        if replay.len() > 1 && self.has(Flaw::Reorders) {
            replay.swap(0, 1);
        }
        replay
    }

    pub(super) fn newest(&self) -> BTreeMap<ChannelId, Position> {
        self.logs.iter().map(|(channel, log)| (*channel, log.newest())).collect()
    }

    fn stop(&mut self) {
        for index in 0..self.clients.len() {
            self.cut(index);
        }
        for index in 0..self.publishers.len() {
            let Some(Pending { publish, stored }) = self.publishers[index].pending else { continue };
            if stored.is_none() && self.choices.one_in(2) {
                // It is stored, and nobody is told.
                self.store(index);
            }
            // A server that only pretends to store has answered: then nobody tries again.
            if self.publishers[index].pending.is_none() {
                continue;
            }
            let now = self.tick();
            let publishing = &mut self.publishes[publish];
            publishing.doubtful.get_or_insert(now);
            let keyed = publishing.keyed;
            self.publishers[index].pending = keyed.then_some(Pending { publish, stored: None });
        }
        self.life.0 += 1;
        let log = Log::new(&mut self.choices);
        self.logs.insert(MEMORY, log);
    }

    pub(super) fn kill(&mut self) {
        self.stop();
        if self.flaw == Some(Flaw::PurgeComesBack) {
            self.logs.extend(self.purged.take().map(|before| (PURGED, before)));
        }
        if self.flaw == Some(Flaw::ForgetsAck) {
            self.consumers.clear();
        }
        if self.flaw == Some(Flaw::ForgetsTail) {
            let log = self.logs.get_mut(&DURABLE).unwrap();
            if let Some(id) = log.messages.pop() {
                log.keys.remove(&id);
                let accepted =
                    self.publishes.iter().any(|it| it.id == id && !it.answers().is_empty() && !it.keyed);
                self.struck += usize::from(accepted);
            }
        }
        if self.flaw == Some(Flaw::SwapsTail) && !self.has_swapped {
            self.swap_tail();
        }
    }

    /// Once, for swapped again they would be right; and only if a publisher was told where one of them is.
    fn swap_tail(&mut self) {
        let messages = &mut self.logs.get_mut(&DURABLE).unwrap().messages;
        let [.., last, _] = messages[..] else { return };
        let is_told = |answer: &Answer| answer.position.is_some() && answer.branch == self.branch;
        if self.publishes.iter().any(|it| it.id == last && it.answers().iter().any(is_told)) {
            let count = messages.len();
            messages.swap(count - 2, count - 1);
            self.has_swapped = true;
            self.struck += 1;
        }
    }

    pub(super) fn copy_directory(&mut self) {
        self.stop();
        let at = self.tick();
        let mut logs = self.logs.clone();
        logs.remove(&MEMORY);
        self.copy = Some(Copy { at, logs, consumers: self.consumers.clone() });
    }

    pub(super) fn restore_directory(&mut self) {
        let Some(Copy { at: copied, logs, consumers }) = self.copy.take() else { return };
        self.stop();
        self.logs.extend(logs);
        if self.flaw != Some(Flaw::AckOutlivesRestore) {
            self.consumers = consumers;
        }
        self.purged = None;
        // What was wrong in the history before is gone with it.
        self.struck = 0;
        self.restores.push(Restore { copied });
        self.branch.0 += 1;
    }

    pub(super) fn dumps(&self) -> Vec<Dump> {
        let dump = |(channel, log): (&ChannelId, &Log)| Dump {
            branch: self.branch,
            channel: *channel,
            began: self.time(),
            ended: self.time(),
            messages: log.shown(self.time()),
        };
        self.logs.iter().map(dump).collect()
    }
}
