//! What is done to the server, one file per fault.

pub(crate) mod bit_rot;
pub(crate) mod clock;
pub(crate) mod clock_jump;
mod clock_jwts;
pub(crate) mod disk_full;
pub(crate) mod failing;
pub(crate) mod half_open;
pub(crate) mod kill;
pub(crate) mod power_cut;
pub(crate) mod read_only;
pub(crate) mod restart;
pub(crate) mod restored_backup;
pub(crate) mod rolling;
pub(crate) mod second_process;
pub(crate) mod short_memory;
pub(crate) mod slow;
pub(crate) mod slow_link;
pub(crate) mod suspend;
pub(crate) mod sync_order;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::checker::Verdict;
use crate::history::History;
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;
use crate::symptoms;

/// What every scenario is told.
pub(crate) struct Orders {
    pub(crate) binary: PathBuf,
    pub(crate) cycles: u32,
    pub(crate) seed: u64,
}

/// How a run ended.
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    /// What servers said of themselves.
    symptoms: Vec<String>,
    pub(crate) slowest_start: Duration,
}

impl Report {
    fn new() -> Self {
        Self { verdict: Verdict::default(), symptoms: Vec::new(), slowest_start: Duration::ZERO }
    }

    /// Judges what everybody saw of a server, which still runs, and what it says of itself.
    async fn add(&mut self, history: &History, server: &Server) -> Result<()> {
        self.verdict.merge(Verdict::on(history));
        self.slowest_start = self.slowest_start.max(server.slowest_start);
        self.symptoms.extend(symptoms::of(server).await.context("when the server was asked how it is")?);
        Ok(())
    }

    fn is_clean(&self) -> bool {
        self.verdict.findings.is_clean() && self.symptoms.is_empty()
    }

    /// Says what was found; an error if that is anything.
    fn close(&self, title: &str) -> Result<()> {
        let verdict = &self.verdict;
        if !verdict.findings.is_clean() {
            println!("{}", verdict.findings);
        }
        for symptom in &self.symptoms {
            println!("the server said: {symptom}");
        }
        println!("{title}, {self}");
        match self.is_clean() {
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

/// Fails if a publisher was left in doubt, which is right only where something breaks.
fn no_doubts(history: &History) -> Result<()> {
    let mut doubtful = history.publishes.iter().filter(|publish| publish.doubtful.is_some());
    match doubtful.next() {
        None => Ok(()),
        Some(first) => bail!(
            "nothing broke, and nobody knows what came of {} publications, as of this one: {}",
            1 + doubtful.count(),
            history.publish_line(first)
        ),
    }
}

/// The server is down: what starts next is another life.
fn next_life(site: &Site) {
    site.change(|situation| situation.life.0 += 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Channel, ChannelId, MessageId, Outcome, Publish, Time};

    #[test]
    fn publisher_that_was_left_in_doubt_is_seen() {
        let history = |doubtful| History {
            channels: vec![Channel { name: "a".to_owned(), durable: true, max_messages: None }],
            publishes: vec![Publish {
                id: MessageId { publisher: 0, number: 0 },
                channel: ChannelId(0),
                keyed: true,
                ttl: None,
                batch: None,
                invoked: Time::default(),
                doubtful,
                outcome: Outcome::Stored(Vec::new()),
            }],
            ..History::default()
        };
        assert!(no_doubts(&history(None)).is_ok());
        assert!(no_doubts(&history(Some(Time::default()))).is_err());
    }

    #[test]
    fn server_that_speaks_of_a_panic_is_not_clean() {
        let mut report = Report::new();
        assert!(report.is_clean());
        report.symptoms.push("it panicked".to_owned());
        assert!(!report.is_clean() && report.close("test").is_err());
    }
}
