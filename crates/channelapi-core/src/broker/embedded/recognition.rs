//! Whether what somebody names by its id is of the history that its channel has now.

use super::EmbeddedBroker;
use crate::broker::Gap;
use crate::model::{ChannelName, Position};

impl EmbeddedBroker {
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
