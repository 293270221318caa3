//! What clients confirm: it is kept before it is answered, it never goes back, and nobody is ahead of what was said.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::findings::{Findings, Law};
use super::walk::context;
use crate::history::{Branch, ChannelId, Client, Event, History, Time};

/// What is known of where one client's consumer stands in the branch that it is in.
struct Book<'h> {
    history: &'h History,
    client: &'h Client,
    branch: Branch,
    answered: Vec<Answered>,
    /// In each channel, the highest that was answered.
    least: BTreeMap<ChannelId, u64>,
    /// In each channel, the highest that was ever said, whether or not anybody heard it.
    most: BTreeMap<ChannelId, u64>,
    /// What was said with an entry, and where the consumer stood already.
    said: BTreeMap<usize, (ChannelId, u64)>,
}

/// The server has said that a consumer stands at least here.
struct Answered {
    branch: Branch,
    at: Time,
    channel: ChannelId,
    offset: u64,
}

pub(super) fn check(history: &History, client: &Client, findings: &mut Findings) {
    let (least, most, said) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut book =
        Book { history, client, branch: Branch::default(), answered: Vec::new(), least, most, said };
    for (index, entry) in client.events.iter().enumerate() {
        match entry.event {
            Event::Connected(connected) => book.enter(connected.branch),
            Event::Confirming { channel, offset } => {
                // Answers may overtake each other, so each is held against what was known when it was asked for.
                let least = book.least_in(channel).max(offset);
                book.said.insert(index, (channel, least));
                let most = book.most.entry(channel).or_default();
                *most = offset.max(*most);
            }
            Event::Confirmed { entry: asked, offset } => {
                let Some(&(channel, least)) = book.said.get(&asked) else { continue };
                book.judge(index, channel, least, offset, findings);
                book.answered.push(Answered { branch: book.branch, at: entry.at, channel, offset: least });
                let known = book.least.entry(channel).or_default();
                *known = least.max(*known);
            }
            Event::Standing { branch, channel, offset } => {
                book.enter(branch);
                let least = book.least_in(channel);
                book.judge(index, channel, least, offset, findings);
            }
            _ => {}
        }
    }
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

impl Book<'_> {
    /// A copy of the directory holds what was answered before it was made.
    fn enter(&mut self, branch: Branch) {
        if self.branch == branch {
            return;
        }
        self.branch = branch;
        self.least.clear();
        for Answered { branch: of, at, channel, offset } in &self.answered {
            if self.history.is_inherited(*of, *at, branch) {
                let least = self.least.entry(*channel).or_default();
                *least = (*least).max(*offset);
            }
        }
    }

    fn least_in(&self, channel: ChannelId) -> u64 {
        self.least.get(&channel).copied().unwrap_or(0)
    }

    fn judge(&self, entry: usize, channel: ChannelId, least: u64, stands: u64, findings: &mut Findings) {
        let most = self.most.get(&channel).copied().unwrap_or(0);
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
