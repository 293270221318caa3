//! Clients come at a rate, and stay.

use std::sync::Arc;

use tokio::time::sleep;

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
    let crowd = Crowd::gather(course, door, course.bench.rate, stay).await?;
    course.begin("clients stay", Extent::Time(course.bench.duration));
    sleep(course.bench.duration).await;
    drop(crowd);
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
