//! The power fails under load: the disk holds what was synced, and of the rest what it likes.
//!
//! The data lies in a file system inside an image, which writes nothing of its own accord for five minutes. The server is
//! stopped in the middle of what it does, the image is copied, and the copy is what a power cut would have left: it is
//! mounted, which replays its journal, and a server starts on it while the first one goes on.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, kill_process};
use tokio::time::sleep;

use super::{Orders, Report};
use crate::archive;
use crate::choices::Choices;
use crate::history::{ChannelId, History, MessageId, Outcome, Time};
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

/// What was found on one copy.
struct Copy {
    /// When the power failed.
    cut: Time,
    channels: Vec<(ChannelId, HashSet<MessageId>)>,
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
    report.close(&format!("power-cut: {done} copies of the disk, all of {kept} acked before found on them"))
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
    for cut in 0..cuts {
        sleep(choices.millis(LOAD)).await;
        crowd.complain().await?;
        let copy = server.folder().join("copy");
        let at = cut_power(&server, &site, &image, &copy)?;
        let read = look_at(orders, &copy).await;
        let channels = read.with_context(|| format!("on the copy of cut {}", cut + 1))?;
        copies.push(Copy { cut: at, channels });
    }
    let history = crowd.disperse().await?;
    report.add(&history, &server);
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

/// Starts a server on a copy, and reads what it has.
async fn look_at(orders: &Orders, copy: &Path) -> Result<Vec<(ChannelId, HashSet<MessageId>)>> {
    let mut server = Server::prepare(&orders.binary, &town::configuration())?;
    let disk = server.folder().join("disk");
    mount(copy, &disk)?;
    server.data = PathBuf::from("disk/data");
    server.start().await?;
    let site = Site::new(server.address, AUTH_KEY.to_owned());
    let mut channels = Vec::new();
    for channel in town::PLAIN {
        let name = &town::channels()[channel.index()].name;
        let messages = archive::read(&site, name, "all").await?.messages;
        let ids = messages.iter().map(|message| parse_data(&message.data).map(|(id, _)| id));
        let ids =
            ids.collect::<Option<_>>().with_context(|| format!("{name} holds what nobody published"))?;
        channels.push((channel, ids));
    }
    server.stop().await?;
    command("umount", &[disk.as_os_str()])?;
    fs::remove_file(copy)?;
    Ok(channels)
}

fn check(copy: &Copy, history: &History) -> Result<usize> {
    let mut found = 0;
    for (channel, ids) in &copy.channels {
        let mut unknown = ids.clone();
        for publish in history.publishes.iter().filter(|publish| publish.channel == *channel) {
            let line = || history.publish_line(publish);
            let is_there = unknown.remove(&publish.id);
            let is_acked = publish.answers().first().is_some_and(|answer| answer.at < copy.cut);
            ensure!(is_there || !is_acked, "lost in the power cut at {}: {}", copy.cut, line());
            let is_refused = matches!(publish.outcome, Outcome::Refused(_));
            ensure!(!(is_there && is_refused), "found after the power cut at {}: {}", copy.cut, line());
            found += usize::from(is_acked);
        }
        ensure!(unknown.is_empty(), "the copy holds {unknown:?}, which nobody published");
    }
    Ok(found)
}
