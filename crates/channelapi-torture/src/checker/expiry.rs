//! Messages with a time to live: who may miss them, and whom they may not reach any more.

use std::time::Duration;

use super::findings::{Findings, Law};
use super::ledger::Ledger;
use crate::history::{Branch, ChannelId, Dump, Position, Publish, Time};

/// How much later than we believe a message may end by the server's word.
///
/// The server counts in milliseconds of the wall clock, which it reads at each of its starts, and we count on a clock that nobody sets.
/// Both begin before the message is answered and run side by side, so that they part by a rounding and by what the wall clock is slewed
/// between two starts: 500 ppm at most, which is milliseconds in a run. A second is far from that, and far from the hour of a message
/// that lives long.
const TOLERANCE: Duration = Duration::from_secs(1);

/// How much sooner than we believe a message may end by the server's word: it cuts off what is less than a millisecond, and between two
/// starts its clock is slewed, as above. Short against the shortest life that a message can have, which is a second.
const ROUNDING: Duration = Duration::from_millis(20);

/// Whether somebody who reads at a time may do without the message: it ends hardly sooner than if it was taken in when it was first sent.
pub(super) fn may_be_over(publish: &Publish, at: Time) -> bool {
    publish.ttl.is_some_and(|ttl| publish.invoked.0 + ttl <= at.0 + ROUNDING)
}

/// Whether nobody may be shown the message who comes at a time: it ends no later than if it was taken in when the last of its answers came.
pub(super) fn is_over(publish: &Publish, at: Time) -> bool {
    let latest = publish.answers().iter().map(|answer| answer.at).max();
    let ends = publish.ttl.zip(latest).map(|(ttl, latest)| latest.0 + ttl);
    ends.is_some_and(|ends| ends + TOLERANCE < at.0)
}

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
