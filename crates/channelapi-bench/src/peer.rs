//! The servers that can be measured. Each speaks the seed contract, so one client and one publisher serve them all.
//!
//! A new peer is a new variant: how it is started, and what it is called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::floor;

/// A server to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// This project's server with its defaults.
    Channelapi,
    /// socketioxide with its defaults and channelapi's allocator; keeps nothing.
    Socketioxide,
    /// socketioxide with its defaults and the platform's allocator; keeps nothing.
    SocketioxideSystem,
    /// No server at all: a loop that sends the same bytes over the same sockets.
    Floor,
}

/// What a server is started with.
pub(crate) struct Launch<'a> {
    pub(crate) port: u16,
    pub(crate) auth_key: &'a str,
    pub(crate) data_dir: &'a Path,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Channelapi => "channelapi",
            Self::Socketioxide => "socketioxide",
            Self::SocketioxideSystem => "socketioxide-system",
            Self::Floor => "floor",
        }
    }

    /// Builds what can be built here; channelapi must have been built by whoever wants it measured.
    pub(crate) fn prepare(self) -> Result<()> {
        match self {
            Self::Floor => Ok(()),
            Self::Socketioxide | Self::SocketioxideSystem => build_socketioxide(),
            Self::Channelapi => {
                let program = self.program()?;
                ensure!(
                    program.exists(),
                    "{} is missing: run `cargo build --release -p channelapi`",
                    program.display()
                );
                Ok(())
            }
        }
    }

    /// Starts the server on loopback.
    pub(crate) fn command(self, launch: &Launch<'_>) -> Result<Command> {
        let mut command = Command::new(self.program()?);
        if self == Self::Floor {
            command.arg(floor::COMMAND);
        }
        command.args([
            "--address",
            "127.0.0.1",
            "--port",
            &launch.port.to_string(),
            "--auth-key",
            launch.auth_key,
        ]);
        if self == Self::Channelapi {
            command.arg("--data-dir").arg(launch.data_dir);
        }
        Ok(command)
    }

    /// Which version is measured, for the report.
    pub(crate) fn version(self) -> Result<String> {
        match self {
            Self::Floor => Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Channelapi => {
                let output = Command::new(self.program()?).arg("--version").output()?;
                Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
            }
            Self::Socketioxide | Self::SocketioxideSystem => {
                let lock = socketioxide_folder().join("Cargo.lock");
                let lock = std::fs::read_to_string(&lock)
                    .with_context(|| format!("cannot read {}", lock.display()))?;
                let version =
                    locked_version(&lock, "socketioxide").context("its lock file does not name it")?;
                Ok(format!("socketioxide {version}"))
            }
        }
    }

    fn program(self) -> Result<PathBuf> {
        let own = std::env::current_exe()?;
        Ok(match self {
            Self::Floor => own,
            Self::Channelapi => own.with_file_name("channelapi"),
            Self::Socketioxide => peers_target_folder()?.join("release/socketioxide-jemalloc"),
            Self::SocketioxideSystem => peers_target_folder()?.join("release/socketioxide-system"),
        })
    }
}

fn build_socketioxide() -> Result<()> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked"])
        .env("CARGO_TARGET_DIR", peers_target_folder()?)
        .current_dir(socketioxide_folder())
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the socketioxide peer could not be built: cargo ended with {status}");
    Ok(())
}

fn socketioxide_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benchmarks/peers/socketioxide")
}

/// Beside the profile's folder that this program runs from, so that `cargo clean` takes the peers along.
fn peers_target_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("this program lies outside of a target folder")?;
    Ok(target.join("peers"))
}

/// The version of a package in a Cargo.lock.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    after.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_found_in_a_lock_file() {
        let lock =
            "[[package]]\nname = \"ab\"\nversion = \"1.0\"\n\n[[package]]\nname = \"b\"\nversion = \"2.1\"\n";
        assert_eq!(locked_version(lock, "b"), Some("2.1"));
        assert_eq!(locked_version(lock, "c"), None);
    }
}
