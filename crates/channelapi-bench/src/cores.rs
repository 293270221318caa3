//! Who runs where: one core for the server, the others for the clients, so that they do not take turns.

use anyhow::Result;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::task::{JoinSet, yield_now};

/// The cores of both sides.
#[derive(Clone)]
pub(crate) struct Cores {
    all: CpuSet,
    server: CpuSet,
    clients: CpuSet,
    /// Whether clients may sleep when they have nothing to do.
    may_sleep: bool,
}

/// Keeps the clients' thread from sleeping while it lives.
pub(crate) struct Awake(#[expect(dead_code, reason = "it is held")] JoinSet<()>);

impl Cores {
    /// What this process may use, shared by both sides.
    pub(crate) fn shared() -> Result<Self> {
        let all = sched_getaffinity(None)?;
        Ok(Self { all, server: all, clients: all, may_sleep: true })
    }

    /// The first core for the server, the others for the clients. With a single one both sides share it.
    pub(crate) fn split(&self) -> Self {
        let mut list = (0..CpuSet::MAX_CPU).filter(|core| self.all.is_set(*core));
        let Some(first) = list.next().filter(|_| self.all.count() > 1) else { return self.clone() };
        let (mut server, mut clients) = (CpuSet::new(), self.all);
        server.set(first);
        clients.unset(first);
        Self { all: self.all, server, clients, may_sleep: false }
    }

    /// All cores for both sides.
    pub(crate) fn join(&self) -> Self {
        Self { all: self.all, server: self.all, clients: self.all, may_sleep: true }
    }

    /// The same, with clients that may sleep.
    pub(crate) fn with_sleep(self) -> Self {
        Self { may_sleep: true, ..self }
    }

    /// Keeps the clients awake, where they have cores of their own. Over loopback, a server pays for waking a client that sleeps: the
    /// slower it is, the more often it would, and figures would say more of that than of the server.
    pub(crate) fn keep_awake(&self) -> Awake {
        let mut tasks = JoinSet::new();
        if !self.may_sleep {
            tasks.spawn(async {
                loop {
                    yield_now().await;
                }
            });
        }
        Awake(tasks)
    }

    fn are_split(&self) -> bool {
        self.server != self.clients
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.all.count()
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
            _ if !self.are_split() => "server and clients share all cores".to_owned(),
            (server, clients) => format!("server on {server} core, clients on {clients}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_have_all_cores_between_them() {
        let shared = Cores::shared().unwrap();
        assert!(!shared.are_split());
        let split = shared.split();
        assert_eq!(split.are_split(), shared.count() > 1);
        if split.are_split() {
            assert_eq!(split.server.count() + split.clients.count(), shared.count());
        }
        assert_eq!(split.join().server.count(), shared.count());
    }
}
