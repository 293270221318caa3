//! The power fails under load: the disk holds what was synced, and of the rest what it likes.
//!
//! The data lies in a file system inside an image, which writes nothing of its own accord for five minutes. The server is
//! stopped in the middle of what it does, the image is copied, and the copy is what a power cut would have left: it is
//! mounted, which replays its journal, and a server starts on it while the first one goes on.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, kill_process};
use tokio::time::sleep;

use super::{Orders, Report};
use crate::archive::{self, Message};
use crate::checker::{Purges, stands_within};
use crate::choices::Choices;
use crate::history::{Branch, ChannelId, History, MessageId, Outcome, Position, Time};
use crate::machine::{run as command, seclude, skipped};
use crate::packet::parse_data;
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;
use crate::town;

const IMAGE_BYTES: u64 = 256 << 20;
/// The crowd of one round fills the image in some minutes.
const CUTS_PER_ROUND: u32 = 20;
/// Milliseconds of load before a cut.
const LOAD: std::ops::RangeInclusive<u64> = 50..=700;

/// The channel to which a reader comes back on each copy.
const READ: ChannelId = town::PLAIN[0];

/// What was found on one copy.
struct Copy {
    /// When the power failed.
    cut: Time,
    channels: Vec<Kept>,
}

/// What is there of one channel.
struct Kept {
    channel: ChannelId,
    found: Vec<Found>,
    /// How far each consumer has come.
    consumers: HashMap<String, u64>,
}

/// A message, and what its id says.
#[derive(Clone, Copy)]
struct Found {
    position: Position,
    tag: u32,
    id: MessageId,
}

pub(crate) async fn run(orders: &Orders) -> Result<()> {
    seclude(orders.seed)?;
    let mut report = Report::new();
    let (mut done, mut kept) = (0, 0);
    while done < orders.cycles {
        let cuts = CUTS_PER_ROUND.min(orders.cycles - done);
        kept += round(orders, orders.seed + u64::from(done), cuts, &mut report).await?;
        done += cuts;
    }
    report.close(&format!(
        "power-cut: {done} copies of the disk, all of {kept} acked before found on them where they were"
    ))?;
    ensure!(kept > 0, "nothing was acked before a cut, so nothing is proven");
    Ok(())
}

