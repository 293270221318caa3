//! Publishers, and nobody who listens: what storing takes.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    course::{Course, Extent},
    pace::Pace,
    publisher::Publisher,
    tally::{Figure, Mishap, Trouble},
};
use crate::client::Failed;

pub(super) async fn run(course: &Course, channels: u64) -> Result<(), Failed> {
    // What would go wrong each time is said once.
    try_to_publish(course).await?;
    course.begin("publishing", Extent::Time(course.bench.duration));
    let pace = Arc::new(Pace::of_time(course.bench.duration, course.bench.rate));
    let mut publishers = JoinSet::new();
    for _ in 0..course.bench.connections {
        let publisher = Publisher::new(course, channels);
        publishers.spawn(work(course.clone(), Arc::clone(&pace), publisher));
    }
    publishers.join_all().await;
    Ok(())
}

/// Publishes once, and says what keeps it from that.
pub(super) async fn try_to_publish(course: &Course) -> Result<(), Failed> {
    let tried = Publisher::new(course, 1).publish(course, 0).await;
    tried.map_err(|problem| Failed(problem.explain(&course.bench.target)))
}

async fn work(course: Course, pace: Arc<Pace>, mut publisher: Publisher) {
    while let Some((number, due)) = pace.next().await {
        match publisher.publish(&course, number).await {
            Ok(()) => {
                course.tally.record(Figure::Publish, due);
                course.advance();
            }
            Err(problem) => {
                course.tally.mishap(Trouble::new(Mishap::Publish, publisher.explain(&problem)));
                Publisher::rest(&problem).await;
            }
        }
    }
}
