//! What a client is told and shown that asks for what its consumer has not confirmed.
//!
//! The consumer stands somewhere between what the client was told that it has confirmed and what it ever said: the last that it said may
//! have been heard or not.

use std::ops::RangeInclusive;

use super::{Stand, Walk};
use crate::checker::acks::Elsewhere;
use crate::checker::findings::Law;
use crate::history::{Asked, Branch, ChannelId, Counted, Joined, Position, Time};

impl Walk<'_, '_> {
    pub(super) fn stand_of_consumer(&self, channel: ChannelId) -> Stand {
        let (least, most) = self.book.within(channel).into_inner();
        Stand::Confirmed { least, most }
    }

    /// Whoever has confirmed something of a history that is gone is told that it is.
    pub(super) fn judge_silence_to_consumer(&mut self, entry: usize, channel: ChannelId, asked: Asked) {
        if asked == Asked::Unread && self.book.stands_elsewhere(channel) == Elsewhere::Surely {
            let text = "recovered, and not told that what it has confirmed is of a history that is gone";
            self.report(Law::HonestVerdict, entry, text);
        }
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
        let (ledger, policy) = (self.ledger, self.ledger.history.channel(channel));
        let begins_anew = !policy.durable || ledger.purges.any(channel);
        let surely = ledger.largest_offset_accepted(branch, channel, connection.connected.began);
        let surely = if begins_anew { 0 } else { surely };
        if newest < surely {
            let text = format!("the newest was {newest} by its answer, and {surely} was accepted before");
            self.report(Law::WhatIsUnread, entry, &text);
        }
        let forgets = policy.max_messages.is_some() || ledger.expiring(channel) > 0;
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
    use crate::checker::{Findings, Verdict};
    use crate::history::{
        Answer, Channel, Client, Connected, Delivered, Door, Entry, Event, History, Life, MessageId, Outcome,
        Pid, Publish, Reason,
    };

    const CHANNEL: ChannelId = ChannelId(0);
    const NEWEST: u64 = 9;
    const ALL: Counted = Counted { unread: NEWEST, newest: NEWEST };

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

    fn connected(life: u32, began: u64) -> Event {
        let (began, life, branch) = (time(began), Life(life), Branch(0));
        Event::Connected(Connected { began, life, branch, asked: Asked::Now, pid: Pid::None })
    }

    fn joined(counted: Counted, incomplete: Option<Reason>) -> Event {
        let (channel, asked, counted) = (CHANNEL, Asked::Unread, Some(counted));
        Event::Joined(Joined { channel, asked, incomplete, counted })
    }

    fn delivered(offset: u64) -> Event {
        let position = Some(position(offset));
        Event::Delivered(Delivered { channel: CHANNEL, id: id(offset), position })
    }

    fn confirming(offset: u64) -> Event {
        Event::Confirming { channel: CHANNEL, offset }
    }

    /// The first entry is of 20 ms, and the next one of 21.
    fn findings(durable: bool, events: Vec<Event>) -> Findings {
        let entry = |(millis, event)| Entry { at: time(millis), event };
        let client = Client {
            name: "a".to_owned(),
            door: Door::Explicit,
            channels: vec![CHANNEL],
            events: (20..).zip(events).map(entry).collect(),
        };
        let history = History {
            channels: vec![Channel { name: "a".to_owned(), durable, max_messages: None }],
            publishes: (1..=NEWEST).map(publish).collect(),
            clients: vec![client],
            ..History::default()
        };
        Verdict::on(&history).findings
    }

    /// How often laws are broken by what a client gets, and is told, that was told that it has confirmed 3, and has said 5 since.
    fn broken(counted: Counted, first: Option<u64>) -> [u64; 2] {
        let mut events = vec![connected(0, 10), joined(ALL, None)];
        events.extend((1..=NEWEST).map(delivered));
        let confirmed = Event::Confirmed { entry: events.len(), offset: 3 };
        events.extend([confirming(3), confirmed, confirming(5), Event::Closed]);
        events.extend([connected(0, 35), joined(counted, None)]);
        events.extend(first.into_iter().flat_map(|first| first..=NEWEST).map(delivered));
        let findings = findings(true, events);
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

    #[test]
    fn consumer_of_a_channel_in_memory_is_told_of_a_restart() {
        let check = |life, is_answered: bool, incomplete, expected| {
            let mut events = vec![connected(0, 10), joined(ALL, None), delivered(1), confirming(1)];
            events.extend(is_answered.then_some(Event::Confirmed { entry: 3, offset: 1 }));
            let nothing = Counted { unread: 0, newest: 0 };
            events.extend([Event::Closed, connected(life, 25)]);
            events.push(joined(if life == 0 { ALL } else { nothing }, incomplete));
            let broken = findings(false, events).count(&[Law::HonestVerdict]);
            assert_eq!(broken, expected, "life {life}, answered: {is_answered}, told {incomplete:?}");
        };
        let epoch = Some(Reason::Epoch);
        check(0, true, None, 0);
        check(0, true, epoch, 1);
        check(1, true, None, 1);
        check(1, true, epoch, 0);
        // Nobody knows whether it was heard.
        check(1, false, None, 0);
        check(1, false, epoch, 0);
    }
}
