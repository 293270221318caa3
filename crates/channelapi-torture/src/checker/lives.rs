//! When messages with a time to live are over.

use std::time::Duration;

use crate::history::{Publish, Time};

/// How much later than we believe a message may end by the server's word.
///
/// The server counts in milliseconds of the wall clock, which it reads at each of its starts, and we count on a clock that nobody sets.
/// Both begin before the message is answered and run side by side, so that they part by a rounding and by what the wall clock is slewed
/// between two starts: 500 ppm at most, which is milliseconds in a run. A second is far from that, and far from the hour of a message
/// that lives long.
const TOLERANCE: Duration = Duration::from_secs(1);

/// How much sooner than we believe a message may end by the server's word: it cuts off what is less than a millisecond, and between two
/// starts its clock is slewed, as above. Short against the shortest life that a message can have, which is a second.
const ROUNDING: Duration = Duration::from_millis(20);

/// Whether somebody who reads at a time may do without the message: it ends hardly sooner than if it was taken in when it was first sent.
pub(super) fn may_be_over(publish: &Publish, at: Time) -> bool {
    publish.ttl.is_some_and(|ttl| publish.invoked.0 + ttl <= at.0 + ROUNDING)
}

/// Whether nobody may be shown the message who comes at a time: it ends no later than if it was taken in when the last of its answers came.
pub(super) fn is_over(publish: &Publish, at: Time) -> bool {
    let latest = publish.answers().iter().map(|answer| answer.at).max();
    let ends = publish.ttl.zip(latest).map(|(ttl, latest)| latest.0 + ttl);
    ends.is_some_and(|ends| ends + TOLERANCE < at.0)
}
