//! A Redis server under test: streams that are on disk before `XADD` is answered.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::cores::Cores;
use crate::lanes::{Dialect, Lanes, Work};
use crate::process::{Running, free_address};
use crate::usage::Cpu;

const PROGRAM: &str = "redis-server";

/// A running server.
pub(crate) struct Redis {
    process: Running,
    pub(crate) address: SocketAddr,
}

impl Redis {
    /// Returns when the server has stored something.
    pub(crate) async fn start(cores: &Cores) -> Result<Self> {
        let address = free_address()?;
        let mut process = Running::start(cores, |folder| Ok(command(address, folder)))?;
        process.ready(async || stores(address).await).await.context("Redis did not start")?;
        Ok(Self { process, address })
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        self.process.cpu()
    }
}

/// Defaults, but for what makes it durable. That it never rewrites its file is a favour: its child would take the server's core.
fn command(address: SocketAddr, folder: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    command.args(["--auto-aof-rewrite-percentage", "0"]).arg("--dir").arg(folder);
    command
}

async fn stores(address: SocketAddr) -> Result<()> {
    let mut lanes = Lanes::connect(address, "", Dialect::Redis, 1).await?;
    let until = Instant::now() + std::time::Duration::from_secs(5);
    let load = lanes.publish(&Work { channels: 1, publications: 1, until, rate: None }).await?;
    ensure!(load.latencies.len() == 1, "nothing was stored");
    Ok(())
}

/// Which version is measured; `None` if there is none.
pub(crate) fn version() -> Option<String> {
    let output = Command::new(PROGRAM).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    Some(format!("Redis {version}"))
}
