//! What everybody in a run shares: where the server is, which life it lives, and what the run is at.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::history::{Branch, Life, Time};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Publishers publish, clients come and go.
    Load,
    /// Nothing new is published but goals, and clients stay to get everything.
    Drain,
    /// Everybody hands over their log.
    End,
}

/// Changed only while the server is down, or by the phase of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Situation {
    pub(crate) life: Life,
    pub(crate) branch: Branch,
    pub(crate) phase: Phase,
    /// Clients that stall at times do so now.
    pub(crate) stall: bool,
}

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) auth_key: String,
    began: Instant,
    situation: watch::Sender<Situation>,
    /// How often publishers were answered with each status that is no success.
    refusals: Mutex<HashMap<u16, u64>>,
}

impl Site {
    pub(crate) fn new(address: SocketAddr, auth_key: String) -> Self {
        let situation = Situation { life: Life(0), branch: Branch(0), phase: Phase::Load, stall: false };
        let (situation, refusals) = (watch::Sender::new(situation), Mutex::default());
        Self { address, auth_key, began: Instant::now(), situation, refusals }
    }

    pub(crate) fn now(&self) -> Time {
        Time(self.began.elapsed())
    }

    pub(crate) fn situation(&self) -> Situation {
        *self.situation.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Situation> {
        self.situation.subscribe()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Situation)) {
        self.situation.send_modify(change);
    }

    /// A publisher was refused.
    pub(crate) fn note_refusal(&self, status: u16) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry(status).or_default() += 1;
    }

    /// How often publishers were refused with one of these so far.
    pub(crate) fn refusals(&self, statuses: &[u16]) -> u64 {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.iter().filter_map(|status| refusals.get(status)).sum()
    }

    pub(crate) fn authorization(&self) -> String {
        format!("Authorization: {}\r\nContent-Type: application/json\r\n", self.auth_key)
    }

    /// Whether a connection made in this situation is surely one to the life that it names.
    pub(crate) fn is_still(&self, before: Situation) -> bool {
        let now = self.situation();
        (now.life, now.branch) == (before.life, before.branch)
    }
}
