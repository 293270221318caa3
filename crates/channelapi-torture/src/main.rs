//! Torture: breaks a real server on purpose, under load, and proves from what everybody saw that nothing accepted was
//! lost and that nobody was left in the dark.
//!
//! It shares no code with the server. All servers are children of this process, on loopback, in directories of their
//! own, and die with it.

mod abuse;
mod archive;
mod broken;
mod cgroup;
mod checker;
mod choices;
mod client;
mod crowd;
mod date;
mod event_stream;
mod faketime;
mod follower;
mod history;
mod http;
mod jwt;
mod link;
mod machine;
mod packet;
mod publisher;
mod relay;
mod scenarios;
mod server;
mod site;
mod symptoms;
mod timing;
mod town;
mod trace;
mod websocket;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::machine::Skipped;
use crate::scenarios::disk_full::Obstacle;
use crate::scenarios::kill::Lives;
use crate::scenarios::{
    Orders, bit_rot, clock, clock_jump, disk_full, failing, half_open, kill, power_cut, restart,
    restored_backup, rolling, second_process, short_memory, slow, slow_link, suspend, sync_order,
};

/// Breaks the server on purpose and proves that nothing accepted was lost.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    /// The server [default: the release build, else the debug build]
    #[arg(long, global = true, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Repeats the choices of an earlier run [default: random]
    #[arg(long, global = true, value_name = "NUMBER")]
    seed: Option<u64>,
}

