//! Small segments come and go under load: the log goes on in the next one, old ones are removed as a whole, others are rewritten without
//! what nobody needs any more. The server dies while it does so, and nothing that is still to be kept is lost.
//!
//! It takes a server built with the feature `failpoints`, which no release is. Nobody uses idempotency keys before the end: a segment
//! that has some is left alone for ten minutes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use super::failing::{Outcome, fail, failing_binary};
use super::{Orders, Report};
use crate::choices::Choices;
use crate::client::{Plan, Ticket};
use crate::crowd::{Crowd, tickets};
use crate::history::{Channel, ChannelId, Door, History, Publish};
use crate::link::Transport;
use crate::publisher::{Publisher, Route, Target};
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;
use crate::town::KEEPS_ALL;

/// Keeps everything, so that segments with something of it are rewritten and never removed.
const KEPT: ChannelId = ChannelId(0);
/// Gets most of what is published, and keeps little of it.
const BUSY: ChannelId = ChannelId(1);
const BUSY_KEEPS: u64 = 500;
/// Keeps nothing. Where it stands has to be written down again before a segment that says so is removed.
const FLEETING: ChannelId = ChannelId(2);

/// Bytes of a segment, for many that are removed.
const SMALL: u64 = 64 << 10;
/// For some that are rewritten: with less than a mebibyte of what nobody needs, it is not worth the while.
const LARGE: u64 = 3 << 19;

/// How often a segment is removed before the server dies of it, and how often one is rewritten.
const REMOVALS: std::ops::RangeInclusive<u64> = 1..=5;
const REWRITES: std::ops::RangeInclusive<u64> = 1..=2;

const BUSY_PUBLISHERS: u32 = 6;
const FLEETING_PUBLISHER: u32 = 1_000;
const FLEETING_BATCH: u64 = 10;

pub(crate) async fn run(orders: &Orders, failing: Option<&Path>) -> Result<()> {
    let binary = failing_binary(orders, failing)?;
    let mut report = Report::new();
    let mut removed = 0;
    for cycle in 0..orders.cycles {
        let seed = orders.seed + u64::from(cycle);
        let round = round(&binary, seed, &mut report).await;
        removed += round.with_context(|| format!("with seed {seed}"))?;
    }
    report.close(&format!("rolling: {} times, {removed} segments removed", orders.cycles))
}

/// How many segments were removed.
async fn round(binary: &Path, seed: u64, report: &mut Report) -> Result<u64> {
    let mut choices = Choices::new(seed, "rolling");
    let mut server = Server::prepare(binary, &configuration())?;
    server.environment = segments_of(SMALL);
    server.start().await?;
    let site = Arc::new(Site::new(server.address, AUTH_KEY.to_owned()));
    let channels = channels();
    let plans = plans(&tickets(&site, &channels).await?);
    let fleeting = Target { channel: FLEETING, name: channels[FLEETING.index()].name.clone() };
    let mut crowd = Crowd::gather(Arc::clone(&site), channels, plans, seed).await?;
    let mut fleeting_publisher =
        Publisher::new(FLEETING_PUBLISHER, Route::Batch, vec![fleeting.clone()], Arc::clone(&site), seed);
    fleeting_publisher.publish_batch(&fleeting, FLEETING_BATCH).await?;

    for _ in 0..BUSY_PUBLISHERS {
        crowd.publish(Route::Batch, &[BUSY], seed);
    }
    let failpoint = format!("before-remove:abort:{}", choices.number(REMOVALS));
    fail(&mut server, &mut crowd, &failpoint, Outcome::Dies).await.context(failpoint)?;
    sleep(choices.millis(300..=800)).await;

    server.environment = segments_of(LARGE);
    for route in [Route::Single, Route::Batch, Route::Seed] {
        crowd.publish(route, &[KEPT], seed);
    }
    for place in ["before-rename", "after-rename"] {
        let failpoint = format!("{place}:abort:{}", choices.number(REWRITES));
        fail(&mut server, &mut crowd, &failpoint, Outcome::Dies).await.context(failpoint)?;
        sleep(choices.millis(300..=800)).await;
    }

    let mut history = crowd.disperse().await?;
    history.publishes.extend(fleeting_publisher.into_log());
    goes_on(&history, FLEETING)?;
    let (first, last) = segments(&server)?;
    ensure!(last > 1, "the log did not go on in another segment");
    ensure!(first > 1, "no segment was removed");
    report.add(&history, &server).await?;
    server.stop().await?;
    let (is_sound, said) = server.verify_data()?;
    ensure!(is_sound, "`store verify` does not call the data sound:\n{said}");
    Ok(first - 1)
}

