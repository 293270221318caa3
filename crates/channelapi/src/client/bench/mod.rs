//! `bench`: what a running server can take, measured from here.
//!
//! Invariants: every count and time has a limit, so that a run ends by itself; Ctrl-C ends it at once, with what was measured so
//! far; nothing that went wrong is left out of the result.

mod connect;
mod course;
mod crowd;
mod fanout;
mod inbox;
mod pace;
mod progress;
mod publish;
mod publisher;
mod report;
mod resume;
mod seen;
mod socket;
mod tally;

use std::{io, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use self::{course::Course, progress::Progress, report::Report};
use super::{Failed, Target};
use crate::output::print;

/// Most connections of one run: four times what one address has ports for, and a few hundred MiB on this side.
pub const CONNECTIONS_MAX: u64 = 100_000;

/// Most publishers of one run.
pub const PUBLISHERS_MAX: u64 = 10_000;

/// Longest run.
pub const DURATION_MAX: Duration = Duration::from_hours(1);

/// Highest rate; a program on one core does not reach it.
pub const RATE_MAX: f64 = 1_000_000.0;

/// Most publications of a run that looks at each of them, which takes 12 bytes per publication.
pub const PUBLICATIONS_MAX: f64 = 10_000_000.0;

/// Least data: the mark of the run and the number of the publication.
pub const SIZE_MIN: usize = 64;

/// Most data: what a server takes.
pub const SIZE_MAX: usize = 256 << 10;

/// Descriptors that the program needs besides those of its connections.
const DESCRIPTORS_BESIDES: u64 = 128;

/// What to do to a server.
#[derive(Debug)]
pub struct Bench {
    /// Where the API is.
    pub target: Target,
    /// What is measured.
    pub load: Load,
    /// How many clients, or publishers.
    pub connections: u64,
    /// Connections or publications a second; as fast as possible without it.
    pub rate: Option<f64>,
    /// How long.
    pub duration: Duration,
    /// The channel.
    pub channel: String,
    /// Bytes of each publication's data.
    pub size: usize,
    /// Whether nothing is stored.
    pub is_volatile: bool,
    /// Print JSON.
    pub json: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Clients that come and stay.
    Connect,
    /// Publications to everybody.
    Fanout,
    /// Publications that nobody listens to.
    Publish {
        /// Over how many channels they are spread.
        channels: u64,
    },
    /// Clients that are cut off and come back.
    Resume {
        /// How often each is.
        every: Duration,
        /// How long it stays away.
        away: Duration,
    },
}

impl Load {
    /// Its verb.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Fanout => "fanout",
            Self::Publish { .. } => "publish",
            Self::Resume { .. } => "resume",
        }
    }
}

pub(super) async fn run(bench: Bench) -> Result<(), Failed> {
    allow_connections(bench.connections)?;
    let cannot = |error: io::Error| Failed(format!("cannot wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let course = Course::new(bench)?;
    let progress = Progress::new(&course);
    let is_interrupted = tokio::select! {
        ended = play(&course) => {
            if let Err(failed) = ended {
                progress.end();
                return Err(failed);
            }
            false
        }
        never = progress.show() => match never {},
        _ = interrupt.recv() => true,
        _ = terminate.recv() => true,
    };
    progress.end();
    let report = Report::new(&course, is_interrupted);
    print(&if course.bench.json { report.json() } else { report.table() });
    report.verdict()
}

async fn play(course: &Course) -> Result<(), Failed> {
    match course.bench.load {
        Load::Connect => connect::run(course).await,
        Load::Fanout => fanout::run(course).await,
        Load::Publish { channels } => publish::run(course, channels).await,
        Load::Resume { every, away } => resume::run(course, every, away).await,
    }
}

/// Each connection is a file descriptor; the usual soft limit is 1,024.
fn allow_connections(count: u64) -> Result<(), Failed> {
    let needed = count + DESCRIPTORS_BESIDES;
    let unknown = |error: io::Error| Failed(format!("cannot tell how many files may be open: {error}"));
    let (soft, hard) = rlimit::Resource::NOFILE.get().map_err(unknown)?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(Failed(format!(
            "{count} connections need {needed} open files, and the limit here is {hard}; use fewer, or raise it (`ulimit -Hn`)"
        )));
    }
    let raised = rlimit::Resource::NOFILE.set(needed, hard);
    raised.map_err(|error| Failed(format!("cannot raise the limit of open files to {needed}: {error}")))
}
