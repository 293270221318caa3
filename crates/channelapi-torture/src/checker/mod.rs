//! Judges a history: was anything lost, invented, repeated or reordered, and was every verdict on a resume true?
//!
//! Sorting and searching only, so that a run of a million messages is judged in seconds. The checker knows nothing of
//! the server: `mutants.rs` shows that it sees each kind of mistake, `simulation.rs` that it accepts what is right.

mod acks;
mod batches;
mod context;
mod expiry;
mod findings;
mod ledger;
mod lives;
#[cfg(test)]
mod mutants;
mod purged;
mod purges;
#[cfg(test)]
mod simulation;
mod walk;

pub(crate) use self::acks::stands_within;
pub(crate) use self::findings::Findings;
use self::findings::Law;
use self::ledger::{Ledger, Place, is_accepted};
pub(crate) use self::purges::Purges;
use self::walk::Walk;
use crate::history::{Branch, ChannelId, Dump, Event, History, Outcome, Publish, Time};

/// What one or more histories come to.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) findings: Findings,
    pub(crate) accepted: usize,
    pub(crate) deliveries: usize,
    pub(crate) resumes: usize,
    /// Of clients that had nothing to show: the last thing they heard was a text of somebody's, and no cursor.
    pub(crate) without_cursor: usize,
    /// What clients have confirmed, and were answered.
    pub(crate) confirmed: usize,
    /// How often somebody joined by what it had not confirmed.
    pub(crate) unread: usize,
}

