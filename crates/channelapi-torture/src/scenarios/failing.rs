//! The server dies or fails at every step of storing a group, where it was told to: after the append, before the sync,
//! between the index and the delivery, while it answers.
//!
//! It takes a server built with the feature `failpoints`, which no release is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use super::{Orders, Report, next_life, open};
use crate::choices::Choices;
use crate::crowd::Crowd;
use crate::machine::skipped;
use crate::server::Server;
use crate::town;

/// What sysexits calls an I/O error.
const EXIT_IO: i32 = 74;
/// From the first refusal until the process has ended.
const EXIT_MAX: Duration = Duration::from_secs(1);
/// For a machine that has other things to do. Without an end of its own the server would go on for ever.
const EXIT_NOISE: Duration = Duration::from_secs(9);
/// For the failure to be met: so many groups come in much less time.
const PATIENCE: Duration = Duration::from_secs(30);
/// For whoever was refused to say so.
const TURN_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(1);
/// Groups before the failure. The first sync of a life is one of its start, which would end without having refused anybody.
const GROUPS: std::ops::RangeInclusive<u64> = 2..=300;

/// What must come of a failure.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    /// The process is gone, as after SIGKILL.
    Dies,
    /// Publishers are refused, and the process ends soon with [`EXIT_IO`].
    Closes,
    /// The publishers of one group are refused with this status, which this counter counts, and everything goes on.
    Refuses(u16, &'static str),
}

const FAILURES: [(&str, Outcome); 11] = [
    ("append:abort", Outcome::Dies),
    ("after-append:abort", Outcome::Dies),
    ("sync:abort", Outcome::Dies),
    ("after-sync:abort", Outcome::Dies),
    ("before-index:abort", Outcome::Dies),
    ("before-deliver:abort", Outcome::Dies),
    ("before-answer:abort", Outcome::Dies),
    ("sync:error", Outcome::Closes),
    ("before-index:panic", Outcome::Closes),
    ("append:error", Outcome::Refuses(503, r#"channelapi_requests_refused_total{reason="unavailable"}"#)),
    ("append:full", Outcome::Refuses(507, r#"channelapi_requests_refused_total{reason="storage_full"}"#)),
];

pub(crate) async fn run(orders: &Orders, failing: Option<&Path>) -> Result<()> {
    let binary = failing_binary(orders, failing)?;
    let mut report = Report::new();
    for cycle in 0..orders.cycles {
        let seed = orders.seed + u64::from(cycle);
        let mut choices = Choices::new(seed, "failing");
        let (mut server, site) = open(&binary, &town::configuration()).await?;
        let mut crowd = town::gather(&site, seed).await?;
        for (failure, outcome) in FAILURES {
            let failpoint = format!("{failure}:{}", choices.number(GROUPS));
            fail(&mut server, &mut crowd, &failpoint, outcome)
                .await
                .with_context(|| format!("{failpoint} with seed {seed}"))?;
        }
        let history = crowd.disperse().await?;
        report.add(&history, &server).await?;
    }
    report.close(&format!("failing: {} failures", FAILURES.len() * orders.cycles as usize))
}

/// The server that can be told to fail.
pub(super) fn failing_binary(orders: &Orders, failing: Option<&Path>) -> Result<PathBuf> {
    let beside = || orders.binary.with_file_name("channelapi-failpoints");
    let binary = failing.map_or_else(beside, PathBuf::from);
    if !binary.is_file() {
        return Err(skipped(format!(
            "there is no server with failpoints at {}; `cargo xtask torture` builds one",
            binary.display()
        )));
    }
    Ok(binary.canonicalize()?)
}

/// From one healthy server to the next, with a failure in between.
pub(super) async fn fail(
    server: &mut Server,
    crowd: &mut Crowd,
    failpoint: &str,
    outcome: Outcome,
) -> Result<()> {
    server.kill()?;
    next_life(&crowd.site);
    let refusals = |crowd: &Crowd, statuses: &[u16]| crowd.site.refusals(statuses);
    let closing = &[503, 504];
    let before = match outcome {
        Outcome::Refuses(status, _) => refusals(crowd, &[status]),
        Outcome::Dies | Outcome::Closes => refusals(crowd, closing),
    };
    server.environment.push(("CHANNELAPI_FAILPOINT".to_owned(), failpoint.to_owned()));
    server.launch()?;
    // What starts next does not fail again.
    server.environment.pop();
    match outcome {
        Outcome::Dies => {
            let status = server.ended(PATIENCE).await?;
            ensure!(status.code().is_none(), "the server ended with {status} and not by a signal");
        }
        Outcome::Closes => {
            let mut refused = None;
            let end = Instant::now() + PATIENCE;
            while !server.has_ended()? {
                ensure!(Instant::now() < end, "the server did not end; it said:\n{}", server.log());
                if refusals(crowd, closing) > before {
                    refused.get_or_insert_with(Instant::now);
                }
                sleep(POLL).await;
            }
            let took = refused.map(|refused| refused.elapsed());
            // It may have ended before those who were refused had a turn.
            let end = Instant::now() + TURN_MAX;
            while took.is_none() && refusals(crowd, closing) == before {
                ensure!(Instant::now() < end, "the server ended before it refused anything");
                sleep(POLL).await;
            }
            let code = server.ended(PATIENCE).await?.code();
            ensure!(code == Some(EXIT_IO), "the server ended with {code:?} and not with {EXIT_IO}");
            let is_soon = took.is_none_or(|took| took <= EXIT_MAX + EXIT_NOISE);
            ensure!(is_soon, "the server ended {took:?} after it had refused");
        }
        Outcome::Refuses(status, counter) => {
            let end = Instant::now() + PATIENCE;
            while refusals(crowd, &[status]) == before {
                ensure!(Instant::now() < end, "nobody was refused with {status}; it said:\n{}", server.log());
                ensure!(!server.has_ended()?, "the server ended; it said:\n{}", server.log());
                sleep(POLL).await;
            }
            let page = server.metrics().await?;
            let value = page.lines().find_map(|line| line.strip_prefix(counter));
            ensure!(value.is_some_and(|value| value != " 0"), "{counter} is {value:?}");
            healed(server, crowd).await?;
            server.kill()?;
        }
    }
    crowd.complain().await?;
    next_life(&crowd.site);
    server.start().await
}

/// The crowd publishes on: it is enough to see it not refused for a while.
async fn healed(server: &mut Server, crowd: &Crowd) -> Result<()> {
    const QUIET: Duration = Duration::from_millis(200);
    let all = || crowd.site.refusals(&[503, 504, 507]);
    let end = Instant::now() + PATIENCE;
    loop {
        let before = all();
        sleep(QUIET).await;
        if all() == before {
            return Ok(());
        }
        ensure!(Instant::now() < end, "publishers are still refused; it said:\n{}", server.log());
    }
}
