//! Follows one client through its log: where it stands in each channel, and whether it was treated accordingly.
//!
//! A client's stand is a promise. Whoever returns with a cursor stands where it stood when the cursor came; whoever was
//! told of a gap stands at nothing but the present. Whoever asks for what is unread stands where its consumer does. Every
//! connection has to go on exactly there, without a hole.

mod purges;
mod unread;
mod verdicts;

use std::collections::{BTreeMap, HashSet};

use super::acks::Book;
use super::context::context;
use super::expiry::may_follow;
use super::findings::{Findings, Law};
use super::is_refused;
use super::ledger::{Ledger, Stored};
use super::lives::{is_over, may_be_over};
use crate::history::{
    Branch, ChannelId, Client, Connected, Delivered, Door, Event, Joined, MessageId, Pid, Position, Publish,
    Reason, Time,
};

/// Messages of a hole that are shown.
const SHOWN: usize = 5;

pub(super) struct Walk<'a, 'h> {
    ledger: &'a Ledger<'h>,
    client: &'h Client,
    findings: &'a mut Findings,
    marks: BTreeMap<ChannelId, Vec<Mark>>,
    connection: Option<Connection>,
    book: Book<'h>,
}

/// Where the client stood in one channel from an entry of its log on.
#[derive(Clone, Copy)]
struct Mark {
    entry: usize,
    stand: Stand,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stand {
    /// Whatever is sent after this time is still to come; what is older may come or not.
    Since(Time),
    /// Everything that there is, is still to come.
    Beginning,
    /// Its consumer stands somewhere here, and everything behind that is still to come.
    Confirmed { least: u64, most: u64 },
    /// This was the last one.
    At(Position, MessageId),
}

struct Connection {
    entry: usize,
    connected: Connected,
    gaps: Vec<(ChannelId, Reason)>,
    /// Whether the verdict on a resume is complete; it is when the first cursor or message arrives.
    settled: bool,
    lanes: BTreeMap<ChannelId, Lane>,
    seen: HashSet<MessageId>,
}

/// One channel of a connection.
struct Lane {
    stand: Stand,
    /// When the server had given out the cursor with which the client has recovered, if it has.
    given_by: Option<Time>,
    /// The latest time at which anything delivered so far was sent.
    newest_invoked: Time,
}

impl<'a, 'h> Walk<'a, 'h> {
    pub(super) fn new(ledger: &'a Ledger<'h>, client: &'h Client, findings: &'a mut Findings) -> Self {
        let book = Book::new(ledger.history, client);
        Self { ledger, client, findings, marks: BTreeMap::new(), connection: None, book }
    }

    pub(super) fn check(mut self) {
        for (index, entry) in self.client.events.iter().enumerate() {
            self.book.follow(index, self.findings);
            match &entry.event {
                Event::Connected(connected) => self.connect(index, *connected),
                Event::Gap { channel, reason } => self.gap(index, entry.at, *channel, *reason),
                Event::Joined(joined) => self.join(index, entry.at, joined),
                Event::Checkpoint => self.settle(index, entry.at),
                Event::Delivered(delivered) => self.deliver(index, entry.at, delivered),
                Event::Closed => self.connection = None,
                // These are for the book alone.
                Event::Confirming { .. } | Event::Confirmed { .. } | Event::Standing { .. } => {}
            }
        }
        self.end();
    }

    fn connect(&mut self, entry: usize, connected: Connected) {
        self.connection = Some(Connection {
            entry,
            connected,
            gaps: Vec::new(),
            settled: self.client.door != Door::Handshake,
            lanes: BTreeMap::new(),
            seen: HashSet::new(),
        });
    }

    fn gap(&mut self, entry: usize, at: Time, channel: ChannelId, reason: Reason) {
        if !self.client.channels.contains(&channel) {
            return self.report(Law::OwnChannelsOnly, entry, "a gap in a channel that it has no token for");
        }
        let Some(connection) = &mut self.connection else {
            return self.fall_behind(entry, at, channel, reason);
        };
        // Whoever has recovered by the pid, and is told then of a purge, or of what was given up, was told in time: it came later. Whether it
        // did is judged.
        let is_later =
            connection.connected.pid == Pid::Same && matches!(reason, Reason::Epoch | Reason::Trimmed);
        if !connection.settled && !is_later {
            return connection.gaps.push((channel, reason));
        }
        self.settle(entry, at);
        self.fall_behind(entry, at, channel, reason);
    }