#[derive(Subcommand)]
enum Scenario {
    /// SIGKILL under load
    Kill {
        #[command(flatten)]
        cycles: Cycles,
        #[command(flatten)]
        lives: LivesArguments,
    },
    /// SIGKILL under load, and again 5 to 200 ms after the next starts
    DoubleKill {
        #[command(flatten)]
        cycles: Cycles,
        #[command(flatten)]
        lives: LivesArguments,
    },
    /// SIGTERM under load, as in a rolling restart
    Restart {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// A second server on the same directory
    SecondProcess {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// The directory is replaced by an older copy of itself
    RestoredBackup {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// Clients that do not read
    Slow {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// Clients behind links that pass little
    SlowLink {
        #[command(flatten)]
        cycles: Cycles,
        /// What each link passes a second, in KiB
        #[arg(long, value_name = "KIB", default_value_t = 96)]
        rate: u64,
    },
    /// A container with little memory is flooded
    ShortMemory {
        #[command(flatten)]
        cycles: Cycles,
        /// How long
        #[arg(long, value_name = "N", default_value_t = 4)]
        seconds: u64,
    },
    /// strace watches that nothing is answered before it is synced
    SyncOrder {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// A flipped bit or a cut file, each time in a copy of a data directory
    BitRot {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// The disk is full, and later it is not
    DiskFull {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// The disk is read-only, and later it is not
    ReadOnly {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// A sync fails, a write fails, the process dies at every step of storing; needs a server with failpoints
    Failing {
        #[command(flatten)]
        cycles: Cycles,
        #[command(flatten)]
        failing: FailingServer,
    },
    /// Small segments are removed and rewritten, and the process dies of it; needs a server with failpoints
    Rolling {
        #[command(flatten)]
        cycles: Cycles,
        #[command(flatten)]
        failing: FailingServer,
    },
    /// The power fails: a server starts on copies of the disk of another
    PowerCut {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// The machine sleeps and wakes up, and the server gets a tenth of a core
    Suspend {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// A link goes down, and a thousand clients vanish without a word
    HalfOpen {
        #[command(flatten)]
        cycles: Cycles,
    },
    /// Clients with JWTs of all kinds, of which nothing stays
    Issuers {
        /// Clients, one after the other
        #[arg(long, value_name = "N", default_value_t = 2_000)]
        count: u32,
    },
    /// Everything that somebody can send and should not
    Abuse {
        /// Only the cases of these rows, as `E5,S9`
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// One case after the other, each judged by its own counters: six minutes
        #[arg(long)]
        alone: bool,
        /// Name the cases and run none
        #[arg(long)]
        list: bool,
    },
    /// Whether the time that the server takes tells how much of a secret was right
    Timing {
        /// Wrong secrets of each kind
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        count: u32,
    },
    /// Jumps of the wall clock between restarts
    Clock {
        #[command(flatten)]
        cycles: Cycles,
        #[command(flatten)]
        faketime: Faketime,
        /// Where the clock goes, against the real time
        #[arg(long, value_delimiter = ',', allow_hyphen_values = true, default_value = "+1h,-1h,+1h,+0")]
        jumps: Vec<String>,
    },
    /// Jumps of the wall clock while the server runs
    ClockJump {
        #[command(flatten)]
        cycles: Cycles,
        #[command(flatten)]
        faketime: Faketime,
        /// Where the clock goes, against the real time; each to another hour
        #[arg(
            long,
            value_delimiter = ',',
            allow_hyphen_values = true,
            default_value = "+1h,-1h,+10y,-10y,+0"
        )]
        jumps: Vec<String>,
    },
}

#[derive(Args)]
struct Cycles {
    /// How often [default: as often as a short test allows]
    #[arg(long, value_name = "N")]
    cycles: Option<u32>,
}

/// Not called like the scenario: clap has groups by the names of both.
#[derive(Args)]
struct FailingServer {
    /// The server that can be told to fail [default: `channelapi-failpoints`, beside the server]
    #[arg(long, value_name = "FILE")]
    failing_server: Option<PathBuf>,
}

#[derive(Args)]
struct Faketime {
    /// The library [default: where Debian's package puts it]
    #[arg(long, value_name = "FILE")]
    libfaketime: Option<PathBuf>,
}

#[derive(Args)]
struct LivesArguments {
    /// Shortest time under load
    #[arg(long, value_name = "MS", default_value_t = 50)]
    shortest: u64,
    /// Longest time under load
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    longest: u64,
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(skipped) = error.downcast_ref::<Skipped>() {
                println!("{skipped}");
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<()> {
    let binary = arguments.server.clone().map_or_else(built_server, Ok)?;
    ensure!(
        binary.is_file(),
        "there is no server at {}; build it, or name it with --server",
        binary.display()
    );
    let binary = binary.canonicalize()?;
    let seed = arguments.seed.unwrap_or_else(choices::random_seed);
    if !machine::is_secluded() {
        println!("seed {seed}");
    }
    // One thread: the server under torture gets the other cores.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Giving up drops the scenario, and with it every server that it has started.
        tokio::select! {
            done = run(&arguments.scenario, binary, seed) => done.with_context(|| format!("with seed {seed}")),
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn run(scenario: &Scenario, binary: PathBuf, seed: u64) -> Result<()> {
    let server = binary.clone();
    let orders =
        |given: &Cycles, otherwise| Orders { binary, cycles: given.cycles.unwrap_or(otherwise), seed };
    match scenario {
        Scenario::Abuse { list: true, .. } => {
            abuse::list();
            Ok(())
        }
        Scenario::Issuers { count } => abuse::issuers::run(&server, *count).await,
        Scenario::Abuse { only, alone, .. } => {
            abuse::run(&server, abuse::Choice { only, alone: *alone }).await
        }
        Scenario::Timing { count } => timing::run(&server, *count, seed).await,
        Scenario::SyncOrder { cycles } => sync_order::run(&orders(cycles, 1)).await,
        Scenario::BitRot { cycles } => bit_rot::run(&orders(cycles, 50)).await,
        Scenario::DiskFull { cycles } => disk_full::run(&orders(cycles, 1), Obstacle::Full).await,
        Scenario::ReadOnly { cycles } => disk_full::run(&orders(cycles, 1), Obstacle::ReadOnly).await,
        Scenario::Failing { cycles, failing } => {
            failing::run(&orders(cycles, 1), failing.failing_server.as_deref()).await
        }
        Scenario::Rolling { cycles, failing } => {
            rolling::run(&orders(cycles, 1), failing.failing_server.as_deref()).await
        }
        Scenario::Suspend { cycles } => suspend::run(&orders(cycles, 1)).await,
        Scenario::HalfOpen { cycles } => half_open::run(&orders(cycles, 1)).await,
        Scenario::Kill { cycles, lives } => kill::run(&orders(cycles, 50), &lives.read(false)?).await,
        Scenario::Restart { cycles } => restart::run(&orders(cycles, 10)).await,
        Scenario::DoubleKill { cycles, lives } => kill::run(&orders(cycles, 20), &lives.read(true)?).await,
        Scenario::SecondProcess { cycles } => second_process::run(&orders(cycles, 2)).await,
        Scenario::RestoredBackup { cycles } => restored_backup::run(&orders(cycles, 5)).await,
        Scenario::Slow { cycles } => slow::run(&orders(cycles, 1)).await,
        Scenario::SlowLink { cycles, rate } => slow_link::run(&orders(cycles, 1), rate << 10).await,
        Scenario::ShortMemory { cycles, seconds } => short_memory::run(&orders(cycles, 1), *seconds).await,
        Scenario::PowerCut { cycles } => power_cut::run(&orders(cycles, 10)).await,
        Scenario::Clock { cycles, faketime, jumps } => {
            clock::run(&orders(cycles, 1), faketime.libfaketime.as_deref(), jumps).await
        }
        Scenario::ClockJump { cycles, faketime, jumps } => {
            clock_jump::run(&orders(cycles, 1), faketime.libfaketime.as_deref(), jumps).await
        }
    }
}

impl LivesArguments {
    fn read(&self, double: bool) -> Result<Lives> {
        let (shortest, longest) = (self.shortest, self.longest);
        ensure!(
            shortest <= longest,
            "the shortest life ({shortest} ms) is longer than the longest ({longest} ms)"
        );
        Ok(Lives { shortest, longest, double })
    }
}

/// Beside this program, or in the sister directory.
fn built_server() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let target =
        own.parent().and_then(|profile| profile.parent()).context("this program has no directory")?;
    let builds = ["release", "debug"].map(|profile| target.join(profile).join("channelapi"));
    let found = builds.into_iter().find(|binary| binary.is_file());
    found.context(
        "the server is not built: `cargo build --release --package channelapi`, or name it with --server",
    )
}
