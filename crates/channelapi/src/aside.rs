//! Work that may wait for a disk, or for what is no disk at all, on a thread of its own.
//!
//! Invariants: whoever begins it is told when the system has no thread for it, and the end of the process does not wait for it.

use std::io;
use std::thread;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Begins work on a thread with this name, which may use the runtime that this is called in. What it comes to is told; nothing is if a bug
/// ends it. (`spawn_blocking` of tokio panics where there is no thread.)
pub(crate) fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (tell, told) = oneshot::channel();
    let runtime = Handle::current();
    let work = move || {
        let _entered = runtime.enter();
        // Nobody may be left who wants to know.
        _ = tell.send(work());
    };
    // Dropped, it goes on by itself.
    drop(thread::Builder::new().name(name.to_owned()).spawn(work)?);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_told_with_the_runtime_around_it_and_a_bug_is_the_end_of_it_alone() {
        let told = aside("test", || tokio::spawn(async { 7 })).unwrap().await.unwrap();
        assert_eq!(told.await.unwrap(), 7);
        let told = aside("test", || assert!(thread::current().name() != Some("test"), "on purpose"));
        assert!(told.unwrap().await.is_err());
    }
}
