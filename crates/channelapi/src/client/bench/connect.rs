//! Clients come at a rate, and stay.

use std::sync::Arc;

use tokio::time::timeout;

use super::{
    course::{Course, Extent},
    crowd::Crowd,
    socket::Socket,
    tally::{Mishap, Trouble},
};
use crate::client::Failed;

pub(super) async fn run(course: &Course) -> Result<(), Failed> {
    let door = Arc::new(course.door(false).await?);
    let stay = |_, socket| stay(course.clone(), socket, |_| ());
    let mut crowd = Crowd::gather(course, door, course.bench.rate, stay).await?;
    course.begin("clients stay", Extent::Time(course.bench.duration));
    // There is nothing to wait for when all of them are lost.
    _ = timeout(course.bench.duration, crowd.deserted()).await;
    Ok(())
}

/// Lives as long as the connection does.
pub(super) async fn stay(course: Course, mut socket: Socket, mut each: impl FnMut(&str)) {
    loop {
        if let Err(why) = socket.read(&mut each).await {
            return course.tally.mishap(Trouble::new(Mishap::Lost, why));
        }
    }
}
