//! What the writer writes down that is no publication: purges, where channels stand, and where the log begins.

use super::super::epoch::random;
use super::super::index::Reset;
use super::super::log::AppendError;
use super::super::log::disk::has_no_room;
use super::super::log::record::{Purge, Record, StoredTop};
use super::super::request::PublishError;
use super::super::stored::Stored;
use super::command::{Poke, Refusal};
use super::outcome::refusal;
use super::{Appended, Writer};
use crate::broker::history::Gap;
use crate::model::ChannelName;
use std::sync::atomic::Ordering;
use tracing::warn;

impl Writer {
    /// Gives up a channel's history; the next publication begins a new one. It is written down also of a channel that is kept in memory
    /// or may have been forgotten: there may be something of it in the log, from before it was.
    pub(super) fn purge(&mut self, channel: &ChannelName) -> Result<usize, PublishError> {
        {
            let stored = self.stored.read();
            if stored.index.channel(channel).is_none() {
                if !stored.index.may_have_forgotten() {
                    return Ok(0);
                }
                // It would be known from then on, whoever made up its name.
                if stored.index.bytes() > self.settings.index_bytes_max {
                    return Err(PublishError::TooManyChannels);
                }
            }
        }
        let (epoch, sequence) = (random(), self.next);
        let mut bytes = Vec::new();
        Record::Purge(Purge { sequence, epoch, channel: channel.as_str() }).write(&mut bytes);
        let appended = self.check_sequences(1).and_then(|()| self.append_making_room(bytes));
        let appended = appended.map_err(|failure| {
            warn!(error = %failure, "a purge could not be stored");
            refusal(&failure)
        })?;
        let mut stored = self.stored.write();
        self.next += 1;
        stored.index.advance(sequence);
        self.lengthen(&mut stored);
        stored.hot.push(appended.segment, appended.position, appended.bytes);
        let turn = stored.place().turn();
        let id = stored.index.intern(channel);
        let reset = Reset { complete_since: turn + 1, ..Reset::begin(epoch, sequence, appended.segment) };
        let purged = stored.index.reset(id, &reset);
        drop(stored);
        if !self.has_reserve.load(Ordering::Relaxed) {
            // It was done to make room. If upkeep is busy, it will see to it anyway.
            _ = self.pokes.try_send(Poke::default());
        }
        Ok(purged)
    }

    /// Writes down where channels stand of which nothing is kept.
    pub(super) fn anchor(&mut self, channels: &[u32], segment: u32) -> Result<(), AppendError> {
        let (mut bytes, mut anchored) = (Vec::new(), Vec::new());
        {
            let stored = self.stored.read();
            for id in channels {
                let Some(known) = stored.index.get(*id) else {
                    continue;
                };
                if known.anchor != segment || !known.entries.is_empty() {
                    continue;
                }
                let mut top = StoredTop {
                    epoch: known.epoch,
                    next_offset: known.next_offset,
                    last: known.last,
                    tag: known.tag,
                    loss: known.loss,
                    channel: known.name.as_str(),
                };
                let mut begun = None;
                if known.is_in_doubt {
                    // What is in doubt stays so under a name of its own, when the damage that tells of it is gone.
                    let last = stored.index.quiet_through(known);
                    top =
                        StoredTop { epoch: random(), next_offset: 1, last, tag: 0, loss: Gap::Epoch, ..top };
                    begun = Some((top.epoch, last));
                }
                anchored.push((*id, begun));
                Record::Top(top).write(&mut bytes);
            }
        }
        if anchored.is_empty() {
            return Ok(());
        }
        let Appended { segment: head, .. } = self.write(bytes, true)?;
        let mut stored = self.stored.write();
        self.lengthen(&mut stored);
        for (id, begun) in anchored {
            match begun {
                Some((epoch, last)) => _ = stored.index.reset(id, &Reset::begin(epoch, last, head)),
                None => stored.index.move_anchor(id, segment, head),
            }
        }
        Ok(())
    }

    /// Writes down that the log begins with a segment, and what is not known of channels that were forgotten.
    pub(super) fn begin(&mut self, number: u64) -> Result<(), AppendError> {
        let mut bytes = Vec::new();
        Record::Preface(self.stored.read().preface(self.next, number)).write(&mut bytes);
        self.write(bytes, true)?;
        let mut stored = self.stored.write();
        stored.begins = number;
        self.lengthen(&mut stored);
        Ok(())
    }

    /// Tells upkeep whether something was done for it.
    pub(super) fn say(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), AppendError>,
    ) -> Result<(), Refusal> {
        act(self).map_err(|failure| {
            self.meet_full_disk(&failure);
            warn!(error = %failure, "upkeep of the log could not write");
            match failure {
                AppendError::NotStored(error) if has_no_room(&error) => Refusal::Full,
                _ => Refusal::Other,
            }
        })
    }

    /// The head holds more than it did.
    fn lengthen(&self, stored: &mut Stored) {
        if let Some(segment) = stored.segments.list.get_mut(&self.log.head.number) {
            segment.length = self.log.head.length;
        }
    }
}
