//! Who takes part. A new contender is a variant here and a file in `stores/`.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::stores::Store;
use crate::stores::fjall::Fjall;
use crate::stores::floor::Floor;
use crate::stores::log::{Callers, Log};
use crate::stores::redb::Redb;
use crate::stores::redis::{self, Redis};
use crate::stores::sqlite::Sqlite;

/// A store to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    /// The product's log, with as many publishers waiting as the batch has records.
    Log,
    /// The product's log, with one caller that hands over whole batches, as the other contenders get them.
    LogBatch,
    /// fjall: an LSM tree.
    Fjall,
    /// redb: a copy-on-write B-tree, with two-phase commit.
    Redb,
    /// SQLite: WAL, synchronous=FULL.
    Sqlite,
    /// A Redis server with appendfsync always: XADD, pipelined, over a Unix socket.
    Redis,
    /// No store at all: bytes behind each other in one file, and fdatasync.
    Floor,
}

impl Contender {
    pub(crate) const ALL: [Self; 7] =
        [Self::Log, Self::LogBatch, Self::Fjall, Self::Redb, Self::Sqlite, Self::Redis, Self::Floor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::LogBatch => "log-batch",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
            Self::Floor => "floor",
        }
    }

    /// Opens the store in a folder, which may be empty or hold what a killed process has left.
    pub(crate) fn open(self, folder: &Path) -> Result<Box<dyn Store>> {
        Ok(match self {
            Self::Log => Box::new(Log::open(folder, Callers::Many)?),
            Self::LogBatch => Box::new(Log::open(folder, Callers::One)?),
            Self::Fjall => Box::new(Fjall::open(folder)?),
            Self::Redb => Box::new(Redb::open(folder)?),
            Self::Sqlite => Box::new(Sqlite::open(folder)?),
            Self::Redis => Box::new(Redis::open(folder)?),
            Self::Floor => Box::new(Floor::open(folder)?),
        })
    }

    /// Whether it can be measured here; says so if not.
    pub(crate) fn is_available(self) -> bool {
        let is_there = self != Self::Redis || [redis::PROGRAM, redis::TIE].into_iter().all(runs);
        if !is_there {
            eprintln!(
                "redis is left out: {} and {} must be in PATH (Debian has them in redis-server and util-linux)",
                redis::PROGRAM,
                redis::TIE
            );
        }
        is_there
    }

    /// Which version is measured, for the report.
    pub(crate) fn version(self) -> String {
        let locked = |package: &str| {
            let after =
                include_str!("../Cargo.lock").split_once(&format!("name = \"{package}\"\nversion = \""));
            after.and_then(|(_, after)| after.split('"').next()).unwrap_or("?").to_owned()
        };
        match self {
            Self::Log | Self::LogBatch => format!("channelapi-core {}", locked("channelapi-core")),
            Self::Fjall => format!("fjall {}", locked("fjall")),
            Self::Redb => format!("redb {}", locked("redb")),
            Self::Sqlite => format!("SQLite {}", rusqlite::version()),
            Self::Redis => redis::version(),
            Self::Floor => String::new(),
        }
    }
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
