//! The machine sleeps for longer than a client may take to answer a ping, and wakes up; then the server gets a tenth of a core. Nobody is
//! disconnected for that, and all goes on.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::disk_full::{came_and_went, stayed};
use super::{Orders, Report, no_doubts, open};
use crate::choices::Choices;
use crate::server::Server;
use crate::town;

/// A client that does not answer a ping within two seconds is gone.
const HEARTBEAT: &str = "\n[socketio]\nping_interval = \"2s\"\nping_timeout = \"2s\"\n";
const ASLEEP: Duration = Duration::from_secs(7);
/// Whoever waited for the server is served again within that time.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// How long the server starves, and what it gets meanwhile.
const STARVED: Duration = Duration::from_secs(6);
const RUNS: Duration = Duration::from_millis(10);
const STANDS: Duration = Duration::from_millis(90);

pub(crate) async fn run(orders: &Orders) -> Result<()> {
    let mut report = Report::new();
    for cycle in 0..orders.cycles {
        round(orders, orders.seed + u64::from(cycle), &mut report).await?;
    }
    report.close(&format!("suspend: {} times", orders.cycles))
}

async fn round(orders: &Orders, seed: u64, report: &mut Report) -> Result<()> {
    let mut choices = Choices::new(seed, "suspend");
    let (mut server, site) = open(&orders.binary, &(town::configuration() + HEARTBEAT)).await?;
    let mut crowd = town::gather(&site, seed).await?;
    sleep(choices.millis(300..=2_500)).await;
    kill_process(server.process()?, Signal::STOP)?;
    sleep(ASLEEP).await;
    kill_process(server.process()?, Signal::CONT)?;
    let awake = site.now();
    sleep(CATCH_UP_MAX).await;
    let caught_up = site.now();
    // Long enough for everybody to be asked whether it is there.
    sleep(Duration::from_millis(4_500)).await;
    crowd.complain().await.context("after it slept")?;
    starve(&server).await?;
    sleep(CATCH_UP_MAX).await;
    crowd.complain().await.context("after it starved")?;
    let history = crowd.disperse().await?;
    stayed(&history, 1)?;
    came_and_went(&history, awake, caught_up)?;
    no_doubts(&history)?;
    report.add(&history, &server).await?;
    server.stop().await
}

async fn starve(server: &Server) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < STARVED {
        kill_process(server.process()?, Signal::STOP)?;
        sleep(STANDS).await;
        kill_process(server.process()?, Signal::CONT)?;
        sleep(RUNS).await;
    }
    Ok(())
}
