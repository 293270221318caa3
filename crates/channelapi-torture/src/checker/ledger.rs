//! Which message lies where, put together from everything that anybody was told.
//!
//! Invariant: one place holds one message and one message has one place, within a branch; whatever contradicts the
//! first word on it is a finding.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use super::findings::{Findings, Law};
use super::is_refused;
use super::lives::may_be_over;
use super::purges::Purges;
use crate::history::{Branch, ChannelId, Event, History, MessageId, Position, Publish, Time};

/// A position that can be compared: epochs are random, so they are ranked in the order of their first appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    rank: usize,
    offset: u64,
}

pub(super) struct Ledger<'h> {
    pub(super) history: &'h History,
    publishes: HashMap<MessageId, &'h Publish>,
    pub(super) purges: Purges<'h>,
    /// By branch, then by channel.
    books: Vec<Vec<Book<'h>>>,
    /// When each epoch of a channel was first heard of, then its rank.
    epochs: HashMap<(ChannelId, u64), (Time, usize)>,
    /// Messages of each channel that may be stored without anybody having seen where.
    unplaced: Vec<u64>,
    /// What was published with a time to live.
    expiring: HashMap<ChannelId, Vec<&'h Publish>>,
}

/// One channel in one branch.
#[derive(Default)]
struct Book<'h> {
    at: HashMap<Position, &'h Publish>,
    of: HashMap<MessageId, Position>,
    /// Sorted by place.
    entries: Vec<Stored<'h>>,
    /// When each entry's first attempt was sent, sorted, with the smallest place from there on.
    smallest_after: Vec<(Time, Place)>,
    /// The same, with the largest place up to there.
    largest_before: Vec<(Time, Place)>,
    newest_accepted: Option<Stored<'h>>,
    /// When each entry was accepted, sorted, with the largest place up to there.
    largest_accepted: Vec<(Time, Place)>,
}

/// A message with a known place.
#[derive(Clone, Copy)]
pub(super) struct Stored<'h> {
    pub(super) place: Place,
    pub(super) position: Position,
    pub(super) publish: &'h Publish,
    /// When the publisher knew that it is stored.
    pub(super) accepted: Option<Time>,
}

/// Somebody says that a message lies somewhere.
struct Word<'a> {
    at: Time,
    branch: Branch,
    channel: ChannelId,
    position: Position,
    id: MessageId,
    source: &'a dyn Fn() -> String,
}

impl<'h> Ledger<'h> {
    pub(super) fn new(history: &'h History, findings: &mut Findings) -> Self {
        let branches = history.restores.len() + 1;
        let books = || history.channels.iter().map(|_| Book::default()).collect();
        let mut expiring = HashMap::<_, Vec<_>>::new();
        for publish in history.publishes.iter().filter(|publish| publish.ttl.is_some()) {
            expiring.entry(publish.channel).or_default().push(publish);
        }
        let mut ledger = Self {
            history,
            publishes: history.publishes.iter().map(|publish| (publish.id, publish)).collect(),
            purges: Purges::new(history),
            books: (0..branches).map(|_| books()).collect(),
            epochs: HashMap::new(),
            unplaced: vec![0; history.channels.len()],
            expiring,
        };
        ledger.hear_publishers(findings);
        ledger.hear_clients(findings);
        ledger.hear_dumps(findings);
        ledger.rank_epochs();
        ledger.sort();
        ledger
    }

