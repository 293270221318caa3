//! What a client is told when it comes back: that nothing is missing, or why something is. Both have to be true.

use super::{Stand, Walk};
use crate::checker::acks::Elsewhere;
use crate::checker::findings::Law;
use crate::history::{Asked, Branch, ChannelId, Connected, Event, Pid, Reason, Time};

impl Walk<'_, '_> {
    pub(super) fn judge_pid(&mut self, entry: usize, connected: &Connected, gaps: &[(ChannelId, Reason)]) {
        let wrong = match (connected.asked, connected.pid) {
            (_, Pid::None) => "a resumable connection without a pid",
            (Asked::Now, Pid::Same) => "the pid of somebody else for a client that had none",
            (Asked::Now, Pid::New) if !gaps.is_empty() => "a gap for a client that asked for nothing",
            (Asked::NoCursor, Pid::Same) => "recovered, without a cursor to recover from",
            (Asked::Start(session), Pid::Same) if self.began_with_gaps(session) => {
                "recovered, from the beginning of a session whose gaps it may never have heard of"
            }
            (_, Pid::Same) if !gaps.is_empty() => "recovered, and a gap",
            (Asked::All | Asked::After(_) | Asked::Start(_) | Asked::NoCursor, Pid::New)
                if gaps.is_empty() =>
            {
                "not recovered, and no gap that says why"
            }
            _ => return,
        };
        self.report(Law::HonestVerdict, entry, wrong);
    }

    /// Where a client stands that asked for this and got that verdict.
    pub(super) fn resumed(
        &mut self,
        entry: usize,
        at: Time,
        channel: ChannelId,
        asked: Asked,
        incomplete: Option<Reason>,
    ) -> Stand {
        let stood = match asked {
            Asked::Now | Asked::NoCursor => Stand::Since(at),
            Asked::All => Stand::Beginning,
            Asked::Unread => self.stand_of_consumer(channel),
            Asked::After(cursor) => self.stand_at(channel, cursor),
            Asked::Start(session) => Stand::Since(self.client.events[session].at),
        };
        let Some(reason) = incomplete else {
            self.judge_continuity(entry, channel, asked, stood);
            self.judge_silence(entry, channel, asked);
            self.judge_silence_to_consumer(entry, channel, asked);
            return stood;
        };
        if !self.is_true(reason, at, channel, asked, stood) {
            let name = &self.ledger.history.channel(channel).name;
            let text =
                format!("not recovered in {name} because of `{reason}`, which is not so; it was {stood:?}");
            self.report(Law::HonestVerdict, entry, &text);
        }
        Stand::Since(at)
    }

    fn stand_at(&self, channel: ChannelId, entry: usize) -> Stand {
        let marks = self.marks.get(&channel).map_or(&[][..], Vec::as_slice);
        let known = marks[..marks.partition_point(|mark| mark.entry <= entry)].last();
        known.map_or(Stand::Since(self.client.events[entry].at), |mark| mark.stand)
    }

    /// A client that was told that nothing is missing stands in the history that the server has.
    fn judge_continuity(&mut self, entry: usize, channel: ChannelId, asked: Asked, stood: Stand) {
        let (Some(connection), Stand::At(position, id)) = (&self.connection, stood) else { return };
        let branch = connection.connected.branch;
        let Asked::After(cursor) = asked else { return };
        if self.branch_of(cursor) == branch {
            return;
        }
        let now = self.ledger.at(branch, channel, position);
        let newest = self.ledger.stored(branch, channel).last();
        // Only of the last branch everything is known, because it is read at the end.
        let beyond = branch == self.ledger.last_branch()
            && newest.is_none_or(|newest| newest.place < self.ledger.place(channel, position));
        if now.map_or(beyond, |now| now.id != id) {
            let text =
                format!("recovered, but {id} at {position}, where it stands, is not in the history any more");
            self.report(Law::HonestVerdict, entry, &text);
        }
    }