    /// What is still to come on a connection may be trimmed or purged before it is read.
    fn fall_behind(&mut self, entry: usize, at: Time, channel: ChannelId, reason: Reason) {
        let lane = self.connection.as_ref().and_then(|connection| connection.lanes.get(&channel));
        let Some(stood) = lane.map(|lane| lane.stand) else {
            return self.report(Law::HonestVerdict, entry, "a gap in a channel that it has not joined");
        };
        let is_true = match reason {
            Reason::Trimmed => self.may_be_trimmed(channel, at, stood),
            Reason::Epoch => self.may_be_purged(channel, at),
            _ => false,
        };
        if !is_true {
            let text = format!("a gap because of `{reason}`, which is not so; it was {stood:?}");
            self.report(Law::HonestVerdict, entry, &text);
        }
        self.open(entry, channel, Stand::Since(at), None);
    }

    /// The verdict on a connection through the handshake door is complete.
    fn settle(&mut self, entry: usize, at: Time) {
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.settled) else {
            return;
        };
        connection.settled = true;
        let (connected, gaps) = (connection.connected, std::mem::take(&mut connection.gaps));
        self.judge_pid(entry, &connected, &gaps);
        for &channel in &self.client.channels {
            let reason = gaps.iter().find(|(of, _)| *of == channel).map(|(_, reason)| *reason);
            let stand = self.resumed(entry, at, channel, connected.asked, reason);
            let given_by = reason.is_none().then(|| self.given_by(channel, connected.asked)).flatten();
            self.open(entry, channel, stand, given_by);
        }
    }

    fn join(&mut self, entry: usize, at: Time, joined: &Joined) {
        if !self.client.channels.contains(&joined.channel) {
            return self.report(Law::OwnChannelsOnly, entry, "it joined a channel that it has no token for");
        }
        self.judge_count(entry, joined);
        let stand = self.resumed(entry, at, joined.channel, joined.asked, joined.incomplete);
        let is_complete = joined.incomplete.is_none();
        let given_by = is_complete.then(|| self.given_by(joined.channel, joined.asked)).flatten();
        self.open(entry, joined.channel, stand, given_by);
    }

    fn open(&mut self, entry: usize, channel: ChannelId, stand: Stand, given_by: Option<Time>) {
        let Some(connection) = &mut self.connection else { return };
        connection.lanes.insert(channel, Lane { stand, given_by, newest_invoked: Time::default() });
        self.mark(entry, channel, stand);
    }

    fn mark(&mut self, entry: usize, channel: ChannelId, stand: Stand) {
        self.marks.entry(channel).or_default().push(Mark { entry, stand });
    }

    fn deliver(&mut self, entry: usize, at: Time, delivered: &Delivered) {
        self.settle(entry, at);
        let channel = delivered.channel;
        let Some(publish) = self.ledger.publish(delivered.id).filter(|publish| publish.invoked <= at) else {
            return self.report(Law::NoPhantom, entry, "it got what nobody has published");
        };
        if publish.channel != channel {
            return self.report(Law::NoPhantom, entry, "it got what was published to another channel");
        }
        if is_refused(publish) {
            return self.report(Law::RefusedStaysOut, entry, "it got what the server had refused");
        }
        let Some(connection) = &mut self.connection else {
            return self.report(Law::NoPhantom, entry, "it got something without a connection");
        };
        if !self.client.channels.contains(&channel) {
            return self.report(
                Law::OwnChannelsOnly,
                entry,
                "it got something of a channel that it has no token for",
            );
        }
        let Some(lane) = connection.lanes.get(&channel) else {
            return self.report(
                Law::OwnChannelsOnly,
                entry,
                "it got something of a channel before it had joined",
            );
        };
        if !connection.seen.insert(delivered.id) {
            return self.report(Law::NoRepeat, entry, "it got the same twice on one connection");
        }
        let branch = connection.connected.branch;
        let (stood, newest_invoked) = (lane.stand, lane.newest_invoked);
        let began = connection.connected.began;
        if is_over(publish, began) {
            self.report(Law::TimeToLive, entry, "it got what was over before it came");
        }
        if self.ledger.purges.is_gone(publish, branch, began) {
            self.report(Law::PurgedStaysOut, entry, "it got what was purged before it came");
        }
        let position = delivered.position.or_else(|| self.ledger.position(branch, channel, delivered.id));
        let stand = match position {
            Some(position) => {
                self.judge_step(entry, branch, channel, stood, position);
                Stand::At(position, delivered.id)
            }
            None => self.judge_unknown_step(entry, branch, publish, stood, newest_invoked),
        };
        if let Some(lane) = self.connection.as_mut().and_then(|connection| connection.lanes.get_mut(&channel))
        {
            lane.stand = stand;
            lane.newest_invoked = newest_invoked.max(publish.invoked);
        }
        self.mark(entry, channel, stand);
    }

