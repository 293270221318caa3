//! What clients confirm: it is kept before it is answered, it never goes back, and nobody is ahead of what was said.
//!
//! What was confirmed of a channel that is kept in memory means nothing in the next life of the server, and who asks for what is unread is
//! told so.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::context::context;
use super::findings::{Findings, Law};
use crate::history::{Branch, ChannelId, Client, Connected, Entry, Event, History, Life, Time};

/// What is known of where one client's consumer stands in the branch that it is in.
pub(super) struct Book<'h> {
    history: &'h History,
    client: &'h Client,
    life: Life,
    branch: Branch,
    told: Vec<Word>,
    said: Vec<Word>,
    /// In each channel, the highest that the server has told.
    least: BTreeMap<ChannelId, u64>,
    /// In each channel, the highest that the client has said, whether or not anybody heard it.
    most: BTreeMap<ChannelId, u64>,
    /// What was said with an entry, and where the consumer stood already.
    asked: BTreeMap<usize, (ChannelId, u64)>,
}

/// Somebody says that a consumer stands here.
#[derive(Clone, Copy)]
struct Word {
    life: Life,
    branch: Branch,
    at: Time,
    channel: ChannelId,
    offset: u64,
}

/// Whether a consumer stands in a history that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    No,
    /// It was said, and nobody knows whether it was heard.
    Perhaps,
    Surely,
}

/// Where a client's consumer may stand on a disk that lost its power at a time: not before what was answered by then.
pub(crate) fn stands_within(client: &Client, channel: ChannelId, cut: Time) -> RangeInclusive<u64> {
    let (mut least, mut most) = (0, 0);
    for entry in client.events.iter().filter(|entry| entry.at < cut) {
        match entry.event {
            Event::Confirming { channel: of, offset } if of == channel => most = offset.max(most),
            Event::Confirmed { entry: asked, .. } => {
                let asked = client.events.get(asked).map(|entry| &entry.event);
                if let Some(Event::Confirming { channel: of, offset }) = asked
                    && *of == channel
                {
                    least = least.max(*offset);
                }
            }
            _ => {}
        }
    }
    least..=most
}

impl<'h> Book<'h> {
    pub(super) fn new(history: &'h History, client: &'h Client) -> Self {
        Self {
            history,
            client,
            life: Life::default(),
            branch: Branch::default(),
            told: Vec::new(),
            said: Vec::new(),
            least: BTreeMap::new(),
            most: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Takes the next entry of the client's log in.
    pub(super) fn follow(&mut self, index: usize, findings: &mut Findings) {
        let client = self.client;
        let Entry { at, event } = &client.events[index];
        match *event {
            Event::Connected(Connected { life, branch, .. }) => self.enter(life, branch),
            Event::Confirming { channel, offset } => {
                // Answers may overtake each other, so each is held against what was known when it was asked for.
                self.asked.insert(index, (channel, self.least_in(channel).max(offset)));
                let word = self.word(*at, channel, offset);
                self.said.push(word);
                raise(&mut self.most, &word);
            }
            Event::Confirmed { entry: asked, offset } => {
                let Some(&(channel, least)) = self.asked.get(&asked) else { return };
                self.judge(index, channel, least, offset, findings);
                self.hear(*at, channel, offset);
            }
            Event::Standing { life, branch, channel, offset } => {
                self.enter(life, branch);
                self.judge(index, channel, self.least_in(channel), offset, findings);
                self.hear(*at, channel, offset);
            }
            _ => {}
        }
    }

    /// Where the consumer may stand: not before what the client was told, and not behind what it has said.
    pub(super) fn within(&self, channel: ChannelId) -> RangeInclusive<u64> {
        self.least_in(channel)..=self.most.get(&channel).copied().unwrap_or(0)
    }

    /// Whether the consumer stands in a history of the channel that is gone.
    pub(super) fn stands_elsewhere(&self, channel: ChannelId) -> Elsewhere {
        let (least, most) = self.within(channel).into_inner();
        let is_elsewhere = |word: &Word| word.channel == channel && self.has(word) && !self.is_of_now(word);
        if least > 0 || !self.said.iter().any(is_elsewhere) {
            Elsewhere::No
        } else if most > 0 || !self.told.iter().any(|word| word.offset > 0 && is_elsewhere(word)) {
            Elsewhere::Perhaps
        } else {
            Elsewhere::Surely
        }
    }

    fn enter(&mut self, life: Life, branch: Branch) {
        if (self.life, self.branch) == (life, branch) {
            return;
        }
        (self.life, self.branch) = (life, branch);
        let (mut least, mut most) = (BTreeMap::new(), BTreeMap::new());
        let counts = |word: &&Word| self.has(word) && self.is_of_now(word);
        self.told.iter().filter(counts).for_each(|word| raise(&mut least, word));
        self.said.iter().filter(counts).for_each(|word| raise(&mut most, word));
        (self.least, self.most) = (least, most);
    }

    /// A copy of the directory holds what was told before it was made, and nothing of what was said later.
    fn has(&self, word: &Word) -> bool {
        self.history.is_inherited(word.branch, word.at, self.branch)
    }

    /// Whether it is about the history that the channel has now.
    fn is_of_now(&self, word: &Word) -> bool {
        self.history.channel(word.channel).durable || word.life == self.life
    }

    fn word(&self, at: Time, channel: ChannelId, offset: u64) -> Word {
        Word { life: self.life, branch: self.branch, at, channel, offset }
    }

    /// The server has told where the consumer stands. If that cannot be, it is a finding already, and need not become more of them.
    fn hear(&mut self, at: Time, channel: ChannelId, offset: u64) {
        let offset = offset.min(*self.within(channel).end());
        let word = self.word(at, channel, offset);
        self.told.push(word);
        raise(&mut self.least, &word);
    }

    fn least_in(&self, channel: ChannelId) -> u64 {
        self.least.get(&channel).copied().unwrap_or(0)
    }

    fn judge(&self, entry: usize, channel: ChannelId, least: u64, stands: u64, findings: &mut Findings) {
        let most = *self.within(channel).end();
        if (least..=most).contains(&stands) {
            return;
        }
        let (name, of) = (&self.client.name, &self.history.channel(channel).name);
        let text = if stands < least {
            format!("{name} stands at {stands} in {of}, and was told that it has confirmed {least}")
        } else {
            format!("{name} stands at {stands} in {of}, and has confirmed {most} at most")
        };
        findings.add(Law::AcksKept, text, || context(self.history, self.client, None, entry));
    }
}

fn raise(offsets: &mut BTreeMap<ChannelId, u64>, word: &Word) {
    let offset = offsets.entry(word.channel).or_default();
    *offset = word.offset.max(*offset);
}
