//! The buffer that all connections of a thread read into, so that an idle one needs none of its own.

use std::cell::RefCell;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Lets a connection have the buffer for one read, and for as long as it takes to look at what was read.
pub(crate) fn with_read_buffer<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    READ_BUFFER.with_borrow_mut(|buffer| read(buffer))
}
