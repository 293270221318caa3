//! A server process under test: started on a free port, watched, and killed when dropped, whatever happened before.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::certificate::Certificate;
use crate::cores::{Awake, Cores};
use crate::peer::{Launch, Peer};
use crate::publisher::Publisher;
use crate::usage::{Cpu, Memory, family, peak_memory};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a starting server is asked whether it is ready.
const START_POLL: Duration = Duration::from_millis(20);

/// How much of its log is shown when it does not start.
const LOG_SHOWN: usize = 2_000;

/// How a process ends.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// As in a crash.
    Kill,
    /// As it would by itself when it is asked to.
    Shutdown,
}

/// A process under test and its scratch folder. It is killed when dropped.
pub(crate) struct Running {
    child: Child,
    folder: TempDir,
    _clients: Awake,
}

impl Running {
    /// Starts on the server's cores what `command` makes for a scratch folder.
    pub(crate) fn start(cores: &Cores, command: impl FnOnce(&Path) -> Result<Command>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let child = spawn(cores, folder.path(), command)?;
        Ok(Self { child, folder, _clients: cores.keep_awake() })
    }

    /// Asks until the answer is yes; an error of `ask` means not yet.
    pub(crate) async fn ready(&mut self, mut ask: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let Err(error) = ask().await else { return Ok(()) };
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status} and said: {}", self.log());
            }
            if Instant::now() > deadline {
                let late = format!("it was not ready after {START_TIMEOUT:?} and said: {}", self.log());
                return Err(error.context(late));
            }
            sleep(START_POLL).await;
        }
    }

    /// Ends it and starts another in the same folder. Returns when that was started.
    fn restart(
        &mut self,
        end: End,
        cores: &Cores,
        command: impl FnOnce(&Path) -> Result<Command>,
    ) -> Result<Instant> {
        match end {
            End::Kill => self.child.kill()?,
            End::Shutdown => {
                let pid = Pid::from_child(&self.child);
                kill_process(pid, Signal::TERM).context("cannot ask it to end")?;
            }
        }
        self.child.wait()?;
        let started = Instant::now();
        self.child = spawn(cores, self.folder.path(), command)?;
        Ok(started)
    }

    /// What it has in memory, with all that it has started.
    pub(crate) fn memory(&self) -> Result<Memory> {
        Memory::of(&family(self.child.id())?)
    }

    /// The most resident bytes it ever had, without what it has started.
    pub(crate) fn memory_peak(&self) -> Result<usize> {
        peak_memory(self.child.id())
    }

    /// What it has used, with all that it has started and that still lives.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Cpu::of(&family(self.child.id())?)
    }

    /// Where the server keeps what it must remember.
    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN)..]).into_owned()
    }
}

