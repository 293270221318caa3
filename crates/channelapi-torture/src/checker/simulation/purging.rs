//! The one publisher of a simulation that has everything forgotten at times.

use super::{PURGED, Simulation};
use crate::checker::simulation::server::Log;
use crate::history::Purge;

impl Simulation {
    /// Everything about a purge, in one step. The server may die of it, and then nobody knows whether it was done.
    pub(super) fn purge(&mut self) {
        let (invoked, branch) = (self.tick(), self.branch);
        let is_answered = !self.choices.one_in(4);
        let count = self.logs[&PURGED].messages.len() as u64;
        if is_answered || self.choices.one_in(2) {
            let new = Log::new(&mut self.choices);
            let before = self.logs.insert(PURGED, new);
            self.purged = before.filter(|_| is_answered);
        }
        if !is_answered {
            self.kill();
        }
        let (ended, purged) = (self.tick(), is_answered.then_some(count));
        self.purges.push(Purge { channel: PURGED, branch, invoked, ended, purged });
    }
}
