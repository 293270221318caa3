//! Answers that their clients do not take, so that whoever is short of memory finds the largest of them.
//!
//! Invariant: an answer is listed from when its socket takes no more of it until it is taken as a whole, or its connection is gone.

use crate::metrics::ANSWERS_GIVEN_UP;
use crate::waiting::{Owner, Reader, Readers, Slowest};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};

/// All of them.
static ALL: Mutex<List> = Mutex::new(List { came: 0, answers: BTreeMap::new() });

struct List {
    came: u64,
    answers: BTreeMap<u64, Arc<Answer>>,
}

/// One of them.
#[derive(Debug)]
struct Answer {
    owner: Owner,
    /// Bytes that are still to be taken.
    left: AtomicUsize,
    is_given_up: AtomicBool,
    /// Who writes it, while it sleeps.
    writer: Mutex<Option<Waker>>,
}

/// An answer that its client does not take. It is listed until this is dropped.
#[derive(Debug)]
pub(super) struct Untaken {
    number: u64,
    answer: Arc<Answer>,
}

impl Untaken {
    /// So many bytes are still to be taken.
    pub(super) fn new(left: usize, owner: Owner) -> Self {
        let (left, is_given_up) = (AtomicUsize::new(left), AtomicBool::new(false));
        let answer = Arc::new(Answer { owner, left, is_given_up, writer: Mutex::default() });
        let mut all = ALL.lock();
        all.came += 1;
        let number = all.came;
        all.answers.insert(number, answer.clone());
        Self { number, answer }
    }

    /// Whoever writes sleeps until the socket takes something, or the answer is given up.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        *self.answer.writer.lock() = Some(cx.waker().clone());
        if self.answer.is_given_up.load(Ordering::Acquire) {
            cx.waker().wake_by_ref();
        }
    }

    /// How many bytes are still to be taken.
    pub(super) fn left(&self) -> usize {
        self.answer.left.load(Ordering::Relaxed)
    }

    /// So many bytes were taken.
    pub(super) fn taken(&self, bytes: usize) {
        self.answer.left.store(self.left().saturating_sub(bytes), Ordering::Relaxed);
    }

    /// An error once the answer is given up: its connection ends with it.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.answer.is_given_up.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the answer was given up"));
        }
        Ok(())
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        ALL.lock().answers.remove(&self.number);
    }
}

impl Reader for Answer {
    fn owner(&self) -> Owner {
        self.owner
    }

    fn waiting_bytes(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    fn put_out(&self, _: Slowest) {
        if self.is_given_up.swap(true, Ordering::Release) {
            return;
        }
        ANSWERS_GIVEN_UP.count();
        if let Some(writer) = self.writer.lock().take() {
            writer.wake();
        }
    }
}

/// Those who do not take their answers.
pub(crate) struct UntakenAnswers;

impl Readers for UntakenAnswers {
    fn readers(&self) -> Vec<Arc<dyn Reader>> {
        ALL.lock().answers.values().map(|answer| answer.clone() as Arc<dyn Reader>).collect()
    }
}
