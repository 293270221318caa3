//! One runtime with one thread for each core: a connection stays on the core that it was given to.
//!
//! Invariants:
//! - Whatever a task spawns runs on the core of that task. Nothing moves to another core, so nobody is woken to look for work.
//! - The first core is the thread that the program began with. It accepts connections, and serves its share of them.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// Which core the calling thread is.
pub(crate) fn here() -> usize {
    HERE.get()
}

/// The cores that connections are spread over.
pub(crate) struct Cores {
    runtimes: Vec<Handle>,
    /// How many tasks each had before there were connections.
    base: OnceLock<Vec<usize>>,
}

impl Cores {
    /// Their runtimes, the first core's first.
    pub(crate) fn runtimes(&self) -> Vec<Handle> {
        self.runtimes.clone()
    }

    /// Tasks of all of them.
    pub(crate) fn tasks(&self) -> usize {
        (0..self.runtimes.len()).map(|core| self.tasks_of(core)).sum()
    }

    fn tasks_of(&self, core: usize) -> usize {
        self.runtimes[core].metrics().num_alive_tasks()
    }

    /// Where the fewest connections are: each is a task. The core that asks is preferred, as it need not wake anybody.
    pub(crate) fn choose(&self) -> usize {
        let all = 0..self.runtimes.len();
        let base = self.base.get_or_init(|| all.clone().map(|core| self.tasks_of(core)).collect());
        let load = |core: usize| self.tasks_of(core).saturating_sub(base[core]);
        all.min_by_key(|core| (load(*core), *core != here())).expect("there is a core")
    }

    /// Runs a task on a core.
    pub(crate) fn spawn(&self, core: usize, task: impl Future<Output = ()> + Send + 'static) {
        self.runtimes[core].spawn(task);
    }
}

/// Starts so many cores, runs `work` on the first of them, and ends them all when it has ended.
pub(crate) fn run<W: Future>(count: usize, work: impl FnOnce(Arc<Cores>) -> W) -> io::Result<W::Output> {
    let first = runtime()?;
    let mut others: Vec<Other> = (1..count).map(Other::start).collect::<io::Result<_>>()?;
    let runtimes = std::iter::once(first.handle()).chain(others.iter().map(|other| &other.runtime));
    let cores = Cores { runtimes: runtimes.cloned().collect(), base: OnceLock::new() };
    let outcome = first.block_on(work(Arc::new(cores)));
    // All at once, so that their ends take no longer than that of one.
    others.iter_mut().for_each(Other::stop);
    drop(others);
    first.shutdown_timeout(BLOCKING_TIMEOUT);
    Ok(outcome)
}

/// How long threads that wait for a disk or a name lookup may hold up the end of a core: nobody wants their answers any more.
const BLOCKING_TIMEOUT: Duration = Duration::from_secs(2);

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A core besides the first. It ends when it is dropped.
struct Other {
    runtime: Handle,
    /// `None` when it is to end.
    stop: Option<oneshot::Sender<()>>,
    /// `None` only while it is dropped.
    thread: Option<JoinHandle<()>>,
}

impl Other {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = runtime()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            HERE.set(index);
            _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(BLOCKING_TIMEOUT);
        })?;
        Ok(Self { runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Lets it end, and does not wait for that.
    fn stop(&mut self) {
        drop(self.stop.take());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // Its tasks' panics are caught; there is nothing else in it that could.
            _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn connections_go_where_the_fewest_are_and_stay_there() {
        let places = run(3, async |cores| {
            tokio::spawn(std::future::pending::<()>());
            let (mut taken, mut connections) = (Vec::new(), Vec::new());
            for _ in 0..6 {
                let core = cores.choose();
                let (say, said) = oneshot::channel();
                let (end, ended) = oneshot::channel::<()>();
                cores.spawn(core, async move {
                    let of_child = tokio::spawn(async { here() });
                    _ = say.send((here(), of_child.await.unwrap()));
                    _ = ended.await;
                });
                assert_eq!(said.await.unwrap(), (core, core));
                taken.push(core);
                connections.push(end);
            }
            let before = cores.tasks();
            drop(connections.remove(4));
            while cores.tasks() == before {
                tokio::task::yield_now().await;
            }
            taken.push(cores.choose());
            taken
        });
        assert_eq!(places.unwrap(), [0, 1, 2, 0, 1, 2, 1]);
    }

    #[test]
    fn everything_is_dropped_when_the_work_ends() {
        let shared = Arc::new(());
        let kept = shared.clone();
        run(2, async move |cores| {
            for core in [0, 1] {
                let kept = kept.clone();
                cores.spawn(core, async move {
                    std::future::pending::<()>().await;
                    drop(kept);
                });
            }
            while cores.tasks() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .unwrap();
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    /// A name lookup may take half a minute.
    #[test]
    fn a_thread_that_waits_for_something_does_not_hold_up_the_end() {
        let begun = Instant::now();
        run(2, async |cores| {
            for core in [0, 1] {
                let (say, said) = oneshot::channel();
                cores.spawn(core, async move {
                    tokio::task::spawn_blocking(move || {
                        _ = say.send(());
                        thread::sleep(Duration::from_hours(1));
                    });
                });
                said.await.unwrap();
            }
        })
        .unwrap();
        assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    }
}
