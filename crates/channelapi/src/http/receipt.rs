//! Whether an answer has arrived. HTTP does not say: a client that asks again on the same connection has it, and one whose connection has
//! ended has it perhaps. A browser asks once more on another connection then, by itself, and tells its page nothing.

use std::sync::Weak;

/// Who must know which of its answers may not have arrived.
pub(crate) trait Concerned: Send + Sync {
    /// This answer could not be written as a whole.
    ///
    /// That its connection ends later says nothing: some proxies close one behind each answer, or reset what they do not need any more.
    fn broken(&self, answer: u32);
}

/// One of its answers, kept by the connection on which it goes out. Dropped before it is [written](Self::written), it is broken.
pub(crate) struct Receipt {
    /// Not held: what waits for a session that has ended must not stay for as long as an answer that nobody takes.
    whose: Weak<dyn Concerned>,
    answer: u32,
    is_written: bool,
}

impl Receipt {
    pub(crate) fn new(whose: Weak<dyn Concerned>, answer: u32) -> Self {
        Self { whose, answer, is_written: false }
    }

    /// The system has all of it, or we have closed the connection behind it ourselves.
    pub(crate) fn written(&mut self) {
        self.is_written = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.is_written
            && let Some(whose) = self.whose.upgrade()
        {
            whose.broken(self.answer);
        }
    }
}
