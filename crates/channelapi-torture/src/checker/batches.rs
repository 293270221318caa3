//! Batches to one channel: stored as a whole or not at all, and nothing comes between their messages.

use std::collections::{BTreeMap, HashSet};

use super::findings::{Findings, Law};
use super::ledger::Ledger;
use super::{is_complete, is_refused};
use crate::history::{Branch, History, MessageId, Position, Publish};

pub(super) fn check(ledger: &Ledger<'_>, findings: &mut Findings) {
    let history = ledger.history;
    let complete = history.dumps.iter().filter(|dump| is_complete(history, dump.channel));
    let kept: HashSet<_> = complete.flat_map(|dump| &dump.messages).map(|(_, id)| *id).collect();
    for batch in batches(history).values() {
        judge_answers(history, batch, findings);
        for branch in 0..=ledger.last_branch().0 {
            judge_places(ledger, Branch(branch), batch, findings);
        }
        judge_whole(history, batch, &kept, findings);
    }
}

/// The messages of each batch, in their order.
fn batches(history: &History) -> BTreeMap<(u32, u32), Vec<&Publish>> {
    let mut batches = BTreeMap::<_, Vec<_>>::new();
    for publish in &history.publishes {
        if let Some(batch) = publish.batch {
            batches.entry((publish.id.publisher, batch)).or_default().push(publish);
        }
    }
    batches
}

/// The answer says of all messages the same.
fn judge_answers(history: &History, batch: &[&Publish], findings: &mut Findings) {
    let refused = batch.iter().find(|publish| is_refused(publish));
    let stored = batch.iter().find(|publish| !publish.answers().is_empty());
    if let (Some(refused), Some(stored)) = (refused, stored) {
        let text = format!("{} was refused and {} was stored, of one batch", refused.id, stored.id);
        findings
            .add(Law::WholeBatch, text, || vec![history.publish_line(refused), history.publish_line(stored)]);
    }
}

/// As far as anybody knows where they lie, each is as far behind the first as in the batch.
fn judge_places(ledger: &Ledger<'_>, branch: Branch, batch: &[&Publish], findings: &mut Findings) {
    let mut first: Option<(u64, Position)> = None;
    for (index, publish) in (0..).zip(batch) {
        let Some(position) = ledger.position(branch, publish.channel, publish.id) else { continue };
        let (first_index, first) = *first.get_or_insert((index, position));
        let expected = Position { offset: first.offset + (index - first_index), ..first };
        if position != expected {
            let text = format!("{} of a batch lies at {position} and not at {expected}", publish.id);
            findings.add(Law::WholeBatch, text, || {
                batch.iter().map(|publish| ledger.history.publish_line(publish)).collect()
            });
            return;
        }
    }
}

/// `kept` is everything in the channels that keep everything.
fn judge_whole(history: &History, batch: &[&Publish], kept: &HashSet<MessageId>, findings: &mut Findings) {
    let there = batch.iter().filter(|publish| kept.contains(&publish.id)).count();
    if there > 0 && there < batch.len() {
        let text = format!("the history holds {there} of the {} messages of a batch", batch.len());
        findings.add(Law::WholeBatch, text, || {
            batch.iter().map(|publish| history.publish_line(publish)).collect()
        });
    }
}
