//! What was purged stays out of what is read.

use super::findings::{Findings, Law};
use super::ledger::Ledger;
use crate::history::Dump;

/// Whoever reads a channel's history is shown nothing of what was purged before.
pub(super) fn check(ledger: &Ledger<'_>, dump: &Dump, findings: &mut Findings) {
    for &(position, id) in &dump.messages {
        let publish =
            ledger.publish(id).filter(|publish| ledger.purges.is_gone(publish, dump.branch, dump.began));
        let Some(publish) = publish else { continue };
        let name = &ledger.history.channel(dump.channel).name;
        let text = format!("{name} holds {id} at {position}, which was purged");
        findings.add(Law::PurgedStaysOut, text, || vec![ledger.history.publish_line(publish)]);
    }
}
