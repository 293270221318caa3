//! What a client is told and shown that asks for what its consumer has not confirmed.
//!
//! The consumer stands somewhere between what the client was told that it has confirmed and what it ever said: the last that it said may
//! have been heard or not.

use std::ops::RangeInclusive;

use super::{Stand, Walk};
use crate::checker::findings::Law;
use crate::checker::is_complete;
use crate::history::{Branch, ChannelId, Counted, Joined, Position, Time};

impl Walk<'_, '_> {
    pub(super) fn stand_of_consumer(&self, channel: ChannelId) -> Stand {
        let (least, most) = self.book.within(channel).into_inner();
        Stand::Confirmed { least, most }
    }

    /// The first one that comes lies right behind where the consumer stands.
    pub(super) fn judge_first_unread(
        &mut self,
        entry: usize,
        lane: (Branch, ChannelId),
        stands: RangeInclusive<u64>,
        position: Position,
    ) {
        let (least, most) = stands.into_inner();
        let stood = Position { offset: most, ..position };
        if position.offset <= least {
            let text = format!("it got {position} as unread, and was told that it has confirmed {least}");
            self.report(Law::WhatIsUnread, entry, &text);
        } else if position.offset > most && !self.may_follow(entry, lane, stood, position) {
            self.report_hole(entry, lane.0, lane.1, stood, Some(position), Time::default());
        }
    }

    /// The answer to a join counts what lies behind where the consumer stands. Meanwhile more may come, and none of it goes unless the
    /// channel forgets.
    pub(super) fn judge_count(&mut self, entry: usize, joined: &Joined) {
        let (Some(connection), Some(Counted { unread, newest })) = (&self.connection, joined.counted) else {
            return;
        };
        let (channel, branch) = (joined.channel, connection.connected.branch);
        let (least, most) = self.book.within(channel).into_inner();
        let surely = self.ledger.largest_offset_accepted(branch, channel, connection.connected.began);
        if newest < surely {
            let text = format!("the newest was {newest} by its answer, and {surely} was accepted before");
            self.report(Law::WhatIsUnread, entry, &text);
        }
        let forgets = !is_complete(self.ledger.history, channel)
            || self.ledger.expiring(channel) > 0
            || self.ledger.purges.any(channel);
        let fewest = if forgets { 0 } else { surely.saturating_sub(most) };
        let count = fewest..=newest.saturating_sub(least);
        if !count.contains(&unread) {
            let text = format!("it was told that {unread} are unread, and it must be within {count:?}");
            self.report(Law::WhatIsUnread, entry, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::checker::Verdict;
    use crate::history::{
        Answer, Asked, Channel, Client, Connected, Delivered, Door, Entry, Event, History, Life, MessageId,
        Outcome, Pid, Publish,
    };

    const CHANNEL: ChannelId = ChannelId(0);
    const NEWEST: u64 = 9;

    fn time(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    fn id(offset: u64) -> MessageId {
        MessageId { publisher: 0, number: u32::try_from(offset).unwrap() }
    }

    fn position(offset: u64) -> Position {
        Position { epoch: 1, offset }
    }

    fn publish(offset: u64) -> Publish {
        let (at, branch, position) = (time(2), Branch(0), Some(position(offset)));
        let answer = Answer { at, branch, position, tag: None, duplicate: false };
        Publish {
            id: id(offset),
            channel: CHANNEL,
            keyed: false,
            ttl: None,
            batch: None,
            invoked: time(1),
            doubtful: None,
            outcome: Outcome::Stored(vec![answer]),
        }
    }

    fn connected(began: u64) -> Event {
        let (began, life, branch) = (time(began), Life(0), Branch(0));
        Event::Connected(Connected { began, life, branch, asked: Asked::Now, pid: Pid::None })
    }

    /// How often laws are broken by what a client gets, and is told, that was told that it has confirmed 3, and has said 5 since.
    fn broken(counted: Counted, first: Option<u64>) -> [u64; 2] {
        let (channel, asked, incomplete) = (CHANNEL, Asked::Unread, None);
        let join = |unread, newest| {
            let counted = Some(Counted { unread, newest });
            Event::Joined(Joined { channel, asked, incomplete, counted })
        };
        let deliver = |offset| {
            Event::Delivered(Delivered { channel, id: id(offset), position: Some(position(offset)) })
        };
        let mut events = vec![connected(10), join(9, 9)];
        events.extend((1..=NEWEST).map(deliver));
        let confirming = |offset| Event::Confirming { channel, offset };
        let confirmed = Event::Confirmed { entry: events.len(), offset: 3 };
        events.extend([confirming(3), confirmed, confirming(5), Event::Closed]);
        events.extend([connected(35), join(counted.unread, counted.newest)]);
        events.extend(first.into_iter().flat_map(|first| first..=NEWEST).map(deliver));
        let entry = |(millis, event)| Entry { at: time(millis), event };
        let client = Client {
            name: "a".to_owned(),
            door: Door::Explicit,
            channels: vec![CHANNEL],
            events: (20..).zip(events).map(entry).collect(),
        };
        let history = History {
            channels: vec![Channel { name: "a".to_owned(), durable: true, max_messages: None }],
            publishes: (1..=NEWEST).map(publish).collect(),
            clients: vec![client],
            ..History::default()
        };
        let findings = Verdict::on(&history).findings;
        [Law::NothingLost, Law::WhatIsUnread].map(|law| findings.count(&[law]))
    }

    #[test]
    fn what_is_unread_begins_where_the_consumer_may_stand() {
        let check = |first, expected| {
            let counted = Counted { unread: 5, newest: NEWEST };
            assert_eq!(broken(counted, first), expected, "{first:?} came first");
        };
        check(Some(3), [0, 1]);
        check(Some(4), [0, 0]);
        check(Some(6), [0, 0]);
        check(Some(7), [1, 0]);
        check(None, [1, 0]);
    }

    #[test]
    fn unread_are_as_many_as_the_consumer_may_have_left() {
        let check = |unread, newest, expected| {
            let broken = broken(Counted { unread, newest }, Some(5));
            assert_eq!(broken, [0, expected], "{unread} up to {newest}");
        };
        check(3, 9, 1);
        check(4, 9, 0);
        check(6, 9, 0);
        check(7, 9, 1);
        check(4, 8, 1); // The ninth was accepted long before.
        check(7, 10, 0); // One came that nobody else knows of.
    }
}
