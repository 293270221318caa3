//! What an idle connection is made of, in bytes: a field more is a decision, and never slips in.
//!
//! A hundred thousand connections pay for each of them. What only some connections need is boxed.

use super::connection::Connection;
use super::namespaces::Namespaces;
use super::outbox::Outbox;
use super::websocket;

fn check<T>(bytes_max: usize) {
    let (name, bytes) = (std::any::type_name::<T>(), size_of::<T>());
    assert!(bytes <= bytes_max, "{name} has {bytes} bytes, more than {bytes_max}");
}

#[test]
fn a_connection_stays_small() {
    // With the two counters of an `Arc` it fills a block of 320 bytes, which is what the allocator gives out for anything over 256.
    check::<Connection>(320 - 16);
    check::<Namespaces>(72);
    check::<Outbox>(64);
    // The runtime puts some 100 bytes around it, and the allocator gives out 384.
    let task = websocket::task_bytes();
    assert!(task <= 256, "a WebSocket's task has {task} bytes");
}
