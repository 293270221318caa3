//! Channels by name: each has a number as long as it is known.

use super::super::log::MEMORY;
use super::{Channel, Expiries, Index, Takeover};
use crate::broker::history::Gap;
use crate::model::ChannelName;
use std::collections::VecDeque;

impl Index {
    /// The number of a channel, by a text that is stored as its name; `None` if it cannot be one.
    pub(in super::super) fn intern_text(&mut self, name: &str) -> Option<u32> {
        match self.names.get(name) {
            Some(id) => Some(*id),
            None => ChannelName::stored(name).ok().map(|name| self.intern(&name)),
        }
    }

    /// The same, of a channel that probably has this number.
    pub(in super::super) fn intern_text_again(&mut self, id: u32, name: &str) -> Option<u32> {
        let is_it = self.get(id).is_some_and(|known| known.name.as_str() == name);
        if is_it { Some(id) } else { self.intern_text(name) }
    }

    /// The number of a channel that had this one a moment ago.
    pub(in super::super) fn intern_again(&mut self, id: Option<u32>, name: &ChannelName) -> u32 {
        match id.filter(|id| self.get(*id).is_some_and(|known| known.name == *name)) {
            Some(id) => id,
            None => self.intern(name),
        }
    }

    /// The number of a channel.
    pub(in super::super) fn intern(&mut self, name: &ChannelName) -> u32 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let policy = self.policies.of(name);
        let place = self.known_policies.iter().position(|known| *known == policy).unwrap_or_else(|| {
            self.known_policies.push(policy);
            self.known_policies.len() - 1
        });
        let id = self.channels.insert(Channel {
            name: name.clone(),
            epoch: 0,
            next_offset: 0,
            complete_since: self.floor.turn,
            lost_through: 0,
            takeover: Takeover::default(),
            newest: self.floor.turn - 1,
            last: 0,
            entries: VecDeque::new(),
            oldest_at: 0,
            expiries: Expiries::default(),
            bytes: 0,
            anchor: MEMORY,
            tag: 0,
            given_up_tag: 0,
            touched: self.gaps,
            policy: u16::try_from(place).expect("a configuration has fewer policies"),
            loss: Gap::Trimmed,
            is_in_memory: false,
            is_in_doubt: false,
        });
        let id = u32::try_from(id).expect("there are fewer channels");
        self.names.insert(name.clone(), id);
        self.name_bytes += name.as_str().len();
        id
    }
}
