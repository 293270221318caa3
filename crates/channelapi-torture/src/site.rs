//! What everybody in a run shares: where the server is, which life it lives, and what the run is at.

use std::net::SocketAddr;
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
}

impl Site {
    pub(crate) fn new(address: SocketAddr, auth_key: String) -> Self {
        let situation = Situation { life: Life(0), branch: Branch(0), phase: Phase::Load, stall: false };
        Self { address, auth_key, began: Instant::now(), situation: watch::Sender::new(situation) }
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

    pub(crate) fn authorization(&self) -> String {
        format!("Authorization: {}\r\nContent-Type: application/json\r\n", self.auth_key)
    }

    /// Whether a connection made in this situation is surely one to the life that it names.
    pub(crate) fn is_still(&self, before: Situation) -> bool {
        let now = self.situation();
        (now.life, now.branch) == (before.life, before.branch)
    }
}
