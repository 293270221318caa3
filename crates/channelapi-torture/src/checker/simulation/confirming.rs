//! Clients of a simulation that confirm what they get, and ask for what they have not confirmed.

use super::Simulation;
use super::clients::Item;
use super::flaw::Flaw;
use crate::history::{Asked, ChannelId, Counted, Delivered, Event, Joined, Position, Reason};

impl Simulation {
    /// A client confirms what it got, or less. The server notes it, unless the connection breaks; the answer is on its way behind all else.
    pub(super) fn confirm(&mut self, index: usize, delivered: &Delivered) {
        let channel = delivered.channel;
        if !self.clients[index].confirms.contains(&channel) || self.choices.one_in(4) {
            return;
        }
        let newest = delivered.position.unwrap().offset;
        let offset = if self.choices.one_in(4) { self.choices.number(1..=newest) } else { newest };
        let entry = self.log(index, Event::Confirming { channel, offset });
        if self.unheard == Some(index) {
            return;
        }
        let ahead = u64::from(self.has(Flaw::AckGoesAhead));
        let noted = self.stands_at(index, channel).max(offset + ahead);
        let epoch = self.logs[&channel].epoch;
        self.consumers.insert((index, channel), Position { epoch, offset: noted });
        let confirmed = Event::Confirmed { entry, offset: noted - ahead };
        if let Some(wire) = &mut self.clients[index].wire {
            wire.push_back(Item::Event(confirmed));
        }
    }

    /// What a client has confirmed of a channel, in the history that this has now.
    pub(super) fn stands_at(&self, index: usize, channel: ChannelId) -> u64 {
        let noted = self.consumers.get(&(index, channel));
        noted.filter(|noted| noted.epoch == self.logs[&channel].epoch).map_or(0, |noted| noted.offset)
    }

    /// How much of a channel a client has not confirmed, if it is one that confirms.
    pub(super) fn count(&self, index: usize, channel: ChannelId) -> Option<Counted> {
        if !self.clients[index].confirms.contains(&channel) {
            return None;
        }
        let (log, stands) = (&self.logs[&channel], self.stands_at(index, channel));
        let shown = log.shown(self.time());
        let unread = shown.iter().filter(|(position, _)| position.offset > stands).count() as u64;
        let unread = match self.flaw {
            Some(Flaw::CountsTooMany) => unread + 1,
            Some(Flaw::CountsTooFew) => unread.saturating_sub(1),
            _ => unread,
        };
        Some(Counted { unread, newest: log.newest().offset })
    }

    /// What a client is told and gets that asks for what it has not confirmed.
    pub(super) fn join_unread(&mut self, index: usize, channel: ChannelId) -> Vec<Item> {
        let log = &self.logs[&channel];
        let (epoch, newest, gone) = (log.epoch, log.newest(), log.gone);
        let stands = self.stands_at(index, channel);
        let offset = match self.flaw {
            Some(Flaw::UnreadIsNew) => newest.offset,
            Some(Flaw::UnreadIsConfirmed) => stands.saturating_sub(1),
            Some(Flaw::UnreadSkips) => newest.offset.min(stands + 1),
            _ => stands,
        };
        let is_hidden = self.flaw == Some(Flaw::HidesTrim);
        let is_elsewhere = self.consumers.get(&(index, channel)).is_some_and(|noted| noted.epoch != epoch);
        let incomplete = match self.flaw {
            Some(Flaw::UnreadBeginsAnew) => Some(Reason::Epoch),
            _ if is_elsewhere => Some(Reason::Epoch),
            _ => (offset < gone && !is_hidden).then_some(Reason::Trimmed),
        };
        let counted = self.count(index, channel);
        let replay = self.replay_with_positions(channel, Position { epoch, offset }, incomplete);
        let joined = Event::Joined(Joined { channel, asked: Asked::Unread, incomplete, counted });
        let delivered =
            |(position, id)| Event::Delivered(Delivered { channel, id, position: Some(position) });
        std::iter::once(joined).chain(replay.into_iter().map(delivered)).map(Item::Event).collect()
    }
}
