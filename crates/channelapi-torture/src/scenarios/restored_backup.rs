//! The data directory is replaced by an older copy of itself, and publishing goes on.
//!
//! Clients that saw more than the copy holds have to be told; those that were away all the time miss nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use super::{Orders, Report, next_life, open};
use crate::choices::Choices;
use crate::history::Restore;
use crate::town;

/// Milliseconds of load between two steps.
const LOAD: std::ops::RangeInclusive<u64> = 300..=1500;

pub(crate) async fn run(orders: &Orders) -> Result<()> {
    let mut report = Report::new();
    for cycle in 0..orders.cycles {
        round(orders, orders.seed + u64::from(cycle), &mut report).await?;
    }
    report.close(&format!("restored-backup: {} restores", orders.cycles))
}

async fn round(orders: &Orders, seed: u64, report: &mut Report) -> Result<()> {
    let mut choices = Choices::new(seed, "restored-backup");
    let (mut server, site) = open(&orders.binary, &town::configuration()).await?;
    let mut crowd = town::gather(&site, seed).await?;
    let copy = server.folder().join("copy");

    sleep(choices.millis(LOAD)).await;
    crowd.complain().await?;
    server.stop().await?;
    next_life(&site);
    let copied = site.now();
    copy_directory(&server.data_dir(), &copy)?;

    server.start().await?;
    sleep(choices.millis(LOAD)).await;
    crowd.complain().await?;
    server.kill()?;
    next_life(&site);
    fs::remove_dir_all(server.data_dir())?;
    fs::rename(&copy, server.data_dir())?;
    site.change(|situation| situation.branch.0 += 1);
    crowd.restores.push(Restore { copied });

    server.start().await?;
    sleep(choices.millis(LOAD)).await;
    let history = crowd.disperse().await?;
    report.add(&history, &server).await
}

pub(super) fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            ensure!(kind.is_file(), "{} is neither file nor directory", entry.path().display());
            fs::copy(entry.path(), &target)?;
        }
    }
    // The server asks for a directory that nobody else can read.
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    Ok(())
}
