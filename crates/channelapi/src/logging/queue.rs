//! The lines that wait for the thread that writes them.
//!
//! Invariants:
//! - Whoever logs never waits: a line that finds no room is dropped and counted.
//! - Lines come out in the order in which they came. Where some are missing, one word says how many.

use crate::metrics::LOG_LINES_DROPPED;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::mem::take;
use std::time::{Duration, Instant};

/// How much may wait: some seconds of a busy server at `debug`, and little for one that has a small container.
const BYTES_MAX: usize = 1 << 20;

/// What a line takes beside its text, about.
const LINE_BYTES: usize = 64;

/// How many lines there is always room to list. It takes 2 KiB.
const LINES_KEPT: usize = 64;

/// Lines on their way to whoever reads them.
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    came: Condvar,
    /// Everything is written.
    idle: Condvar,
}

struct State {
    waiting: VecDeque<Waiting>,
    /// What they take.
    bytes: usize,
    /// Lines that were dropped behind all that wait.
    dropped: u64,
    /// Whether something is being written.
    is_busy: bool,
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// A line.
    Line(Box<[u8]>),
    /// So many lines are missing here.
    Dropped(u64),
}

impl Queue {
    /// An empty one.
    pub(super) const fn new() -> Self {
        let state = State { waiting: VecDeque::new(), bytes: 0, dropped: 0, is_busy: false };
        Self { state: Mutex::new(state), came: Condvar::new(), idle: Condvar::new() }
    }

    /// Takes a line, or drops it.
    pub(super) fn push(&self, line: &[u8]) {
        if self.state.lock().push(line) {
            self.came.notify_one();
        } else {
            LOG_LINES_DROPPED.count();
        }
    }

    /// Waits for what is to be written next. What came out before is written now.
    pub(super) fn next(&self) -> Waiting {
        let mut state = self.state.lock();
        loop {
            let next = state.next();
            state.is_busy = next.is_some();
            if let Some(next) = next {
                return next;
            }
            self.idle.notify_all();
            self.came.wait(&mut state);
        }
    }

    /// Waits until everything is written, for so long at most.
    pub(super) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        while !state.is_idle() && !self.idle.wait_until(&mut state, until).timed_out() {}
    }
}

impl State {
    /// Takes a line, if there is room. One alone has room, however long it is: it was in memory as a whole already.
    fn push(&mut self, line: &[u8]) -> bool {
        // Once lines are missing, many may be: a reader who is too slow would else be told so between any two lines.
        let room = if self.dropped > 0 { BYTES_MAX / 2 } else { BYTES_MAX };
        if self.bytes > 0 && self.bytes + bytes_of(line) > room {
            self.dropped += 1;
            return false;
        }
        if self.dropped > 0 {
            self.waiting.push_back(Waiting::Dropped(take(&mut self.dropped)));
        }
        self.bytes += bytes_of(line);
        self.waiting.push_back(Waiting::Line(line.into()));
        true
    }

    fn next(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front();
        if let Some(Waiting::Line(line)) = &next {
            self.bytes -= bytes_of(line);
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(LINES_KEPT);
        }
        next.or_else(|| (self.dropped > 0).then(|| Waiting::Dropped(take(&mut self.dropped))))
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0 && !self.is_busy
    }
}

fn bytes_of(line: &[u8]) -> usize {
    line.len() + LINE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Waiting {
        Waiting::Line(text.as_bytes().into())
    }

    #[test]
    fn lines_come_out_in_order_and_where_some_are_missing_stands_how_many() {
        let queue = Queue::new();
        queue.push(b"one");
        queue.push(&vec![b'x'; BYTES_MAX - 200]);
        (0..3).for_each(|_| queue.push(b"has no room"));
        assert_eq!(queue.next(), line("one"));
        // There is room for it now, but the reader is slow still.
        queue.push(b"has room, and comes too early");
        assert!(matches!(queue.next(), Waiting::Line(long) if long.len() == BYTES_MAX - 200));
        queue.push(b"two");
        queue.push(b"three");
        assert_eq!(
            [queue.next(), queue.next(), queue.next()],
            [Waiting::Dropped(4), line("two"), line("three")]
        );
    }

    #[test]
    fn how_many_are_missing_is_said_also_if_nobody_logs_any_more() {
        let queue = Queue::new();
        queue.push(&vec![b'x'; 2 * BYTES_MAX]);
        queue.push(b"has no room");
        assert!(matches!(queue.next(), Waiting::Line(long) if long.len() == 2 * BYTES_MAX), "alone it has");
        assert_eq!(queue.next(), Waiting::Dropped(1));
    }

    #[test]
    fn the_end_waits_for_what_is_not_written_and_not_for_long() {
        const SHORT: Duration = Duration::from_millis(20);
        const LONG: Duration = Duration::from_hours(1);
        let queue = Queue::new();
        // There is nothing.
        queue.flush(LONG);
        queue.push(b"one");
        queue.flush(SHORT);
        assert_eq!(queue.next(), line("one"));
        let begun = Instant::now();
        // It is in somebody's hands.
        queue.flush(SHORT);
        assert!(begun.elapsed() >= SHORT);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(queue.next(), line("two")));
            scope.spawn(|| {
                queue.flush(LONG);
                queue.push(b"two");
            });
        });
        assert_eq!(queue.state.lock().bytes, 0);
    }
}
