//! Somebody sets the wall clock while the server runs: nothing expires, nobody is disconnected, offsets go on, and JWTs of clients that
//! come are judged by the new time.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::clock_jwts::{self, Bearers};
use super::disk_full::{came_and_went, stayed};
use super::{Orders, Report, no_doubts};
use crate::choices::Choices;
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;
use crate::town;
use crate::{date, faketime};

/// The jumps are against the real time, in libfaketime's words.
pub(crate) async fn run(orders: &Orders, library: Option<&Path>, jumps: &[String]) -> Result<()> {
    let library = faketime::library(library)?;
    let mut report = Report::new();
    for cycle in 0..orders.cycles {
        round(orders, orders.seed + u64::from(cycle), &library, jumps, &mut report).await?;
    }
    report.close(&format!("clock-jump: {} jumps", orders.cycles as usize * jumps.len()))
}

async fn round(
    orders: &Orders,
    seed: u64,
    library: &Path,
    jumps: &[String],
    report: &mut Report,
) -> Result<()> {
    let mut choices = Choices::new(seed, "clock-jump");
    let mut server =
        Server::prepare(&orders.binary, &(town::configuration() + &clock_jwts::configuration()))?;
    let file = server.folder().join("time");
    set(&file, "+0")?;
    server.environment = faketime::changing(library, &file);
    server.start().await?;
    let site = Arc::new(Site::new(server.address, AUTH_KEY.to_owned()));
    let mut crowd = town::gather(&site, seed).await?;
    let mut bearers = Bearers::come(&site).await?;
    let mut jumped_between = Vec::new();
    for jump in jumps {
        set(&file, jump)?;
        let hours = faketime::hours(jump)?;
        date::until_ahead(&site, hours).await?;
        let from = site.now();
        bearers.jumped(&site, hours).await.with_context(|| format!("JWTs after the jump to {jump}"))?;
        sleep(choices.millis(1_000..=1_500)).await;
        crowd.complain().await.with_context(|| format!("after the jump to {jump}"))?;
        jumped_between.push((from, site.now()));
    }
    bearers.told().await?;
    let history = crowd.disperse().await?;
    stayed(&history, 1)?;
    for (from, until) in jumped_between {
        came_and_went(&history, from, until)?;
    }
    no_doubts(&history)?;
    report.add(&history, &server).await
}

/// A file that is never seen half written.
fn set(file: &Path, jump: &str) -> Result<()> {
    let next = file.with_extension("next");
    fs::write(&next, format!("{jump}\n"))?;
    Ok(fs::rename(&next, file)?)
}