    /// From where the client stood, exactly the next one has to come.
    fn judge_step(
        &mut self,
        entry: usize,
        branch: Branch,
        channel: ChannelId,
        stood: Stand,
        position: Position,
    ) {
        let place = self.ledger.place(channel, position);
        let before_first = Position { offset: 0, ..position };
        match stood {
            Stand::Beginning if self.may_follow(entry, (branch, channel), before_first, position) => {}
            Stand::Beginning => {
                self.report_hole(entry, branch, channel, Position::START, Some(position), Time::default());
            }
            Stand::Since(time) => {
                if self.ledger.smallest_after(branch, channel, time).is_some_and(|first| first < place) {
                    self.report_hole(entry, branch, channel, Position::START, Some(position), time);
                }
            }
            Stand::Confirmed { least, most } => {
                self.judge_first_unread(entry, (branch, channel), least..=most, position);
            }
            Stand::At(last, _) if self.may_follow(entry, (branch, channel), last, position) => {}
            Stand::At(last, id) if last.epoch != position.epoch => {
                self.judge_new_epoch(entry, branch, (last, id), position);
            }
            Stand::At(last, _) if position.offset <= last.offset => {
                let text = format!("it got {position} after {last}, where it stood");
                // On one connection it cannot be the same again, so it came in the wrong order.
                let law = if self.is_first_step(entry) { Law::NoRepeat } else { Law::NoHole };
                self.report(law, entry, &text);
            }
            Stand::At(last, _) => {
                self.report_hole(entry, branch, channel, last, Some(position), Time::default());
            }
        }
    }

    fn may_follow(&self, entry: usize, lane: (Branch, ChannelId), last: Position, next: Position) -> bool {
        may_follow(self.ledger, lane, self.client.events[entry].at, last, next)
    }

    /// A place that nobody knows is at least not one that somebody else has. Whatever is sent after the message came lies behind it.
    fn judge_unknown_step(
        &mut self,
        entry: usize,
        branch: Branch,
        publish: &Publish,
        stood: Stand,
        newest_invoked: Time,
    ) -> Stand {
        let here = publish.answers().iter().find(|answer| answer.branch == branch);
        if here.is_some_and(|answer| answer.at < newest_invoked) {
            let text = "it came after something that was sent when this was already accepted";
            self.report(Law::RealTimeOrder, entry, text);
        }
        let somewhere = Stand::Since(self.client.events[entry].at);
        let Stand::At(last, _) = stood else { return somewhere };
        let mut next = last.next();
        let at = self.client.events[entry].at;
        while let Some(other) = self.ledger.at(branch, publish.channel, next) {
            if !may_be_over(other, at) {
                let text = format!("it came right after {last}, where {} should have come", other.id);
                self.report(Law::NoHole, entry, &text);
                return somewhere;
            }
            next = next.next();
        }
        // What is over may be known to nobody, and a history may begin anew: then nobody can count.
        if self.ledger.expiring(publish.channel) > 0 || self.ledger.purges.any(publish.channel) {
            return somewhere;
        }
        Stand::At(next, publish.id)
    }

