//! Ports for servers that are started again on the same one.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::TcpListener,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// A port nobody listens on, from below the range that outgoing connections draw from: a client that dials it while its server is
/// away could be given that very port and connect to itself, and another one could take it before the server is back. No two tests of
/// a process get the same one: whoever looked whether it is free would hold it for a moment.
pub(crate) fn free() -> u16 {
    const LOWEST: u16 = 10_000;
    const HIGHEST: u16 = 31_999;
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(()) >> 1));
    let span = u64::from(HIGHEST - LOWEST + 1);
    loop {
        let drawn = NEXT.fetch_add(1, Ordering::Relaxed) % span;
        let drawn = u16::try_from(drawn).expect("the span is that of ports");
        let port = LOWEST + drawn;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