fn spawn(cores: &Cores, folder: &Path, command: impl FnOnce(&Path) -> Result<Command>) -> Result<Child> {
    let mut command = command(folder)?;
    clean(&mut command, folder);
    let log = File::create(folder.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    cores.as_server(|| command.spawn())?.with_context(|| format!("cannot start {command:?}"))
}

/// What of our environment a server is started with.
const INHERITED: [&str; 5] = ["HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR"];

/// A server is measured with its own settings: neither a configuration file where we were started nor a variable such as
/// `CHANNELAPI_LOG_LEVEL`, `GOGC` or `NODE_OPTIONS` may change them.
fn clean(command: &mut Command, folder: &Path) {
    let own: Vec<_> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned))).collect();
    command.env_clear();
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(own.into_iter().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(folder);
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has ended by itself, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running server that speaks the seed contract.
pub(crate) struct Server {
    peer: Peer,
    process: Running,
    /// Of its environment.
    variables: Vec<(&'static str, String)>,
    pub(crate) auth_key: String,
    /// Where backends and clients connect.
    pub(crate) address: SocketAddr,
    /// Where clients connect instead, with TLS.
    pub(crate) secure_address: Option<SocketAddr>,
}

impl Server {
    /// Returns when the server answers.
    pub(crate) async fn start(peer: Peer, cores: &Cores) -> Result<Self> {
        Self::start_with(peer, cores, &[]).await
    }

    /// The same with variables in the server's environment.
    pub(crate) async fn start_with(
        peer: Peer,
        cores: &Cores,
        variables: &[(&'static str, String)],
    ) -> Result<Self> {
        Self::launch(peer, cores, variables.to_vec(), None).await
    }

    /// channelapi with TLS for its clients; the API has a port of its own, without it.
    pub(crate) async fn start_secure(cores: &Cores, certificate: &Certificate) -> Result<Self> {
        Self::launch(Peer::Channelapi, cores, certificate.variables(), Some(free_address()?)).await
    }

    async fn launch(
        peer: Peer,
        cores: &Cores,
        mut variables: Vec<(&'static str, String)>,
        secure_address: Option<SocketAddr>,
    ) -> Result<Self> {
        let (address, auth_key) = (free_address()?, random_key()?);
        if secure_address.is_some() {
            variables.push(("CHANNELAPI_INTERNAL_PORT", address.port().to_string()));
        }
        let public = secure_address.unwrap_or(address);
        let command = |folder: &Path| command(peer, public, &auth_key, &variables, folder);
        let process = Running::start(cores, command)?;
        let mut server = Self { peer, process, variables, auth_key, address, secure_address };
        server.ready().await?;
        Ok(server)
    }

    /// Ends it and starts it again, with the same data on the same port; returns when it answers, and how long that took since the
    /// start.
    pub(crate) async fn return_after(&mut self, end: End, cores: &Cores) -> Result<Duration> {
        let Self { peer, address, secure_address, auth_key, variables, process } = self;
        let public = secure_address.unwrap_or(*address);
        let started =
            process.restart(end, cores, |folder| command(*peer, public, auth_key, variables, folder))?;
        self.ready().await?;
        Ok(started.elapsed())
    }

    async fn ready(&mut self) -> Result<()> {
        let ask =
            async || Publisher::connect(self.address, &self.auth_key, self.peer.api()).await?.healthy().await;
        self.process.ready(ask).await.with_context(|| format!("{} did not start", self.peer.name()))
    }

    /// A new connection for a backend, over which the server has said that it is well.
    pub(crate) async fn publisher(&self) -> Result<Publisher> {
        let mut publisher = Publisher::connect(self.address, &self.auth_key, self.peer.api()).await?;
        publisher.healthy().await?;
        Ok(publisher)
    }

    /// Where it keeps what it must remember.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.process.data_dir()
    }

    /// What it has in memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        self.process.memory()
    }

    /// The most resident bytes it ever had.
    pub(crate) fn memory_peak(&self) -> Result<usize> {
        self.process.memory_peak()
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        self.process.cpu()
    }
}

fn command(
    peer: Peer,
    address: SocketAddr,
    auth_key: &str,
    variables: &[(&'static str, String)],
    folder: &Path,
) -> Result<Command> {
    let data_dir = folder.join("data");
    let mut command = peer.command(&Launch { port: address.port(), auth_key, data_dir: &data_dir })?;
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

/// Raises the limit on open files as far as it goes, for this process and those it starts, and checks that it suffices.
pub(crate) fn allow_connections(count: usize) -> Result<()> {
    /// Files that a process has open besides its connections.
    const OTHERS: u64 = 200;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit on open files")?;
    match limit.maximum {
        Some(maximum) if maximum < count as u64 + OTHERS => {
            bail!("{count} connections need more than the {maximum} open files allowed here (ulimit -Hn)")
        }
        _ => Ok(()),
    }
}

/// Another program could take the port before the server does; then the start fails, and says so.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn random_key() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("no random bytes")?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever had a `channelapi.toml` where a benchmark was started, or `CHANNELAPI_…` in the environment, measured something else than
    /// the defaults, and did not know it.
    #[test]
    fn nothing_around_us_changes_what_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("env");
        command.env("PORT", "1");
        clean(&mut command, folder.path());
        assert_eq!(command.get_current_dir(), Some(folder.path()));
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let mut names: Vec<_> =
            said.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        names.retain(|name| !INHERITED.contains(name));
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "cargo sets it for tests");
        assert_eq!(names, ["PORT"]);
    }
}
