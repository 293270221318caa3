//! Who runs where: one core for the server, the others for the clients, so that they do not take turns.

use anyhow::Result;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of both sides.
#[derive(Clone)]
pub(crate) struct Cores {
    server: CpuSet,
    clients: CpuSet,
}

impl Cores {
    /// Splits what this process may use. With a single core, or with `pin` off, both sides share everything.
    pub(crate) fn split(pin: bool) -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let mut list = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        let (Some(first), true) = (list.next(), pin && all.count() > 1) else {
            return Ok(Self { server: all, clients: all });
        };
        let (mut server, mut clients) = (CpuSet::new(), all);
        server.set(first);
        clients.unset(first);
        Ok(Self { server, clients })
    }

    /// Moves the calling thread, and the threads it starts later, to the clients' cores.
    pub(crate) fn enter(&self) -> Result<()> {
        Ok(sched_setaffinity(None, &self.clients)?)
    }

    /// Runs `start` on the server's core: a process started meanwhile stays there.
    pub(crate) fn as_server<T>(&self, start: impl FnOnce() -> T) -> Result<T> {
        sched_setaffinity(None, &self.server)?;
        let started = start();
        self.enter()?;
        Ok(started)
    }

    /// For the report.
    pub(crate) fn describe(&self) -> String {
        match (self.server.count(), self.clients.count()) {
            _ if self.server == self.clients => "server and clients share all cores".to_owned(),
            (server, clients) => format!("server on {server} core, clients on {clients}"),
        }
    }
}
