//! Takes the answers of a group to the threads that wait for them: each is woken once for a group, not once for each answer.
//!
//! A thread that drives a runtime of its own may run [`carry_answers`]; for whoever waits elsewhere, the writer answers by itself.

use super::super::request::{Outcome, Results};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

thread_local! {
    static HERE: RefCell<Option<Arc<Desk>>> = const { RefCell::new(None) };
}

/// What is to be answered on one thread.
#[derive(Default)]
struct Desk {
    answers: Mutex<Vec<Answer>>,
    filled: Notify,
}

/// What somebody is told who waits for it.
enum Answer {
    /// Of a single publication, which most are.
    One(oneshot::Sender<Outcome>, Outcome),
    All(oneshot::Sender<Results>, Results),
}

impl Answer {
    fn send(self) {
        // Whoever asked may be gone; what is stored stays stored.
        match self {
            Self::One(asker, outcome) => _ = asker.send(outcome),
            Self::All(asker, results) => _ = asker.send(results),
        }
    }
}

/// Somebody who waits for what comes of a batch.
pub(in super::super) struct Asker {
    desk: Option<Arc<Desk>>,
    answer: Question,
}

/// What somebody wants to be told.
enum Question {
    One(oneshot::Sender<Outcome>),
    All(oneshot::Sender<Results>),
}

impl Asker {
    /// Waits on this thread for what comes of a single publication.
    pub(in super::super) fn of_one() -> (Self, oneshot::Receiver<Outcome>) {
        let (answer, answered) = oneshot::channel();
        (Self::here(Question::One(answer)), answered)
    }

    /// Waits on this thread for what comes of several.
    pub(in super::super) fn of_all() -> (Self, oneshot::Receiver<Results>) {
        let (answer, answered) = oneshot::channel();
        (Self::here(Question::All(answer)), answered)
    }

    fn here(answer: Question) -> Self {
        Self { desk: HERE.with_borrow(Clone::clone), answer }
    }
}

/// The answers of one group.
#[derive(Default)]
pub(super) struct Answers {
    desks: Vec<Arc<Desk>>,
}

impl Answers {
    /// One more, which arrives at the latest when all of them are [`sent`](Self::send): what came of each publication of a batch.
    pub(in super::super) fn add(&mut self, asker: Asker, mut outcomes: impl Iterator<Item = Outcome>) {
        let Asker { desk, answer } = asker;
        let answer = match answer {
            Question::One(asker) => Answer::One(asker, outcomes.next().expect("a batch is not empty")),
            Question::All(asker) => Answer::All(asker, outcomes.collect()),
        };
        let Some(desk) = desk else {
            answer.send();
            return;
        };
        desk.answers.lock().push(answer);
        if !self.desks.iter().any(|known| Arc::ptr_eq(known, &desk)) {
            self.desks.push(desk);
        }
    }

    /// Wakes the threads that have something to answer.
    pub(super) fn send(self) {
        for desk in self.desks {
            desk.filled.notify_one();
        }
    }
}

/// Answers publishers that wait on this thread, until it is dropped. It must be polled by one thread only, which polls the
/// publishers, too.
pub async fn carry_answers() {
    /// Leaves no desk behind at which nobody works.
    struct Open;
    impl Drop for Open {
        fn drop(&mut self) {
            _ = HERE.try_with(RefCell::take);
        }
    }
    let desk = Arc::<Desk>::default();
    HERE.set(Some(desk.clone()));
    let _open = Open;
    let mut answers = Vec::new();
    loop {
        desk.filled.notified().await;
        std::mem::swap(&mut *desk.answers.lock(), &mut answers);
        answers.drain(..).for_each(Answer::send);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::embedded::request::PublishError;
    use std::iter;

    const REFUSED: Outcome = Err(PublishError::Fenced);

    fn answers_to(askers: impl IntoIterator<Item = Asker>) -> Answers {
        let mut answers = Answers::default();
        for (index, asker) in askers.into_iter().enumerate() {
            answers.add(asker, iter::repeat_n(REFUSED, index + 1));
        }
        answers
    }

    #[test]
    fn every_answer_of_a_group_comes_to_who_asked() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut asking = Vec::new();
        let mut waiting = Vec::new();
        for carries in [true, false, true] {
            let (ask, asked) = std::sync::mpsc::channel();
            asking.push(asked);
            waiting.push(std::thread::spawn(move || {
                runtime().block_on(async {
                    if carries {
                        tokio::spawn(carry_answers());
                        tokio::task::yield_now().await;
                    }
                    let all: Vec<_> = (0..3).map(|_| Asker::of_all()).collect();
                    let mut answered = Vec::new();
                    for (asker, result) in all {
                        assert_eq!(asker.desk.is_some(), carries);
                        ask.send(asker).unwrap();
                        answered.push(result);
                    }
                    let mut lengths = Vec::new();
                    for result in answered {
                        lengths.push(result.await.unwrap().len());
                    }
                    lengths
                })
            }));
        }
        let askers: Vec<_> = asking.iter().flat_map(|asked| asked.iter().take(3)).collect();
        let answers = answers_to(askers);
        assert_eq!(answers.desks.len(), 2, "each thread is woken once");
        answers.send();
        let lengths: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(lengths, [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9]]);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_desk_that_was_left() {
        let carrying = tokio::spawn(carry_answers());
        tokio::task::yield_now().await;
        let (asker, answered) = Asker::of_all();
        carrying.abort();
        assert!(carrying.await.unwrap_err().is_cancelled());
        answers_to([asker]).send();
        assert!(answered.await.is_err(), "it is told that nobody will answer");
        let (asker, answered) = Asker::of_all();
        answers_to([asker]).send();
        assert_eq!(answered.await.unwrap(), [REFUSED]);
    }

    #[tokio::test]
    async fn a_single_publication_is_answered_like_several() {
        for carries in [false, true] {
            let carrying = carries.then(|| tokio::spawn(carry_answers()));
            tokio::task::yield_now().await;
            let (asker, answered) = Asker::of_one();
            assert_eq!(asker.desk.is_some(), carries);
            answers_to([asker]).send();
            assert_eq!(answered.await.unwrap(), REFUSED);
            carrying.inspect(tokio::task::JoinHandle::abort);
        }
    }
}