impl Verdict {
    pub(crate) fn on(history: &History) -> Self {
        let mut findings = Findings::default();
        let ledger = Ledger::new(history, &mut findings);
        for branch in 0..=ledger.last_branch().0 {
            for channel in 0..history.channels.len() {
                let channel = ChannelId(u16::try_from(channel).unwrap_or(u16::MAX));
                check_order(&ledger, Branch(branch), channel, &mut findings);
            }
        }
        for dump in &history.dumps {
            check_dump(&ledger, dump, &mut findings);
        }
        batches::check(&ledger, &mut findings);
        for client in &history.clients {
            Walk::new(&ledger, client, &mut findings).check();
        }
        for name in &history.late {
            findings.add(Law::NothingLost, format!("{name} did not get everything in time"), Vec::new);
        }
        let events = || history.clients.iter().flat_map(|client| &client.events).map(|entry| &entry.event);
        Self {
            findings,
            accepted: history.publishes.iter().filter(|publish| !publish.answers().is_empty()).count(),
            deliveries: events().filter(|event| matches!(event, Event::Delivered(_))).count(),
            resumes: events().filter(|event| is_resume(event)).count(),
            without_cursor: events().filter(|event| is_without_cursor(event)).count(),
            confirmed: events().filter(|event| matches!(event, Event::Confirmed { .. })).count(),
            unread: events().filter(|event| is_unread(event)).count(),
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.findings.merge(other.findings);
        self.accepted += other.accepted;
        self.deliveries += other.deliveries;
        self.resumes += other.resumes;
        self.without_cursor += other.without_cursor;
        self.confirmed += other.confirmed;
        self.unread += other.unread;
    }

    /// The line that closes a run.
    pub(crate) fn line(&self) -> String {
        let lost = self.findings.count(&[Law::NothingLost]);
        let phantoms = self.findings.count(&[Law::NoPhantom, Law::RefusedStaysOut]);
        let gaps = self.findings.count(&[Law::NoHole, Law::HonestVerdict]);
        let others = [
            Law::OneContent,
            Law::RealTimeOrder,
            Law::NoRepeat,
            Law::OneKeyOneOffset,
            Law::OwnChannelsOnly,
            Law::WholeBatch,
            Law::AcksKept,
            Law::TimeToLive,
            Law::PurgedStaysOut,
            Law::WhatIsUnread,
        ];
        let (accepted, deliveries) = (self.accepted, self.deliveries);
        let (resumes, without_cursor) = (self.resumes, self.without_cursor);
        let (confirmed, unread) = (self.confirmed, self.unread);
        let others = self.findings.count(&others);
        format!(
            "{accepted} publications acked, {deliveries} deliveries, {resumes} resumes and {without_cursor} returns \
             without a cursor, {confirmed} confirmations and {unread} joins by them, {lost} lost, {phantoms} phantom, {gaps} silent gaps, {others} other violations"
        )
    }
}

fn is_resume(event: &Event) -> bool {
    use crate::history::Asked;
    match event {
        Event::Connected(connected) => matches!(connected.asked, Asked::After(_) | Asked::Start(_)),
        Event::Joined(joined) => matches!(joined.asked, Asked::After(_)),
        _ => false,
    }
}

fn is_without_cursor(event: &Event) -> bool {
    matches!(event, Event::Connected(connected) if connected.asked == crate::history::Asked::NoCursor)
}

fn is_unread(event: &Event) -> bool {
    matches!(event, Event::Joined(joined) if joined.asked == crate::history::Asked::Unread)
}

/// Whoever was accepted before another was sent lies before it.
fn check_order(ledger: &Ledger<'_>, branch: Branch, channel: ChannelId, findings: &mut Findings) {
    let mut latest: Option<(Time, Place, usize)> = None;
    let stored = ledger.stored(branch, channel);
    for (index, message) in stored.iter().enumerate() {
        let invoked = message.publish.invoked;
        if let (Some(accepted), Some((sent, _, earlier))) = (message.accepted, latest)
            && accepted < sent
        {
            let earlier = &stored[earlier];
            let text = format!(
                "{} at {} was accepted before {} at {} was sent",
                message.publish.id, message.position, earlier.publish.id, earlier.position
            );
            let history = ledger.history;
            findings.add(Law::RealTimeOrder, text, || {
                vec![history.publish_line(message.publish), history.publish_line(earlier.publish)]
            });
        }
        if latest.is_none_or(|(sent, ..)| sent < invoked) {
            latest = Some((invoked, message.place, index));
        }
    }
}

/// The history at the end has no hole, nothing that was not published, and everything that was accepted.
fn check_dump(ledger: &Ledger<'_>, dump: &Dump, findings: &mut Findings) {
    let history = ledger.history;
    let name = &history.channel(dump.channel).name;
    for &(position, id) in &dump.messages {
        let publish = ledger.publish(id).filter(|publish| publish.channel == dump.channel);
        let Some(publish) = publish else {
            findings.add(
                Law::NoPhantom,
                format!("{name} holds {id} at {position}, which is not its"),
                Vec::new,
            );
            continue;
        };
        if is_refused(publish) {
            let text = format!("{name} holds {id} at {position}, which was refused");
            findings.add(Law::RefusedStaysOut, text, || vec![history.publish_line(publish)]);
        }
    }
    for pair in dump.messages.windows(2) {
        let lane = (dump.branch, dump.channel);
        if !expiry::may_follow(ledger, lane, dump.ended, pair[0].0, pair[1].0) {
            let text = format!("the history of {name} goes from {} to {}", pair[0].0, pair[1].0);
            findings.add(Law::NoHole, text, Vec::new);
        }
    }
    expiry::check(ledger, dump, findings);
    purged::check(ledger, dump, findings);
    if is_complete(history, dump.channel) {
        check_complete(ledger, dump, findings);
    }
}

/// Whether the channel keeps everything that was accepted.
fn is_complete(history: &History, channel: ChannelId) -> bool {
    let policy = history.channel(channel);
    policy.durable && policy.max_messages.is_none()
}

fn is_refused(publish: &Publish) -> bool {
    matches!(publish.outcome, Outcome::Refused(_))
}

fn check_complete(ledger: &Ledger<'_>, dump: &Dump, findings: &mut Findings) {
    let history = ledger.history;
    let kept: std::collections::HashSet<_> = dump.messages.iter().map(|(_, id)| *id).collect();
    for publish in history.publishes.iter().filter(|publish| publish.channel == dump.channel) {
        let is_owed = is_accepted(history, publish, dump.branch)
            && !lives::may_be_over(publish, dump.ended)
            && !ledger.purges.may_be_gone(publish, dump.branch, dump.ended);
        if is_owed && !kept.contains(&publish.id) {
            let text = format!("{} was accepted and is not in the history", publish.id);
            findings.add(Law::NothingLost, text, || vec![history.publish_line(publish)]);
        }
    }
}
