//! Purges: what was there before one that was answered reaches nobody who comes later, and whoever stood there is told.
//!
//! One that was not answered may have been carried out or not, until it was known that nobody would answer. Only one publisher publishes to
//! such a channel, one message after the other, and it is the one that purges it: so whatever was accepted before is older than the purge.

use std::collections::HashMap;

use crate::history::{Branch, ChannelId, History, Publish, Purge, Time};

pub(crate) struct Purges<'h> {
    history: &'h History,
    of: HashMap<ChannelId, Vec<&'h Purge>>,
}

impl<'h> Purges<'h> {
    pub(crate) fn new(history: &'h History) -> Self {
        let mut of = HashMap::<_, Vec<_>>::new();
        for purge in &history.purges {
            of.entry(purge.channel).or_default().push(purge);
        }
        Self { history, of }
    }

    pub(super) fn any(&self, channel: ChannelId) -> bool {
        self.of.contains_key(&channel)
    }

    /// Those that a branch has surely seen.
    pub(super) fn surely(&self, channel: ChannelId, branch: Branch) -> impl Iterator<Item = &'h Purge> {
        let all = self.of.get(&channel).into_iter().flatten().copied();
        let answered = all.filter(|purge| purge.purged.is_some());
        answered.filter(move |purge| self.history.is_inherited(purge.branch, purge.ended, branch))
    }

    /// Those that a branch may have seen, and that may have been carried out between two times.
    pub(super) fn perhaps(
        &self,
        channel: ChannelId,
        branch: Branch,
        since: Time,
        until: Time,
    ) -> impl Iterator<Item = &'h Purge> {
        let all = self.of.get(&channel).into_iter().flatten().copied();
        let seen = all.filter(move |purge| self.history.is_inherited(purge.branch, purge.invoked, branch));
        seen.filter(move |purge| purge.invoked < until && purge.ended > since)
    }

    /// Whether a message was purged for good before a time.
    pub(crate) fn is_gone(&self, publish: &Publish, branch: Branch, at: Time) -> bool {
        let mut purges = self.surely(publish.channel, branch);
        purges.any(|purge| purge.ended < at && is_older(publish, purge))
    }

    /// Whether a message need not be there at a time.
    pub(crate) fn may_be_gone(&self, publish: &Publish, branch: Branch, at: Time) -> bool {
        let mut purges = self.perhaps(publish.channel, branch, Time::default(), at);
        purges.any(|purge| is_older(publish, purge))
    }
}

fn is_older(publish: &Publish, purge: &Purge) -> bool {
    publish.answers().first().is_some_and(|answer| answer.at < purge.invoked)
}