    pub(super) fn publish(&self, id: MessageId) -> Option<&'h Publish> {
        self.publishes.get(&id).copied()
    }

    pub(super) fn place(&self, channel: ChannelId, position: Position) -> Place {
        // Whoever starts from nothing stands before the first epoch.
        let rank = self.epochs.get(&(channel, position.epoch)).map_or(0, |(_, rank)| *rank);
        Place { rank, offset: position.offset }
    }

    pub(super) fn position(&self, branch: Branch, channel: ChannelId, id: MessageId) -> Option<Position> {
        self.book(branch, channel).of.get(&id).copied()
    }

    pub(super) fn at(&self, branch: Branch, channel: ChannelId, position: Position) -> Option<&'h Publish> {
        self.book(branch, channel).at.get(&position).copied()
    }

    /// All messages with a known place, in order.
    pub(super) fn stored(&self, branch: Branch, channel: ChannelId) -> &[Stored<'h>] {
        &self.book(branch, channel).entries
    }

    /// Those behind `after` and before `before`.
    pub(super) fn between(
        &self,
        branch: Branch,
        channel: ChannelId,
        after: Place,
        before: Option<Place>,
    ) -> &[Stored<'h>] {
        let entries = self.stored(branch, channel);
        let start = entries.partition_point(|stored| stored.place <= after);
        let end =
            before.map_or(entries.len(), |before| entries.partition_point(|stored| stored.place < before));
        &entries[start..end.max(start)]
    }

    /// The smallest place of a message whose first attempt was sent after `time`.
    pub(super) fn smallest_after(&self, branch: Branch, channel: ChannelId, time: Time) -> Option<Place> {
        let sorted = &self.book(branch, channel).smallest_after;
        sorted.get(sorted.partition_point(|(invoked, _)| *invoked <= time)).map(|(_, place)| *place)
    }

    /// The offset up to which the channel may have grown at `time`. What a branch began with is known from those before.
    pub(super) fn largest_offset_before(&self, branch: Branch, channel: ChannelId, time: Time) -> u64 {
        let known = self.books[..=usize::from(branch.0)].iter().filter_map(|books| {
            let sorted = &books[channel.index()].largest_before;
            let before = sorted.partition_point(|(invoked, _)| *invoked < time);
            sorted[..before].last().map(|(_, place)| place.offset)
        });
        known.max().unwrap_or(0) + self.unplaced[channel.index()]
    }

    /// The offset up to which the channel had surely grown at `time`.
    pub(super) fn largest_offset_accepted(&self, branch: Branch, channel: ChannelId, time: Time) -> u64 {
        let sorted = &self.book(branch, channel).largest_accepted;
        let before = sorted.partition_point(|(accepted, _)| *accepted < time);
        sorted[..before].last().map_or(0, |(_, place)| place.offset)
    }

    pub(super) fn newest_accepted(&self, branch: Branch, channel: ChannelId) -> Option<Stored<'h>> {
        self.book(branch, channel).newest_accepted
    }

    /// Whether the channel ever had more than one history.
    pub(super) fn began_anew(&self, channel: ChannelId) -> bool {
        self.epochs.keys().filter(|(of, _)| *of == channel).count() > 1
    }

    /// How many messages were published to the channel that have a time to live.
    pub(super) fn expiring(&self, channel: ChannelId) -> usize {
        self.expiring.get(&channel).map_or(0, Vec::len)
    }

    /// How many messages may have been over before anybody in this branch saw where they are.
    pub(super) fn unseen_and_over(&self, branch: Branch, channel: ChannelId, at: Time) -> usize {
        let expiring = self.expiring.get(&channel).into_iter().flatten();
        let unseen = expiring.filter(|publish| self.position(branch, channel, publish.id).is_none());
        unseen.filter(|publish| may_be_over(publish, at)).count()
    }

    pub(super) fn last_branch(&self) -> Branch {
        Branch(u16::try_from(self.history.restores.len()).unwrap_or(u16::MAX))
    }

    fn book(&self, branch: Branch, channel: ChannelId) -> &Book<'h> {
        &self.books[usize::from(branch.0)][channel.index()]
    }

    fn hear_publishers(&mut self, findings: &mut Findings) {
        let history = self.history;
        for publish in &history.publishes {
            judge_first_answer(history, publish, findings);
            let mut before: Option<Branch> = None;
            for answer in publish.answers() {
                let source = || history.publish_line(publish);
                let repeated = before.replace(answer.branch) == Some(answer.branch);
                if repeated && !answer.duplicate {
                    let text = format!("{} was stored and then accepted as if it were new", publish.id);
                    findings.add(Law::OneKeyOneOffset, text, || vec![source()]);
                }
                let Some(position) = answer.position else { continue };
                let (at, branch) = (answer.at, answer.branch);
                let word =
                    Word { at, branch, channel: publish.channel, position, id: publish.id, source: &source };
                self.hear(&word, findings);
            }
        }
    }

    fn hear_clients(&mut self, findings: &mut Findings) {
        let history = self.history;
        for client in &history.clients {
            let mut branch = Branch::default();
            for (index, entry) in client.events.iter().enumerate() {
                match &entry.event {
                    Event::Connected(connected) => branch = connected.branch,
                    Event::Delivered(delivered) => {
                        let Some(position) = delivered.position else { continue };
                        let (channel, id) = (delivered.channel, delivered.id);
                        let source = || history.client_line(client, index);
                        self.hear(
                            &Word { at: entry.at, branch, channel, position, id, source: &source },
                            findings,
                        );
                    }
                    _ => {}
                }
            }
        }
    }

    fn hear_dumps(&mut self, findings: &mut Findings) {
        let history = self.history;
        for dump in &history.dumps {
            let (branch, channel) = (dump.branch, dump.channel);
            for &(position, id) in &dump.messages {
                let name = &history.channel(channel).name;
                let source = || format!("the history of {name} at the end: {id} at {position}");
                // A dump is read last, so an epoch that only it knows is the last one.
                let at = Time::MAX;
                self.hear(&Word { at, branch, channel, position, id, source: &source }, findings);
            }
        }
    }

    fn hear(&mut self, word: &Word<'_>, findings: &mut Findings) {
        // Who was never published has no place; the client that got it complains.
        let Some(publish) = self.publish(word.id) else { return };
        if publish.channel != word.channel {
            return;
        }
        let history = self.history;
        let epoch = self.epochs.entry((word.channel, word.position.epoch)).or_insert((word.at, 0));
        epoch.0 = epoch.0.min(word.at);
        let book = &mut self.books[usize::from(word.branch.0)][word.channel.index()];
        match book.at.entry(word.position) {
            Slot::Vacant(slot) => drop(slot.insert(publish)),
            Slot::Occupied(slot) if slot.get().id != word.id => {
                let other = slot.get();
                let text =
                    format!("{} holds {} for one and {} for another", word.position, other.id, word.id);
                let lines =
                    || vec![(word.source)(), history.publish_line(other), history.publish_line(publish)];
                findings.add(Law::OneContent, text, lines);
                return;
            }
            Slot::Occupied(_) => {}
        }
        match book.of.entry(word.id) {
            Slot::Vacant(slot) => drop(slot.insert(word.position)),
            Slot::Occupied(slot) if *slot.get() != word.position => {
                let law = if publish.keyed { Law::OneKeyOneOffset } else { Law::OneContent };
                let text = format!("{} is stored twice, at {} and at {}", word.id, slot.get(), word.position);
                findings.add(law, text, || vec![(word.source)(), history.publish_line(publish)]);
            }
            Slot::Occupied(_) => {}
        }
    }

    fn rank_epochs(&mut self) {
        let mut first: Vec<_> = self.epochs.iter().map(|(key, (at, _))| (key.0, *at, key.1)).collect();
        first.sort_unstable();
        for (index, (channel, _, epoch)) in first.into_iter().enumerate() {
            // Rank 0 is before all of them.
            self.epochs.insert((channel, epoch), (Time::default(), index + 1));
        }
    }

    fn sort(&mut self) {
        let mut books = std::mem::take(&mut self.books);
        for (branch, channels) in (0..).map(Branch).zip(&mut books) {
            for (channel, book) in channels.iter_mut().enumerate() {
                let channel = ChannelId(u16::try_from(channel).unwrap_or(u16::MAX));
                let stored = |(position, publish): (&Position, &&'h Publish)| Stored {
                    place: self.place(channel, *position),
                    position: *position,
                    publish,
                    accepted: accepted(self.history, publish, branch),
                };
                book.entries = book.at.iter().map(stored).collect();
                book.sort();
            }
        }
        if let Some(last) = books.last() {
            for publish in self.history.publishes.iter().filter(|publish| !is_refused(publish)) {
                let channel = publish.channel.index();
                self.unplaced[channel] += u64::from(!last[channel].of.contains_key(&publish.id));
            }
        }
        self.books = books;
    }
}