/// How many messages had to be on the copies, and were.
async fn round(orders: &Orders, seed: u64, cuts: u32, report: &mut Report) -> Result<usize> {
    let mut choices = Choices::new(seed, "power-cut");
    let mut server = Server::prepare(&orders.binary, &town::configuration())?;
    let (image, disk) = (server.folder().join("image"), server.folder().join("disk"));
    File::create(&image)?.set_len(IMAGE_BYTES)?;
    command("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()])
        .and_then(|()| mount(&image, &disk))
        .map_err(|error| {
            skipped(format!("no file system in an image, which needs root and loop devices: {error:#}"))
        })?;
    server.data = PathBuf::from("disk/data");
    server.start().await?;
    let site = Arc::new(Site::new(server.address, AUTH_KEY.to_owned()));
    let mut crowd = town::gather(&site, seed).await?;
    let mut copies = Vec::new();
    let mut cursor = "all".to_owned();
    for cut in 0..cuts {
        sleep(choices.millis(LOAD)).await;
        crowd.complain().await?;
        let copy = server.folder().join("copy");
        cursor = archive::read(&site, &name_of(READ), &cursor).await?.cursor;
        let at = cut_power(&server, &site, &image, &copy)?;
        let read = look_at(orders, &copy, &cursor).await;
        let channels = read.with_context(|| format!("on the copy of cut {}", cut + 1))?;
        copies.push(Copy { cut: at, channels });
    }
    let history = crowd.disperse().await?;
    report.add(&history, &server).await?;
    server.stop().await?;
    command("umount", &[disk.as_os_str()])?;
    copies.iter().map(|copy| check(copy, &history)).sum()
}

fn mount(image: &Path, at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    let options = "loop,commit=300";
    command("mount", &["-o".as_ref(), options.as_ref(), image.as_os_str(), at.as_os_str()])
}

/// Copies the image while the server stands still, and says when that was.
fn cut_power(server: &Server, site: &Site, image: &Path, copy: &Path) -> Result<Time> {
    kill_process(server.process()?, Signal::STOP)?;
    let at = site.now();
    let copied = command("cp", &["--sparse=always".as_ref(), image.as_os_str(), copy.as_os_str()]);
    kill_process(server.process()?, Signal::CONT)?;
    copied.map(|()| at)
}

/// Starts a server on a copy, and reads what it has. Whoever comes back to it with a cursor of the other server, from before the cut,
/// misses nothing.
async fn look_at(orders: &Orders, copy: &Path, cursor: &str) -> Result<Vec<Kept>> {
    let mut server = Server::prepare(&orders.binary, &town::configuration())?;
    let disk = server.folder().join("disk");
    mount(copy, &disk)?;
    server.data = PathBuf::from("disk/data");
    server.start().await?;
    let site = Site::new(server.address, AUTH_KEY.to_owned());
    let mut channels = Vec::new();
    for channel in town::PLAIN.into_iter().chain([town::PURGED]) {
        let name = name_of(channel);
        let messages = archive::read(&site, &name, "all").await?.messages;
        if channel == READ {
            let after = archive::read(&site, &name, cursor).await?;
            let is_complete = after.recovered && messages.ends_with(&after.messages);
            ensure!(is_complete, "a reader of {name} does not get everything after {cursor}");
        }
        let found = messages.iter().map(found).collect::<Result<_>>();
        let found = found.with_context(|| format!("in {name}"))?;
        channels.push(Kept { channel, found, consumers: archive::consumers(&site, &name).await? });
    }
    server.stop().await?;
    command("umount", &[disk.as_os_str()])?;
    fs::remove_file(copy)?;
    Ok(channels)
}

fn name_of(channel: ChannelId) -> String {
    town::channels().swap_remove(channel.index()).name
}

fn found(message: &Message) -> Result<Found> {
    let place = Position::with_tag_of_id(&message.id);
    let (position, tag) = place.with_context(|| format!("unusable id {}", message.id))?;
    let (id, _) = parse_data(&message.data).with_context(|| format!("at {position}"))?;
    Ok(Found { position, tag, id })
}

/// How many messages had to be on the copy, and were, each where its publisher was told that it is.
fn check(copy: &Copy, history: &History) -> Result<usize> {
    let mut kept = 0;
    let purges = Purges::new(history);
    for Kept { channel, found, consumers } in &copy.channels {
        let name = &history.channel(*channel).name;
        for client in &history.clients {
            let stands = consumers.get(&client.name).copied().unwrap_or(0);
            let within = stands_within(client, *channel, copy.cut);
            ensure!(
                within.contains(&stands),
                "after the power cut at {}, {} stands at {stands} in {name} and not within {within:?}",
                copy.cut,
                client.name
            );
        }
        if let Some(first) = found.first() {
            ensure!(first.position.offset == 1, "{name} begins with {} on the copy", first.position);
        }
        for pair in found.windows(2) {
            let (one, next) = (pair[0].position, pair[1].position);
            ensure!(one.next() == next, "on the copy, {name} goes from {one} to {next}");
        }
        let mut unknown: HashMap<_, _> = found.iter().map(|found| (found.id, *found)).collect();
        ensure!(unknown.len() == found.len(), "the copy holds a message of {name} twice");
        for publish in history.publishes.iter().filter(|publish| publish.channel == *channel) {
            let line = || history.publish_line(publish);
            let there = unknown.remove(&publish.id);
            let is_gone = there.is_some() && purges.is_gone(publish, Branch(0), copy.cut);
            ensure!(!is_gone, "back after the power cut at {}, though it was purged: {}", copy.cut, line());
            let is_acked = publish.answers().first().is_some_and(|answer| answer.at < copy.cut)
                && !purges.may_be_gone(publish, Branch(0), copy.cut);
            ensure!(there.is_some() || !is_acked, "lost in the power cut at {}: {}", copy.cut, line());
            kept += usize::from(is_acked);
            let Some(Found { position, tag, .. }) = there else { continue };
            let is_refused = matches!(publish.outcome, Outcome::Refused(_));
            ensure!(!is_refused, "found after the power cut at {}: {}", copy.cut, line());
            for answer in publish.answers() {
                let is_told = answer.position.is_none_or(|told| told == position)
                    && answer.tag.is_none_or(|told| told == tag);
                ensure!(is_told, "at {position} with tag {tag:08x} on the copy: {}", line());
            }
        }
        let unknown: Vec<_> = unknown.keys().map(ToString::to_string).collect();
        ensure!(unknown.is_empty(), "the copy holds {unknown:?}, which nobody published");
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::{Answer, Client, Door, Entry, Event, Publish, Purge};

    fn time(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    fn message(number: u32, offset: u64) -> Found {
        let (position, id) = (Position { epoch: 1, offset }, MessageId { publisher: 0, number });
        Found { position, tag: 7, id }
    }

    /// Of two messages, the first was acked 10 ms before the power failed, and the second 10 ms after.
    fn checked(found: Vec<Found>) -> Result<usize> {
        checked_with(found, Vec::new())
    }

    fn checked_with(found: Vec<Found>, purges: Vec<Purge>) -> Result<usize> {
        let publish = |number: u32, acked| Publish {
            id: MessageId { publisher: 0, number },
            channel: READ,
            keyed: false,
            ttl: None,
            batch: None,
            invoked: time(0),
            doubtful: None,
            outcome: Outcome::Stored(vec![Answer {
                at: time(acked),
                branch: Branch(0),
                position: Some(Position { epoch: 1, offset: u64::from(number) }),
                tag: Some(7),
                duplicate: false,
            }]),
        };
        let publishes = vec![publish(1, 90), publish(2, 110)];
        let history = History { channels: town::channels(), publishes, purges, ..History::default() };
        let kept = Kept { channel: READ, found, consumers: HashMap::new() };
        check(&Copy { cut: time(100), channels: vec![kept] }, &history)
    }

    #[test]
    fn copy_holds_what_was_acked_where_it_was_acked() {
        assert_eq!(checked(vec![message(1, 1)]).unwrap(), 1);
        assert_eq!(checked(vec![message(1, 1), message(2, 2)]).unwrap(), 1);
        let check = |what, found| assert!(checked(found).is_err(), "{what}");
        check("nothing is there", vec![]);
        check("only the second is there", vec![message(2, 1)]);
        check("it is at another place", vec![message(2, 1), message(1, 2)]);
        check("it has another tag", vec![Found { tag: 8, ..message(1, 1) }]);
        check("there is a hole", vec![message(1, 1), message(2, 3)]);
        check("the beginning is missing", vec![message(1, 2)]);
        check("it is there twice", vec![message(1, 1), message(1, 2)]);
        check("it was never published", vec![message(1, 1), message(2, 2), message(3, 3)]);
    }
    #[test]
    fn copy_holds_nothing_of_what_was_purged_before_the_cut() {
        let purge = |ended, purged| {
            let (channel, branch, invoked) = (READ, Branch(0), time(92));
            Purge { channel, branch, invoked, ended: time(ended), purged }
        };
        let check = |found, purge| checked_with(found, vec![purge]).is_ok();
        assert!(check(vec![], purge(95, Some(1))) && !check(vec![message(1, 1)], purge(95, Some(1))));
        assert!(check(vec![message(1, 1)], purge(105, Some(1))), "it was not answered yet");
        assert!(check(vec![], purge(99, None)) && check(vec![message(1, 1)], purge(99, None)), "in doubt");
    }

    #[test]
    fn copy_holds_what_was_confirmed_before_the_cut() {
        let confirming = |offset| Event::Confirming { channel: READ, offset };
        let may_stand_at = |stands: u64| {
            let events = [
                (10, confirming(3)),
                (20, Event::Confirmed { entry: 0, offset: 3 }),
                (90, confirming(5)),
                (110, Event::Confirmed { entry: 2, offset: 5 }),
                (120, confirming(9)),
            ];
            let events = events.map(|(millis, event)| Entry { at: time(millis), event });
            let client = Client {
                name: "a".to_owned(),
                door: Door::Explicit,
                channels: vec![READ],
                events: events.to_vec(),
            };
            let history = History { channels: town::channels(), clients: vec![client], ..History::default() };
            let consumers = HashMap::from([("a".to_owned(), stands)]);
            let kept = Kept { channel: READ, found: Vec::new(), consumers };
            check(&Copy { cut: time(100), channels: vec![kept] }, &history).is_ok()
        };
        assert!(may_stand_at(3) && may_stand_at(5));
        assert!(!may_stand_at(2), "what was answered is not there");
        assert!(!may_stand_at(9), "it was confirmed after the cut");
    }
}
