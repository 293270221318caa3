//! The wall clock jumps between two starts: nothing expires at once, offsets go on, tokens stay valid.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::{Orders, Report, next_life, open};
use crate::choices::Choices;
use crate::town;

/// Where Debian's package `libfaketime` puts it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The jumps are against the real time, in libfaketime's words.
pub(crate) async fn run(orders: &Orders, library: Option<&Path>, jumps: &[String]) -> Result<()> {
    let library = library.map(Path::to_owned).or_else(installed).context(
        "libfaketime is not installed: install Debian's package `libfaketime`, or name the library with --libfaketime",
    )?;
    let mut report = Report::new();
    let mut choices = Choices::new(orders.seed, "clock");
    let (mut server, site) = open(&orders.binary, &town::configuration()).await?;
    let mut crowd = town::gather(&site, orders.seed).await?;
    for jump in (0..orders.cycles).flat_map(|_| jumps) {
        sleep(choices.millis(300..=800)).await;
        crowd.complain().await.with_context(|| format!("before the jump to {jump}"))?;
        server.stop().await?;
        next_life(&site);
        server.environment = environment(&library, jump);
        server.start().await.with_context(|| format!("the clock jumped to {jump}"))?;
    }
    sleep(choices.millis(300..=800)).await;
    let history = crowd.disperse().await?;
    report.add(&history, &server);
    report.close(&format!("clock: {} jumps", orders.cycles as usize * jumps.len()))
}

/// Time since the start stays real, as it does when somebody sets the clock.
fn environment(library: &Path, jump: &str) -> Vec<(String, String)> {
    vec![
        ("LD_PRELOAD".to_owned(), library.display().to_string()),
        ("FAKETIME".to_owned(), jump.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
        ("DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ]
}

fn installed() -> Option<PathBuf> {
    LIBRARIES.iter().map(PathBuf::from).find(|path| path.exists())
}