    /// Whether nothing else of the channel came on this connection before.
    fn is_first_step(&self, entry: usize) -> bool {
        let Event::Delivered(delivered) = &self.client.events[entry].event else { return false };
        let Some(connection) = &self.connection else { return false };
        !self.client.events[connection.entry..entry].iter().any(
            |before| matches!(&before.event, Event::Delivered(other) if other.channel == delivered.channel),
        )
    }

    fn report_hole(
        &mut self,
        entry: usize,
        branch: Branch,
        channel: ChannelId,
        after: Position,
        before: Option<Position>,
        since: Time,
    ) {
        let (from, until) =
            (self.ledger.place(channel, after), before.map(|before| self.ledger.place(channel, before)));
        let missing = self.ledger.between(branch, channel, from, until);
        let missing =
            missing.iter().filter(|stored| stored.publish.invoked > since || since == Time::default());
        let at = self.client.events[entry].at;
        let (over, missing): (Vec<&Stored<'_>>, Vec<_>) =
            missing.partition(|stored| may_be_over(stored.publish, at));
        // Whoever stands at a place misses whatever is not known to be over.
        let is_counted = before.is_some() && since == Time::default();
        if missing.is_empty() && !over.is_empty() && !is_counted {
            return;
        }
        let accepted = missing.iter().filter(|stored| stored.accepted.is_some()).count();
        let law = if accepted > 0 && self.client.door != Door::Seed { Law::NothingLost } else { Law::NoHole };
        let name = &self.ledger.history.channel(channel).name;
        let came = before.map_or("the run ended".to_owned(), |before| format!("{before} came"));
        let text = format!(
            "{}: after {after} of {name} {came}, without {} known messages, {accepted} of them accepted",
            self.client.name,
            missing.len()
        );
        let (history, client, opening) = (self.ledger.history, self.client, self.opening());
        self.findings.add(law, text, || {
            let shown = missing.iter().take(SHOWN);
            let lost =
                shown.map(|stored| format!("{}: {}", stored.position, history.publish_line(stored.publish)));
            lost.chain(context(history, client, opening, entry)).collect()
        });
    }

    /// At the end of a run a client has everything that was accepted, or sent since it joined if it cannot resume.
    fn end(&mut self) {
        let branch = self.ledger.last_branch();
        let last = self.client.events.len().saturating_sub(1);
        for &channel in &self.client.channels {
            let stood = self.marks.get(&channel).and_then(|marks| marks.last()).map(|mark| mark.stand);
            let newest = self.ledger.newest_accepted(branch, channel);
            match (stood, newest) {
                (None, _) => {
                    let name = &self.ledger.history.channel(channel).name;
                    let text = format!("{} never got into {name}", self.client.name);
                    self.findings.add(Law::NothingLost, text, Vec::new);
                }
                (Some(Stand::At(position, _)), Some(newest)) => {
                    if self.ledger.place(channel, position) < newest.place {
                        self.report_hole(last, branch, channel, position, None, Time::default());
                    }
                }
                (Some(Stand::Confirmed { most, .. }), Some(newest)) => {
                    if newest.position.offset > most {
                        let stood = Position { offset: most, ..newest.position };
                        self.report_hole(last, branch, channel, stood, None, Time::default());
                    }
                }
                (Some(Stand::Beginning), Some(_)) => {
                    self.report_hole(last, branch, channel, Position::START, None, Time::default());
                }
                (Some(Stand::Since(time)), Some(_)) => {
                    let stored = self.ledger.stored(branch, channel);
                    if stored.iter().any(|stored| stored.accepted.is_some() && stored.publish.invoked > time)
                    {
                        self.report_hole(last, branch, channel, Position::START, None, time);
                    }
                }
                (Some(_), _) => {}
            }
        }
    }

    fn report(&mut self, law: Law, entry: usize, text: &str) {
        let (history, client, opening) = (self.ledger.history, self.client, self.opening());
        let text = format!("{}: {text}", client.name);
        self.findings.add(law, text, || context(history, client, opening, entry));
    }

    fn opening(&self) -> Option<usize> {
        self.connection.as_ref().map(|connection| connection.entry)
    }
}
