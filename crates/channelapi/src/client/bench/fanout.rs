//! Everybody is in one channel, and everything goes to everybody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    connect::stay,
    course::{Course, Extent},
    crowd::Crowd,
    pace::Pace,
    publish::try_to_publish,
    publisher::{Publisher, Recogniser},
    seen::Seen,
    tally::{Figure, Mishap, Trouble},
};
use crate::client::Failed;

/// Publications on their way at the same time; those that are due then wait.
const PUBLISHERS: usize = 32;

/// How long the last deliveries may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether all are there.
const LOOK: Duration = Duration::from_millis(20);

/// Every publication: when it was due, and how many have not got it.
struct Board {
    started: Instant,
    rows: Vec<Row>,
}

/// In place of the time when it was due.
const WITHDRAWN: u64 = u64::MAX;

#[derive(Default)]
struct Row {
    /// Microseconds since the start.
    due: AtomicU64,
    /// How many are to get it: none as long as it is not published.
    missing: AtomicU32,
}

impl Board {
    fn publish(&self, number: u64, due: Instant, subscribers: u32) {
        let row = &self.rows[index(number)];
        let since = due.saturating_duration_since(self.started);
        row.due.store(u64::try_from(since.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        row.missing.store(subscribers, Ordering::Release);
    }

    /// Somebody got it.
    fn deliver(&self, course: &Course, number: u64) {
        let Some(row) = self.rows.get(index(number)) else { return };
        if row.due.load(Ordering::Relaxed) == WITHDRAWN {
            return;
        }
        let less = |missing: u32| missing.checked_sub(1);
        // More than those who are in the channel cannot get it.
        let Ok(missing) = row.missing.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) else { return };
        let due = self.started + Duration::from_micros(row.due.load(Ordering::Relaxed));
        course.tally.record(Figure::Deliver, due);
        if missing == 1 {
            course.tally.record(Figure::Last, due);
        }
    }

    fn missing(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.missing.load(Ordering::Acquire))).sum()
    }

    /// It is not known to be published: whoever gets it may, and nobody has to.
    fn withdraw(&self, number: u64) {
        let row = &self.rows[index(number)];
        row.due.store(WITHDRAWN, Ordering::Relaxed);
        row.missing.store(0, Ordering::Release);
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) async fn run(course: &Course) -> Result<(), Failed> {
    let door = Arc::new(course.door(false).await?);
    // What would go wrong each time is said once, before anybody waits for it.
    try_to_publish(course).await?;
    let rate = course.bench.rate.unwrap_or(1.0);
    let planned = (rate * course.bench.duration.as_secs_f64()).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was compared with a limit"
    )]
    let rows = (0..=planned as usize).map(|_| Row::default()).collect();
    let board = Arc::new(Board { started: Instant::now(), rows });
    let recogniser = Recogniser::new(course);
    let listen = |_, socket| {
        let (board, recogniser, teller) = (Arc::clone(&board), recogniser.clone(), course.clone());
        let mut seen = Seen::default();
        stay(course.clone(), socket, move |packet| {
            let Some(number) = recogniser.number(packet) else { return };
            // What one client gets twice makes up for nothing that another one misses.
            if seen.take(number) {
                board.deliver(&teller, number);
            } else {
                teller.tally.mishap(Trouble::new(Mishap::Twice, format!("publication {number}")));
            }
        })
    };
    let crowd = Crowd::gather(course, door, None, listen).await?;
    let subscribers = u32::try_from(crowd.joined).expect("it was compared with a limit");

    course.begin("publishing", Extent::Time(course.bench.duration));
    let pace = Arc::new(Pace::of_time(course.bench.duration, Some(rate)));
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let publisher = Publisher::new(course, 1);
        publishers.spawn(work(course.clone(), Arc::clone(&pace), Arc::clone(&board), publisher, subscribers));
    }
    publishers.join_all().await;
    let all = async {
        while board.missing() > 0 {
            sleep(LOOK).await;
        }
    };
    if timeout(PATIENCE, all).await.is_err() {
        let why = || format!("they had not come {} s after the last publication", PATIENCE.as_secs());
        course.tally.mishaps_of(Mishap::Missing, board.missing(), why);
    }
    Ok(())
}

async fn work(
    course: Course,
    pace: Arc<Pace>,
    board: Arc<Board>,
    mut publisher: Publisher,
    subscribers: u32,
) {
    while let Some((number, due)) = pace.next().await {
        board.publish(number, due, subscribers);
        match publisher.publish(&course, number).await {
            Ok(()) => {
                course.tally.record(Figure::Publish, due);
                course.advance();
            }
            Err(problem) => {
                board.withdraw(number);
                course.tally.mishap(Trouble::new(Mishap::Publish, publisher.explain(&problem)));
                Publisher::rest(&problem).await;
            }
        }
    }
}
