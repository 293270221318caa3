//! SIGTERM under load, and another server in its place, as in a rolling restart: it ends in time, whoever is there is sent away and comes back
//! by itself, and nothing is lost.

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{Orders, Report, next_life, open};
use crate::choices::Choices;
use crate::town;

/// Milliseconds from a start to the next stop.
const LIFE: std::ops::RangeInclusive<u64> = 300..=1_500;

/// Long enough for all of the crowd to be sent away, and for what is under way to be done.
const DRAIN: &str = "\n[drain]\ntimeout = \"4s\"\n";

pub(crate) async fn run(orders: &Orders) -> Result<()> {
    let mut report = Report::new();
    let mut choices = Choices::new(orders.seed, "restart");
    let (mut server, site) = open(&orders.binary, &(town::configuration() + DRAIN)).await?;
    let mut crowd = town::gather(&site, orders.seed).await?;
    for cycle in 1..=orders.cycles {
        sleep(choices.millis(LIFE)).await;
        crowd.complain().await?;
        server.stop().await?;
        next_life(&crowd.site);
        server.start().await.map_err(|error| error.context(format!("after stop {cycle}")))?;
    }
    // A client that polled and has broken off is waited for until the time is over, as it may come for its last answer.
    let log = server.whole_log();
    let mut in_vain = log.lines().filter(|line| line.contains("the time to stop is over"));
    let unanswered = in_vain.find(|line| !line.contains(r#""streams":0,"requests":0"#));
    ensure!(unanswered.is_none(), "what was under way at a stop was not done: {unanswered:?}");
    // What is stored must be there without the help of the next load.
    let history = crowd.disperse().await?;
    report.add(&history, &server).await?;
    report.close(&format!("restart: {} stops", orders.cycles))
}
