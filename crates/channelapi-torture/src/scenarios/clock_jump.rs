//! Somebody sets the wall clock while the server runs: nothing expires, nobody is disconnected, offsets go on.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::{Instant, sleep};

use super::disk_full::{came_and_went, stayed};
use super::{Orders, Report};
use crate::choices::Choices;
use crate::faketime;
use crate::http::{Http, Request};
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;
use crate::town;

/// For the server to see the new time: it tells it at most once a second.
const SEEN_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

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
    let mut server = Server::prepare(&orders.binary, &town::configuration())?;
    let file = server.folder().join("time");
    set(&file, "+0")?;
    server.environment = faketime::changing(library, &file);
    server.start().await?;
    let site = Arc::new(Site::new(server.address, AUTH_KEY.to_owned()));
    let mut crowd = town::gather(&site, seed).await?;
    let mut furthest = 0;
    let mut jumped_between = Vec::new();
    for jump in jumps {
        let before = date(&site).await?;
        set(&file, jump)?;
        let jumped = Instant::now();
        // A test that did not jump would prove nothing. The date in answers follows the clock forward at once, and back not
        // before it has caught up.
        let is_furthest = offset(jump)? > furthest;
        furthest = furthest.max(offset(jump)?);
        while is_furthest && date(&site).await? == before {
            ensure!(
                jumped.elapsed() < SEEN_MAX,
                "the server's clock still says {before} after the jump to {jump}"
            );
            sleep(POLL).await;
        }
        let from = site.now();
        sleep(choices.millis(1_000..=1_500)).await;
        crowd.complain().await.with_context(|| format!("after the jump to {jump}"))?;
        jumped_between.push((from, site.now()));
    }
    let history = crowd.disperse().await?;
    stayed(&history, 1)?;
    for (from, until) in jumped_between {
        came_and_went(&history, from, until)?;
    }
    report.add(&history, &server);
    Ok(())
}

/// Hours.
fn offset(jump: &str) -> Result<i64> {
    let (number, unit) =
        match jump.split_at(jump.trim_end_matches(|unit: char| unit.is_ascii_alphabetic()).len()) {
            (number, "h") => (number, 1),
            (number, "d") => (number, 24),
            (number, "y") => (number, 24 * 365),
            ("+0", "") => ("+0", 0),
            _ => bail!("{jump:?} is no jump: say how many hours, days or years, as in `-1h`"),
        };
    Ok(number.parse::<i64>().with_context(|| format!("{jump:?} has no number"))? * unit)
}

/// A file that is never seen half written.
fn set(file: &Path, jump: &str) -> Result<()> {
    let next = file.with_extension("next");
    fs::write(&next, format!("{jump}\n"))?;
    Ok(fs::rename(&next, file)?)
}

/// Year and hour, as the server's answers say.
async fn date(site: &Site) -> Result<String> {
    let mut http = Http::connect(site.address).await?;
    let response = http.exchange(&Request { method: "GET", path: "/healthz", headers: "", body: "" }).await?;
    let header = response.head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim())
    });
    // As in `Sun, 06 Nov 1994 08:49:37 GMT`.
    let header = header.context("an answer without a date")?;
    let date = header.get(12..19).with_context(|| format!("unusable date {header:?}"))?;
    Ok(date.to_owned())
}
