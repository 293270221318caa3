//! Messages with a time to live: who may miss them, and whom they may not reach any more.

use super::findings::{Findings, Law};
use super::ledger::Ledger;
use super::lives::{is_over, may_be_over};
use crate::history::{Branch, ChannelId, Dump, Position, Time};

/// Whether a reader may be shown one place right after another at a time: everything in between may be over by then.
pub(super) fn may_follow(
    ledger: &Ledger<'_>,
    lane: (Branch, ChannelId),
    at: Time,
    last: Position,
    next: Position,
) -> bool {
    let (branch, channel) = lane;
    let (mut between, mut unknown) = (last.next(), 0);
    while between.epoch == next.epoch && between.offset < next.offset {
        match ledger.at(branch, channel, between) {
            Some(publish) if may_be_over(publish, at) => {}
            Some(_) => return false,
            None if unknown == ledger.expiring(channel) => return false,
            None => unknown += 1,
        }
        between = between.next();
    }
    between == next && (unknown == 0 || unknown <= ledger.unseen_and_over(branch, channel, at))
}

/// Whoever reads a channel's history is shown nothing whose time was over before.
pub(super) fn check(ledger: &Ledger<'_>, dump: &Dump, findings: &mut Findings) {
    for &(position, id) in &dump.messages {
        let Some(publish) = ledger.publish(id).filter(|publish| is_over(publish, dump.began)) else {
            continue;
        };
        let name = &ledger.history.channel(dump.channel).name;
        let text = format!("{name} holds {id} at {position}, whose time was over before {}", dump.began);
        findings.add(Law::TimeToLive, text, || vec![ledger.history.publish_line(publish)]);
    }
}
