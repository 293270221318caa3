//! The wall clock jumps between two starts: nothing expires at once, offsets go on, tokens stay valid.
//!
//! A server believes the clock that it finds when it starts, for it has no other. So a jump may be no longer than what lives
//! shortest here: ten years would let every token expire, and rightly. `clock_jump.rs` does that to a server that runs.

use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::{Orders, Report, next_life, open};
use crate::choices::Choices;
use crate::town;
use crate::{date, faketime};

/// The jumps are against the real time, in libfaketime's words.
pub(crate) async fn run(orders: &Orders, library: Option<&Path>, jumps: &[String]) -> Result<()> {
    let library = faketime::library(library)?;
    let mut report = Report::new();
    let mut choices = Choices::new(orders.seed, "clock");
    let (mut server, site) = open(&orders.binary, &town::configuration()).await?;
    let mut crowd = town::gather_without_ends(&site, orders.seed).await?;
    for jump in (0..orders.cycles).flat_map(|_| jumps) {
        sleep(choices.millis(300..=800)).await;
        crowd.complain().await.with_context(|| format!("before the jump to {jump}"))?;
        server.stop().await?;
        next_life(&site);
        server.environment = faketime::fixed(&library, jump);
        server.start().await.with_context(|| format!("the clock jumped to {jump}"))?;
        date::until_ahead(&site, faketime::hours(jump)?).await?;
    }
    sleep(choices.millis(300..=800)).await;
    let history = crowd.disperse().await?;
    report.add(&history, &server).await?;
    report.close(&format!("clock: {} jumps", orders.cycles as usize * jumps.len()))
}