fn configuration() -> String {
    format!(
        r#"{KEEPS_ALL}
[[policy]]
match = "busy-*"
history = {{ max_messages = {BUSY_KEEPS}, max_age = "24h", max_bytes = "64MiB" }}

[[policy]]
match = "fleeting-*"
history = {{ max_messages = 0 }}
"#
    )
}

fn channels() -> Vec<Channel> {
    let channel = |name: &str, max_messages| Channel { name: name.to_owned(), durable: true, max_messages };
    vec![channel("kept-0", None), channel("busy-0", Some(BUSY_KEEPS)), channel("fleeting-0", Some(0))]
}

fn plans(tickets: &[Ticket]) -> Vec<Plan> {
    let plan = |name: &str, door, channels: &[ChannelId]| Plan {
        name: name.to_owned(),
        door,
        transport: Transport::WebSocket,
        channels: channels.iter().map(|channel| tickets[channel.index()].clone()).collect(),
        meta: door == Door::Explicit,
        breaks: None,
        away: 0..=0,
        stalls: false,
        confirms: Vec::new(),
        via: None,
    };
    let flaky = |plan: Plan| Plan { breaks: Some(20..=500), away: 0..=200, ..plan };
    vec![
        plan("one", Door::Handshake, &[KEPT]),
        plan("both", Door::Handshake, &[KEPT, BUSY]),
        flaky(plan("flaky", Door::Handshake, &[KEPT, BUSY])),
        plan("explicit", Door::Explicit, &[KEPT]),
        Plan { confirms: vec![KEPT], ..flaky(plan("explicit-flaky", Door::Explicit, &[KEPT])) },
        flaky(plan("stream-flaky", Door::Stream, &[KEPT])),
        plan("stream-busy", Door::Stream, &[BUSY]),
        plan("seed", Door::Seed, &[BUSY]),
    ]
}

/// The variable that lets the server go on in a new segment after so many bytes.
fn segments_of(bytes: u64) -> Vec<(String, String)> {
    vec![("CHANNELAPI_SEGMENT_BYTES".to_owned(), bytes.to_string())]
}

/// The numbers of the oldest segment and of the newest. They begin with 1.
fn segments(server: &Server) -> Result<(u64, u64)> {
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(server.data_dir().join("log"))? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
    }
    numbers.first().copied().zip(numbers.last().copied()).context("the log has no segments")
}

/// A channel of which nothing is kept stands where it stood before.
fn goes_on(history: &History, channel: ChannelId) -> Result<()> {
    let publishes = history.publishes.iter().filter(|publish| publish.channel == channel);
    let positions = publishes.flat_map(Publish::answers).filter_map(|answer| answer.position);
    let places: BTreeSet<_> = positions.map(|position| (position.epoch, position.offset)).collect();
    let epoch = places.first().context("nothing was published to it")?.0;
    for ((found, offset), expected) in places.iter().zip(1..) {
        ensure!(
            (*found, *offset) == (epoch, expected),
            "{} went on at {found:016x}-{offset} instead of {epoch:016x}-{expected}",
            history.channel(channel).name
        );
    }
    ensure!(places.len() as u64 > FLEETING_BATCH, "nothing was published to it in the end");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Answer, Branch, MessageId, Outcome as Told, Position, Time};

    #[test]
    fn channel_that_does_not_stand_where_it_stood_is_seen() {
        let check = |places: Vec<(u64, u64)>| {
            let publish = |(number, (epoch, offset))| Publish {
                id: MessageId { publisher: 0, number },
                channel: FLEETING,
                keyed: false,
                ttl: None,
                batch: None,
                invoked: Time::default(),
                doubtful: None,
                outcome: Told::Stored(vec![Answer {
                    at: Time::default(),
                    branch: Branch(0),
                    position: Some(Position { epoch, offset }),
                    tag: None,
                    duplicate: false,
                }]),
            };
            let publishes = (0..).zip(places).map(publish).collect();
            goes_on(&History { channels: channels(), publishes, ..History::default() }, FLEETING).is_ok()
        };
        let before = || (1..=FLEETING_BATCH).map(|offset| (7, offset));
        let with = |after| -> Vec<_> { before().chain([after]).collect() };
        assert!(check(with((7, FLEETING_BATCH + 1))));
        assert!(!check(with((7, FLEETING_BATCH + 2))), "with a hole");
        assert!(!check(with((8, 1))), "in a new epoch");
        assert!(!check(with((7, 3))), "at a place that it had before");
        assert!(!check(before().collect()), "nothing came after");
    }
}
