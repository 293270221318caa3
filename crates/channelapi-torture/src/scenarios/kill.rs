//! SIGKILL under load, and again while the server recovers from the last one.

use anyhow::Result;
use tokio::time::sleep;

use super::{Orders, Report, next_life, open};
use crate::choices::Choices;
use crate::crowd::Crowd;
use crate::server::Server;
use crate::town;

/// Cycles on one data directory, before its history is judged and the next one begins.
const CYCLES_PER_ROUND: u32 = 50;

/// Milliseconds that the server lives.
pub(crate) struct Lives {
    pub(crate) shortest: u64,
    pub(crate) longest: u64,
    /// Whether it is killed during its start as well.
    pub(crate) double: bool,
}

pub(crate) async fn run(orders: &Orders, lives: &Lives) -> Result<()> {
    let mut report = Report::new();
    let mut done = 0;
    while done < orders.cycles {
        let cycles = CYCLES_PER_ROUND.min(orders.cycles - done);
        // Rounds differ, and each can be run again by itself with its own seed.
        let seed = orders.seed + u64::from(done / CYCLES_PER_ROUND);
        round(orders, lives, cycles, seed, &mut report).await?;
        done += cycles;
        if done < orders.cycles {
            println!("{done} of {} cycles, {report}", orders.cycles);
        }
        if !report.is_clean() {
            break; // More of the same would only bury it.
        }
    }
    let name = if lives.double { "double-kill" } else { "kill" };
    report.close(&format!("{name}: {done} cycles"))
}

async fn round(orders: &Orders, lives: &Lives, cycles: u32, seed: u64, report: &mut Report) -> Result<()> {
    let mut choices = Choices::new(seed, "kill");
    let (mut server, site) = open(&orders.binary, &town::configuration()).await?;
    let mut crowd = town::gather(&site, seed).await?;
    for cycle in 0..cycles {
        sleep(choices.millis(lives.shortest..=lives.longest)).await;
        crowd.complain().await?;
        kill(&mut server, &crowd)?;
        if lives.double {
            for _ in 0..choices.number(1..=3) {
                server.launch()?;
                sleep(choices.millis(5..=200)).await;
                kill(&mut server, &crowd)?;
            }
        }
        server
            .start()
            .await
            .map_err(|error| error.context(format!("after kill {} of seed {seed}", cycle + 1)))?;
    }
    // What is stored must outlive the last kill without the help of the next load.
    let history = crowd.disperse().await?;
    report.add(&history, &server).await
}

fn kill(server: &mut Server, crowd: &Crowd) -> Result<()> {
    server.kill()?;
    next_life(&crowd.site);
    Ok(())
}
