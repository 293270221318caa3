//! The servers that can be measured. Each speaks the seed contract to publishers, and to clients the contract or a dialect of its
//! own, so one load serves them all.
//!
//! A new peer is a new variant: what it is called, how it is installed ([`install`]), how it is started, and which [`Door`] its
//! clients take.

mod install;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::client::Door;
use crate::floor;
use crate::publisher::Api;
use crate::pusher;

/// A server to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// This project's server with its defaults.
    Channelapi,
    /// socketioxide with its defaults and channelapi's allocator; keeps nothing.
    Socketioxide,
    /// socketioxide with its defaults and the platform's allocator; keeps nothing.
    SocketioxideSystem,
    /// Node's socket.io with its defaults; keeps nothing.
    Node,
    /// Node's socket.io on µWebSockets; keeps nothing.
    NodeUws,
    /// python-socketio on uvicorn with their defaults; keeps nothing.
    PythonSocketio,
    /// centrifuge with its defaults, in its own protocol; keeps nothing.
    Centrifuge,
    /// The same, spending as little memory on a connection as the library lets it.
    CentrifugeTuned,
    /// Sockudo, in Pusher's protocol, without limits and without metrics; keeps nothing. Takes twenty minutes to build: on request.
    Sockudo,
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
            Self::Node => "node",
            Self::NodeUws => "node-uws",
            Self::PythonSocketio => "python-socketio",
            Self::Centrifuge => "centrifuge",
            Self::CentrifugeTuned => "centrifuge-tuned",
            Self::Sockudo => "sockudo",
            Self::Floor => "floor",
        }
    }

    /// Whether it is part of this program or of this project, and has to work.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Channelapi | Self::Floor)
    }

    /// Like [`Self::prepare`], but what could not be installed once is not tried again: it may take twenty minutes to fail.
    pub(crate) fn prepare_once(self) -> Result<()> {
        static FAILED: Mutex<Vec<(Peer, String)>> = Mutex::new(Vec::new());
        remembering(&FAILED, self, || self.prepare())
    }

    /// Installs what can be installed here; channelapi must have been built by whoever wants it measured.
    pub(crate) fn prepare(self) -> Result<()> {
        match self {
            Self::Floor => Ok(()),
            Self::Socketioxide | Self::SocketioxideSystem => install::socketioxide(),
            Self::Node => install::node(),
            Self::NodeUws => install::node().and_then(|()| install::check_uws()),
            Self::PythonSocketio => install::python(),
            Self::Centrifuge | Self::CentrifugeTuned => install::centrifuge(),
            Self::Sockudo => install::sockudo(),
            Self::Channelapi => {
                let program = channelapi()?;
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
        let installed = install::folder()?;
        let mut command = match self {
            Self::Floor => started(std::env::current_exe()?, [floor::COMMAND]),
            Self::Channelapi => Command::new(channelapi()?),
            Self::Socketioxide => Command::new(installed.join("release/socketioxide-jemalloc")),
            Self::SocketioxideSystem => Command::new(installed.join("release/socketioxide-system")),
            Self::Node => started("node", [installed.join("node/ws.js")]),
            Self::NodeUws => started("node", [installed.join("node/uws.js")]),
            Self::PythonSocketio => {
                started(installed.join("python/bin/python"), [install::source("python/server.py")])
            }
            Self::Centrifuge => Command::new(installed.join("centrifuge")),
            Self::CentrifugeTuned => started(installed.join("centrifuge"), ["--tuned"]),
            Self::Sockudo => return Ok(sockudo(&installed, launch)),
        };
        command.args(["--address", "127.0.0.1", "--port", &launch.port.to_string()]);
        command.args(["--auth-key", launch.auth_key]);
        if self == Self::Channelapi {
            command.arg("--data-dir").arg(launch.data_dir);
        }
        Ok(command)
    }

    /// How a client comes into the channel that a token opens.
    pub(crate) fn door(self, token: String) -> Door {
        match self {
            // Its token is the channel's name.
            Self::Centrifuge | Self::CentrifugeTuned => Door::Centrifuge(token),
            Self::Sockudo => Door::Pusher(token),
            _ => Door::Seed(token),
        }
    }

    /// How it wants to be asked to publish.
    pub(crate) fn api(self) -> Api {
        if self == Self::Sockudo { Api::Pusher } else { Api::Contract }
    }

    /// Which version is measured, for the report.
    pub(crate) fn version(self) -> Result<String> {
        match self {
            Self::Floor => Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Channelapi => said(channelapi()?, "--version"),
            Self::Socketioxide | Self::SocketioxideSystem => {
                locked("socketioxide/Cargo.lock", "name = \"socketioxide\"\nversion = \"", "\"")
                    .map(|version| format!("socketioxide {version}"))
            }
            Self::Node => {
                let version = socket_io()?;
                Ok(format!("{version}, Node {}", said("node", "--version")?))
            }
            Self::NodeUws => {
                let package = "node_modules/@trufflesuite/uws-js-unofficial\": {\n      \"version\": \"";
                let uws = locked("node/package-lock.json", package, "\"")?;
                let version = socket_io()?;
                Ok(format!("{version}, µWebSockets.js {uws}, Node {}", said("node", "--version")?))
            }
            Self::PythonSocketio => {
                let version = |package: &str| locked("python/requirements.txt", package, "\n");
                let (socketio, uvicorn) = (version("python-socketio==")?, version("uvicorn==")?);
                let python = said(install::folder()?.join("python/bin/python"), "--version")?;
                Ok(format!("python-socketio {socketio}, uvicorn {uvicorn}, {python}"))
            }
            Self::Centrifuge | Self::CentrifugeTuned => {
                let version = locked("centrifuge/go.mod", "github.com/centrifugal/centrifuge v", "\n")?;
                Ok(format!("centrifuge {version}, {}", said("go", "version")?))
            }
            Self::Sockudo => said(install::folder()?.join("sockudo/bin/sockudo"), "--version"),
        }
    }
}

/// It takes everything from the environment. What it would refuse or count is switched off, because it would only slow it down.
fn sockudo(installed: &Path, launch: &Launch<'_>) -> Command {
    const WITHOUT_LIMIT: &str = "10000000";
    let mut command = Command::new(installed.join("sockudo/bin/sockudo"));
    command.env("HOST", "127.0.0.1").env("PORT", launch.port.to_string());
    command.envs([("SOCKUDO_DEFAULT_APP_ID", pusher::APP), ("SOCKUDO_DEFAULT_APP_KEY", pusher::APP)]);
    command.env("SOCKUDO_DEFAULT_APP_SECRET", launch.auth_key);
    command.env("SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS", WITHOUT_LIMIT);
    command.env("SOCKUDO_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SECOND", WITHOUT_LIMIT);
    command.envs([("RATE_LIMITER_ENABLED", "false"), ("METRICS_ENABLED", "false")]);
    command
}

fn started<A: AsRef<std::ffi::OsStr>>(
    program: impl AsRef<std::ffi::OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Does something unless it is remembered that it failed for this peer; then that is the answer.
fn remembering(
    failed: &Mutex<Vec<(Peer, String)>>,
    peer: Peer,
    prepare: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, why)) = failed.iter().find(|(known, _)| *known == peer) {
        bail!("{why}");
    }
    prepare().inspect_err(|error| failed.push((peer, format!("{error:#}"))))
}