impl Book<'_> {
    fn sort(&mut self) {
        self.entries.sort_unstable_by_key(|stored| stored.place);
        self.newest_accepted = self.entries.iter().rev().find(|stored| stored.accepted.is_some()).copied();
        let mut sent: Vec<_> =
            self.entries.iter().map(|stored| (stored.publish.invoked, stored.place)).collect();
        sent.sort_unstable();
        self.largest_before = with_largest(sent.clone());
        let accepted = self.entries.iter().filter_map(|stored| Some((stored.accepted?, stored.place)));
        let mut accepted: Vec<_> = accepted.collect();
        accepted.sort_unstable();
        self.largest_accepted = with_largest(accepted);
        for index in (1..sent.len()).rev() {
            let after = sent[index].1;
            sent[index - 1].1 = sent[index - 1].1.min(after);
        }
        self.smallest_after = sent;
    }
}

/// Each place becomes the largest up to there.
fn with_largest(mut sorted: Vec<(Time, Place)>) -> Vec<(Time, Place)> {
    for index in 1..sorted.len() {
        let before = sorted[index - 1].1;
        sorted[index].1 = sorted[index].1.max(before);
    }
    sorted
}

/// Before its first answer, a message may be stored only by an attempt of which nobody can know what came. Others were refused.
fn judge_first_answer(history: &History, publish: &Publish, findings: &mut Findings) {
    let Some(first) = publish.answers().first().filter(|first| first.duplicate) else { return };
    if publish.doubtful.is_none_or(|doubtful| doubtful > first.at) {
        let text = format!("{} was refused, and is there when it is tried again", publish.id);
        findings.add(Law::RefusedStaysOut, text, || vec![history.publish_line(publish)]);
    }
}

/// When the publisher knew that the message is stored in this branch: it was told so in it, or in one before it, early
/// enough to be in the copy with which this branch began.
fn accepted(history: &History, publish: &Publish, branch: Branch) -> Option<Time> {
    let answers = publish.answers();
    let own = answers.iter().find(|answer| answer.branch == branch);
    let inherited = || answers.iter().find(|answer| history.is_inherited(answer.branch, answer.at, branch));
    own.or_else(inherited).map(|answer| answer.at)
}

/// Whether the message was accepted and belongs to the branch, whether or not anybody knows where it is.
pub(super) fn is_accepted(history: &History, publish: &Publish, branch: Branch) -> bool {
    accepted(history, publish, branch).is_some()
}
