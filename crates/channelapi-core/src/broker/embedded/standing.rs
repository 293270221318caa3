//! Where channels stand, and whether what somebody names by its id is of the history that its channel has now.

use super::broker::EmbeddedBroker;
use super::index::Channel;
use crate::broker::history::Gap;
use crate::model::{ChannelName, Position};

/// What a channel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its history.
    pub epoch: u64,
    /// The offset of the oldest publication that is kept, or of the next one.
    pub first_offset: u64,
    /// The offset that the next publication will have.
    pub next_offset: u64,
}

impl EmbeddedBroker {
    /// Where a channel stands, if anything is known of it.
    pub fn standing(&self, channel: &ChannelName) -> Option<Standing> {
        self.stored.read().index.channel(channel).map(standing_of)
    }

    /// Where a channel stands, if anything is known of it, and how much it keeps behind each of some offsets and shows to nobody any more,
    /// because its time is over.
    pub fn standing_and_expired(
        &self,
        channel: &ChannelName,
        behind: impl FnOnce(&Standing) -> Vec<u64>,
    ) -> Option<(Standing, Vec<u64>)> {
        let now = self.clock.unix_millis();
        let stored = self.stored.read();
        let known = stored.index.channel(channel)?;
        let (first_offset, next_offset) = (known.first_offset(), known.next_offset);
        let standing = Standing { epoch: known.epoch, first_offset, next_offset };
        Some((standing, known.expired(&behind(&standing), now)))
    }

    /// Whether an id is of a channel's history, or why not: `Epoch`, `Diverged` or `Ahead`. One of an epoch that another has taken over
    /// from is not: what was taken over has another id. Of what is not kept any more only the epoch is known. That is enough where whoever comes
    /// from there is told that something is missing, and not where everything is here that follows: then the other history may have gone
    /// its own way before.
    pub fn recognize(&self, channel: &ChannelName, id: Position) -> Result<(), Gap> {
        let stored = self.stored.read();
        let known =
            stored.index.channel(channel).filter(|known| known.epoch == id.epoch).ok_or(Gap::Epoch)?;
        if id.offset >= known.next_offset {
            return Err(Gap::Ahead);
        }
        match known.tag_at(id.offset) {
            Some(tag) if tag != id.tag => Err(Gap::Diverged),
            None if known.lost_through > 0 && id.offset >= known.lost_through => Err(Gap::Diverged),
            _ => Ok(()),
        }
    }
}

pub(super) fn standing_of(known: &Channel) -> Standing {
    Standing { epoch: known.epoch, first_offset: known.first_offset(), next_offset: known.next_offset }
}
