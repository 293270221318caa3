//! What a client may be told of purges, and what it has to be told.

use super::{Stand, Walk};
use crate::checker::findings::Law;
use crate::history::{Asked, Branch, ChannelId, Delivered, Event, Joined, MessageId, Position, Purge, Time};

impl Walk<'_, '_> {
    /// The time by which the server had surely given out what a client returns with.
    pub(super) fn given_by(&self, channel: ChannelId, asked: Asked) -> Option<Time> {
        let (Asked::After(entry) | Asked::Start(entry)) = asked else { return None };
        let came = &self.client.events[entry];
        // Whoever stands at a message of the channel stands where it was when its publisher was answered.
        let accepted = match &came.event {
            Event::Delivered(delivered) if delivered.channel == channel => self.accepted(delivered.id),
            _ => None,
        };
        Some(accepted.map_or(came.at, |accepted| accepted.min(came.at)))
    }

    fn accepted(&self, id: MessageId) -> Option<Time> {
        self.ledger.publish(id)?.answers().first().map(|answer| answer.at)
    }

    /// Whether what a connection still has to get may have been purged.
    pub(super) fn may_be_purged(&self, channel: ChannelId, at: Time) -> bool {
        let Some(connection) = &self.connection else { return false };
        let since = connection.connected.began;
        self.ledger.purges.perhaps(channel, connection.connected.branch, since, at).next().is_some()
    }

    /// Whether the history may have begun anew at any time before.
    pub(super) fn was_perhaps_purged(&self, channel: ChannelId, at: Time) -> bool {
        let Some(connection) = &self.connection else { return false };
        let branch = connection.connected.branch;
        self.ledger.purges.perhaps(channel, branch, Time::default(), at).next().is_some()
    }

    /// Whether the history may have begun anew since what came with an entry was given out.
    pub(super) fn is_purged_since(&self, channel: ChannelId, at: Time, entry: usize, stood: Stand) -> bool {
        let Some(connection) = &self.connection else { return false };
        let given = match &self.client.events[entry].event {
            // A place that is given out with a gap, or with a session, may be an earlier one in a later life: then it is told again.
            Event::Connected(_) | Event::Joined(Joined { incomplete: Some(_), .. }) => None,
            _ => self.connected_before(entry),
        };
        let given = given.map_or(Time::default(), |connected| {
            self.sent_before(entry).map_or(connected.began, |sent| sent.min(connected.began))
        });
        let since = match stood {
            Stand::At(_, id) => self.sent(id).max(given),
            Stand::Beginning | Stand::Since(_) | Stand::Confirmed { .. } => given,
        };
        self.ledger.purges.perhaps(channel, connection.connected.branch, since, at).next().is_some()
    }

    /// When that was sent which a client had got last, before an entry, on the same connection. As long as it is served from history, that is what
    /// its cursors are about, and it may break off there: what happened since is told again.
    fn sent_before(&self, entry: usize) -> Option<Time> {
        let events = self.client.events[..entry].iter().rev().map(|entry| &entry.event);
        let mut events = events.take_while(|event| !matches!(event, Event::Connected(_)));
        let last = events.find_map(|event| match event {
            Event::Delivered(delivered) => Some(delivered.id),
            _ => None,
        });
        last.map(|id| self.sent(id))
    }

    fn sent(&self, id: MessageId) -> Time {
        self.ledger.publish(id).map_or(Time::default(), |publish| publish.invoked)
    }

    /// Whoever returns with a cursor from before a purge has not recovered.
    pub(super) fn judge_silence(&mut self, entry: usize, channel: ChannelId, asked: Asked) {
        let (Asked::After(cursor) | Asked::Start(cursor)) = asked else { return };
        let Some(connected) = self.connection.as_ref().map(|connection| connection.connected) else { return };
        if self.branch_of(cursor) != connected.branch {
            return;
        }
        let (ledger, given_by) = (self.ledger, self.given_by(channel, asked));
        let mut purges = ledger.purges.surely(channel, connected.branch);
        // Where there was nothing, nothing needs to be told.
        let hidden =
            purges.find(|purge| purge.purged > Some(0) && is_hidden(purge, given_by, connected.began));
        if let Some(purge) = hidden {
            let text = format!("recovered, and not told of the {}", ledger.history.purge_line(purge));
            self.report(Law::HonestVerdict, entry, &text);
        }
    }

    /// On one connection a history may begin anew, behind everything that it held. Whoever comes back is told of it.
    pub(super) fn judge_new_epoch(
        &mut self,
        entry: usize,
        branch: Branch,
        (last, id): (Position, MessageId),
        position: Position,
    ) {
        let Event::Delivered(Delivered { channel, .. }) = self.client.events[entry].event else { return };
        let Some(connection) = &self.connection else { return };
        let (ledger, began) = (self.ledger, connection.connected.began);
        let given_by = connection.lanes.get(&channel).and_then(|lane| lane.given_by);
        let mut purges = ledger.purges.perhaps(channel, branch, self.sent(id), self.client.events[entry].at);
        if !purges.any(|purge| !is_hidden(purge, given_by, began)) {
            let text = format!("the history began anew after {last}, and nobody told it");
            return self.report(Law::HonestVerdict, entry, &text);
        }
        let (from, until) = (ledger.place(channel, last), ledger.place(channel, position));
        if position.offset > 1 || !ledger.between(branch, channel, from, Some(until)).is_empty() {
            self.report_hole(entry, branch, channel, last, Some(position), Time::default());
        }
    }
}

/// Whether a purge was done between the time by which a cursor was given out and the time when its owner came back.
fn is_hidden(purge: &Purge, given_by: Option<Time>, began: Time) -> bool {
    given_by.is_some_and(|given_by| given_by < purge.invoked) && purge.ended < began
}
