//! Clients that join and then live on, each in a task of its own.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::{
    course::{Course, Extent},
    pace::Pace,
    socket::{Door, Socket},
    tally::Figure,
};
use crate::client::Failed;

/// Clients that are joining at the same time.
const JOINING_MAX: usize = 64;

/// The same where they come at a rate: a server that does not answer must not let them pile up.
const JOINING_MAX_PACED: usize = 1024;

/// When so many in the beginning could not join and none could, nobody will: each may have waited for as long as is waited for an
/// answer.
const HOPELESS: u64 = 64;

/// Everybody who has joined; they are gone when it is dropped.
pub(super) struct Crowd {
    pub(super) joined: u64,
    living: JoinSet<()>,
}

impl Crowd {
    /// Lets all clients join, at the rate if there is one, and returns when each has or could not. Each of them then does what
    /// `live` says. Fails if nobody could join.
    pub(super) async fn gather<L>(
        course: &Course,
        door: Arc<Door>,
        rate: Option<f64>,
        live: impl Fn(u64, Socket) -> L,
    ) -> Result<Self, Failed>
    where
        L: Future<Output = ()> + Send + 'static,
    {
        let count = course.bench.connections;
        course.begin("clients join", Extent::Count(count));
        let joining = Arc::new(Semaphore::new(rate.map_or(JOINING_MAX, |_| JOINING_MAX_PACED)));
        let pace = Pace::of_count(count, rate);
        let (teller, mut told) = mpsc::unbounded_channel();
        let mut living = JoinSet::new();
        let (mut heard, mut joined, mut first) = (0, 0, String::new());
        let mut hear = |outcome: Result<_, String>, living: &mut JoinSet<()>| {
            heard += 1;
            match outcome {
                Ok((number, socket)) => {
                    joined += 1;
                    living.spawn(live(number, socket));
                }
                Err(why) if first.is_empty() => first = why,
                Err(_) => {}
            }
            heard == count || (heard >= HOPELESS && joined == 0)
        };
        let mut is_over = false;
        while let Some((number, due)) = pace.next().await {
            let permit = Arc::clone(&joining).acquire_owned().await.expect("it is never closed");
            // Without a rate nobody is late: it is its turn now.
            let began = if rate.is_some() { due } else { Instant::now() };
            let (course, door, teller) = (course.clone(), Arc::clone(&door), teller.clone());
            living.spawn(async move {
                let outcome = Socket::join(&door, None).await;
                drop(permit);
                course.advance();
                let outcome = match outcome {
                    Ok(socket) => {
                        course.tally.record(Figure::Join, began);
                        Ok((number, socket))
                    }
                    Err(trouble) => {
                        let why = trouble.why.clone();
                        course.tally.mishap(trouble);
                        Err(why)
                    }
                };
                // Who does not listen any more has given up the run.
                _ = teller.send(outcome);
            });
            while let Ok(outcome) = told.try_recv() {
                is_over = hear(outcome, &mut living);
            }
            if is_over {
                break;
            }
            // What has ended must not be kept until the end.
            while living.try_join_next().is_some() {}
        }
        while !is_over {
            let outcome = told.recv().await.expect("a sender is held here");
            is_over = hear(outcome, &mut living);
        }
        if joined == 0 {
            return Err(Failed(format!("no client could join: {first}")));
        }
        Ok(Self { joined, living })
    }

    /// Waits until the last one has ended.
    pub(super) async fn deserted(&mut self) {
        while self.living.join_next().await.is_some() {}
    }
}
