//! The disk is full or read-only, and later it is not: publishers are told at once, everybody else goes on, and no restart is needed.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::read_only::{self, ReadOnly};
use super::{Orders, Report, next_life};
use crate::choices::Choices;
use crate::crowd::Crowd;
use crate::history::{Event, History, Time};
use crate::http::{Http, Request, Response};
use crate::machine::{mount_memory, seclude, skipped};
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;
use crate::town;

/// Enough for what the crowd publishes meanwhile, and little to fill.
const SIZE: &str = "64m";
/// For the answer that the disk is full, on a machine that is busy. Whoever waits for the disk instead is told so after ten seconds.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const HEAL_MAX: Duration = Duration::from_secs(20);
const NOTICE_MAX: Duration = Duration::from_secs(20);
/// So often may the log tell of it, where hundreds of publications are refused.
const TOLD_MAX: usize = 10;
const POLL: Duration = Duration::from_millis(10);
const LOAD: std::ops::RangeInclusive<u64> = 200..=600;
/// Long enough for a client that breaks its connection after 300 ms at the latest to be seen coming back.
const STUCK: std::ops::RangeInclusive<u64> = 1_000..=1_500;

/// Why the disk takes nothing.
#[derive(Clone, Copy)]
pub(crate) enum Obstacle {
    Full,
    ReadOnly,
}

pub(crate) async fn run(orders: &Orders, obstacle: Obstacle) -> Result<()> {
    let title = match obstacle {
        Obstacle::Full => {
            seclude(orders.seed)?;
            "disk-full"
        }
        Obstacle::ReadOnly => {
            read_only::check()?;
            "read-only"
        }
    };
    let mut report = Report::new();
    for cycle in 0..orders.cycles {
        round(orders, obstacle, orders.seed + u64::from(cycle), &mut report).await?;
    }
    report.close(&format!("{title}: {} times", orders.cycles))
}

async fn round(orders: &Orders, obstacle: Obstacle, seed: u64, report: &mut Report) -> Result<()> {
    let mut choices = Choices::new(seed, "disk-full");
    let mut server = Server::prepare(&orders.binary, &town::configuration())?;
    let disk = server.folder().join("disk");
    if let Obstacle::Full = obstacle {
        mount_memory(&disk, SIZE).map_err(|error| skipped(format!("no file system in memory: {error:#}")))?;
    } else {
        fs::create_dir(&disk)?;
    }
    server.data = PathBuf::from("disk/data");
    server.start().await?;
    let site = Arc::new(Site::new(server.address, AUTH_KEY.to_owned()));
    let mut crowd = town::gather(&site, seed).await?;
    sleep(choices.millis(LOAD)).await;

    let filler = disk.join("filler");
    let read_only = match obstacle {
        Obstacle::Full => fill(&filler).map(|()| None)?,
        Obstacle::ReadOnly => Some(ReadOnly::make(&server)?),
    };
    let stuck = notice(&crowd).await.context("when the disk took nothing")?;
    let end = Instant::now() + choices.millis(STUCK);
    while Instant::now() < end {
        observe(&site).await.context("while the disk took nothing")?;
        if let Obstacle::Full = obstacle {
            // Whatever the server gives up is taken at once, as by another program.
            fill(&filler)?;
        }
        crowd.complain().await?;
    }
    let (until, given_back) = (site.now(), Instant::now());
    match read_only {
        None => fs::remove_file(&filler)?,
        Some(read_only) => read_only.end()?,
    }
    while publish(&site).await?.status != 201 || get(&site, "/readyz").await?.status != 200 {
        ensure!(
            given_back.elapsed() < HEAL_MAX,
            "nothing can be published {HEAL_MAX:?} after the disk was well"
        );
        sleep(POLL).await;
    }
    println!("it is published again {} ms after the disk was well", given_back.elapsed().as_millis());
    let log = server.whole_log();
    let told = log.matches("publications could not be stored").count();
    // Upkeep may find room for a moment, again and again.
    ensure!((1..=TOLD_MAX).contains(&told), "the log told {told} times that nothing could be stored");
    sleep(choices.millis(LOAD)).await;
    crowd.complain().await?;

    server.kill()?;
    next_life(&site);
    server.start().await?;
    let history = crowd.disperse().await?;
    stayed(&history, 2)?;
    came_and_went(&history, stuck, until)?;
    report.add(&history, &server).await
}

/// Takes all the room that there is.
fn fill(filler: &Path) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(filler)?;
    for length in [1 << 20, 1 << 12, 1] {
        loop {
            match file.write(&vec![0xa5; length]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Waits until a publisher of the crowd was refused; when that was known.
async fn notice(crowd: &Crowd) -> Result<Time> {
    let began = Instant::now();
    while crowd.site.refusals(&[507]) == 0 {
        ensure!(began.elapsed() < NOTICE_MAX, "no publisher was answered 507 within {NOTICE_MAX:?}");
        sleep(POLL).await;
    }
    Ok(crowd.site.now())
}

/// What everybody must see while nothing can be stored.
async fn observe(site: &Site) -> Result<()> {
    let began = Instant::now();
    let refused = publish(site).await?;
    let took = began.elapsed();
    ensure!(refused.status == 507, "a publication was answered {}: {}", refused.status, refused.body);
    ensure!(took < ANSWER_MAX, "it took {took:?} to say that the disk takes nothing");
    let ready = get(site, "/readyz").await?;
    ensure!(ready.status == 503, "/readyz says {}: {}", ready.status, ready.body);
    let history = get(site, "/v1/channels/plain-0/messages?since=all&limit=10").await?;
    ensure!(history.status == 200, "history was answered {}: {}", history.status, history.body);
    Ok(())
}

/// To a channel of its own, which nobody judges.
async fn publish(site: &Site) -> Result<Response> {
    let (headers, body) = (site.authorization(), json!({ "data": "room?" }).to_string());
    let path = "/v1/channels/probe/messages";
    let request = Request { method: "POST", path, headers: &headers, body: &body };
    Http::connect(site.address).await?.exchange(&request).await
}

async fn get(site: &Site, path: &str) -> Result<Response> {
    let headers = site.authorization();
    let request = Request { method: "GET", path, headers: &headers, body: "" };
    Http::connect(site.address).await?.exchange(&request).await
}

/// Clients that never leave by themselves had one connection in each life of the server.
pub(super) fn stayed(history: &History, lives: usize) -> Result<()> {
    for name in town::STEADY {
        let client = history.clients.iter().find(|client| client.name == name);
        let events = &client.with_context(|| format!("there is no client {name}"))?.events;
        let count = events.iter().filter(|entry| matches!(entry.event, Event::Connected(_))).count();
        ensure!(count == lives, "{name} connected {count} times in {lives} lives of the server");
    }
    Ok(())
}

/// Others could connect, and join with the tokens that they had, between two moments.
pub(super) fn came_and_went(history: &History, from: Time, until: Time) -> Result<()> {
    for name in town::RESTLESS {
        let client = history.clients.iter().find(|client| client.name == name);
        let events = &client.with_context(|| format!("there is no client {name}"))?.events;
        let came = |at: Time| at > from && at < until;
        let joined = events
            .iter()
            .any(|entry| came(entry.at) && matches!(entry.event, Event::Connected(_) | Event::Joined(_)));
        ensure!(joined, "{name} could not connect between {from} and {until}");
    }
    Ok(())
}
