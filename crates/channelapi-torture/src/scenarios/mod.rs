//! What is done to the server, one file per fault.

pub(crate) mod bit_rot;
pub(crate) mod clock;
pub(crate) mod clock_jump;
pub(crate) mod disk_full;
pub(crate) mod failing;
pub(crate) mod half_open;
pub(crate) mod kill;
pub(crate) mod power_cut;
pub(crate) mod read_only;
pub(crate) mod restored_backup;
pub(crate) mod second_process;
pub(crate) mod slow;
pub(crate) mod sync_order;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::checker::Verdict;
use crate::history::History;
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;

/// What every scenario is told.
pub(crate) struct Orders {
    pub(crate) binary: PathBuf,
    pub(crate) cycles: u32,
    pub(crate) seed: u64,
}

/// How a run ended.
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    pub(crate) slowest_start: Duration,
}

impl Report {
    fn new() -> Self {
        Self { verdict: Verdict::default(), slowest_start: Duration::ZERO }
    }

    fn add(&mut self, history: &History, server: &Server) {
        self.verdict.merge(Verdict::on(history));
        self.slowest_start = self.slowest_start.max(server.slowest_start);
    }

    /// Says what was found; an error if that is anything.
    fn close(&self, title: &str) -> Result<()> {
        let verdict = &self.verdict;
        if !verdict.findings.is_clean() {
            println!("{}", verdict.findings);
        }
        println!("{title}, {self}");
        match verdict.findings.is_clean() {
            true if verdict.accepted == 0 || verdict.deliveries == 0 => {
                bail!("nothing happened, so nothing is proven")
            }
            true => Ok(()),
            false => bail!("the server broke its promise"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, slowest start {} ms", self.verdict.line(), self.slowest_start.as_millis())
    }
}

/// A fresh server that runs, and the site around it.
async fn open(binary: &Path, configuration: &str) -> Result<(Server, Arc<Site>)> {
    let mut server = Server::prepare(binary, configuration)?;
    server.start().await?;
    let site = Arc::new(Site::new(server.address, AUTH_KEY.to_owned()));
    Ok((server, site))
}

/// The server is down: what starts next is another life.
fn next_life(site: &Site) {
    site.change(|situation| situation.life.0 += 1);
}