    fn is_true(&self, reason: Reason, at: Time, channel: ChannelId, asked: Asked, stood: Stand) -> bool {
        let Some(connection) = &self.connection else { return false };
        let policy = self.ledger.history.channel(channel);
        match (reason, asked) {
            (Reason::NoCursor, Asked::Start(session)) => self.began_with_gaps(session),
            (Reason::NoCursor, _) => asked == Asked::NoCursor,
            (Reason::NoHistory, _) => policy.max_messages == Some(0),
            (Reason::Trimmed, Asked::After(_) | Asked::Start(_) | Asked::All | Asked::Unread) => {
                self.may_be_trimmed(channel, at, stood)
            }
            (Reason::Epoch, Asked::After(cursor) | Asked::Start(cursor))
                if self.ledger.purges.any(channel) =>
            {
                self.is_purged_since(channel, at, cursor, stood) || self.is_replaced(cursor)
            }
            // Whoever wants everything is told that there was more, as it is where retention took that.
            (Reason::Epoch, Asked::All) => self.was_perhaps_purged(channel, at),
            (Reason::Epoch, Asked::After(cursor) | Asked::Start(cursor)) => {
                let before = self.connected_before(cursor).map(|connected| connected.life);
                before != Some(connection.connected.life)
                    && (!policy.durable || self.ledger.began_anew(channel))
            }
            (Reason::Epoch, Asked::Unread) if policy.durable => self.ledger.began_anew(channel),
            (Reason::Epoch, Asked::Unread) => self.book.stands_elsewhere(channel) != Elsewhere::No,
            (Reason::Diverged, Asked::After(cursor) | Asked::Start(cursor)) => self.is_replaced(cursor),
            (Reason::Ahead, Asked::After(cursor)) => {
                let Stand::At(position, id) = stood else { return false };
                let now = self.ledger.at(connection.connected.branch, channel, position);
                self.is_replaced(cursor) && now.is_none_or(|now| now.id != id)
            }
            // Nobody here asks for a limited replay, and who asked for nothing cannot miss anything.
            (Reason::Limit, _)
            | (_, Asked::Now | Asked::All | Asked::Unread | Asked::Start(_) | Asked::NoCursor) => false,
        }
    }

    /// Whether something was missing when a session began. Whoever asks for nothing misses nothing, and all others keep their session
    /// unless something is missing.
    fn began_with_gaps(&self, session: usize) -> bool {
        self.connected_before(session).is_some_and(|connected| connected.asked != Asked::Now)
    }

    /// Whether what follows may be more than the channel keeps.
    pub(super) fn may_be_trimmed(&self, channel: ChannelId, at: Time, stood: Stand) -> bool {
        let Some(connection) = &self.connection else { return false };
        let reached = match stood {
            Stand::At(position, _) => position.offset,
            Stand::Confirmed { least, .. } => least,
            Stand::Beginning | Stand::Since(_) => 0,
        };
        let largest = self.ledger.largest_offset_before(connection.connected.branch, channel, at);
        let kept = self.ledger.history.channel(channel).max_messages;
        kept.is_some_and(|kept| largest.saturating_sub(reached) > kept)
    }

    /// Whether the server's history is a copy that is older than what came with this entry.
    fn is_replaced(&self, entry: usize) -> bool {
        let now =
            self.connection.as_ref().map_or(Branch::default(), |connection| connection.connected.branch);
        let since = usize::from(self.branch_of(entry).0)..usize::from(now.0);
        let came = self.client.events[entry].at;
        self.ledger.history.restores[since].iter().any(|restore| came > restore.copied)
    }

    pub(super) fn branch_of(&self, entry: usize) -> Branch {
        self.connected_before(entry).map_or(Branch::default(), |connected| connected.branch)
    }

    pub(super) fn connected_before(&self, entry: usize) -> Option<Connected> {
        self.client.events[..=entry].iter().rev().find_map(|entry| match entry.event {
            Event::Connected(connected) => Some(connected),
            _ => None,
        })
    }
}