/// It lies beside this program.
fn channelapi() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("channelapi"))
}

fn socket_io() -> Result<String> {
    locked("node/package-lock.json", "node_modules/socket.io\": {\n      \"version\": \"", "\"")
        .map(|version| format!("socket.io {version}"))
}

fn said(program: impl AsRef<std::ffi::OsStr>, question: &str) -> Result<String> {
    let output = Command::new(program).arg(question).output()?;
    ensure!(output.status.success(), "it does not answer {question}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What stands between two texts in a file of a peer that says what is installed.
fn locked(file: &str, before: &str, behind: &str) -> Result<String> {
    let path = install::source(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let version = between(&text, before, behind);
    Ok(version.with_context(|| format!("{} does not name the version", path.display()))?.to_owned())
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split(behind).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_found_in_a_lock_file() {
        let lock =
            "[[package]]\nname = \"ab\"\nversion = \"1.0\"\n\n[[package]]\nname = \"b\"\nversion = \"2.1\"\n";
        assert_eq!(between(lock, "name = \"b\"\nversion = \"", "\""), Some("2.1"));
        assert_eq!(between(lock, "name = \"c\"\nversion = \"", "\""), None);
    }

    #[test]
    fn what_could_not_be_installed_is_not_tried_in_every_benchmark() {
        let (failed, mut tries) = (Mutex::new(Vec::new()), 0);
        for _ in 0..2 {
            let error = remembering(&failed, Peer::Sockudo, || {
                tries += 1;
                bail!("no compiler")
            });
            assert_eq!(error.unwrap_err().to_string(), "no compiler");
            remembering(&failed, Peer::Node, || Ok(())).unwrap();
        }
        assert_eq!(tries, 1);
    }

    #[test]
    fn files_that_say_what_is_installed_name_every_version() {
        for peer in [Peer::Socketioxide, Peer::Floor] {
            assert!(peer.version().unwrap().contains('.'), "{peer:?}");
        }
        assert!(socket_io().unwrap().starts_with("socket.io 4."));
        assert!(
            locked("centrifuge/go.mod", "github.com/centrifugal/centrifuge v", "\n").unwrap().contains('.')
        );
        assert!(locked("python/requirements.txt", "python-socketio==", "\n").unwrap().contains('.'));
    }
}
