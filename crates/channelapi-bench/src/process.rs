//! A server process under test: started on a free port, watched, and killed when dropped, whatever happened before.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::cores::Cores;
use crate::peer::{Launch, Peer};
use crate::publisher::Publisher;
use crate::usage::{Cpu, resident_memory};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a starting server is asked whether it is ready.
const START_POLL: Duration = Duration::from_millis(20);

/// How much of its log is shown when it does not start.
const LOG_SHOWN: usize = 2_000;

/// A running server and its scratch folder.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    auth_key: String,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Returns when the server answers.
    pub(crate) async fn start(peer: Peer, cores: &Cores) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let auth_key = random_key()?;
        let data_dir = folder.path().join("data");
        let launch = Launch { port: address.port(), auth_key: &auth_key, data_dir: &data_dir };
        let mut command = peer.command(&launch)?;
        let log = File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child =
            cores.as_server(|| command.spawn())?.with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self { child, folder, auth_key, address };
        server
            .ready()
            .await
            .with_context(|| format!("{} did not start; it said: {}", peer.name(), server.log()))?;
        Ok(server)
    }

    /// A new connection for a backend, over which the server has said that it is well.
    pub(crate) async fn publisher(&self) -> Result<Publisher> {
        let mut publisher = Publisher::connect(self.address, &self.auth_key).await?;
        publisher.healthy().await?;
        Ok(publisher)
    }

    /// Resident bytes.
    pub(crate) fn memory(&self) -> Result<usize> {
        resident_memory(self.child.id())
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.child.id())
    }

    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let Err(error) = self.publisher().await else { return Ok(()) };
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            if Instant::now() > deadline {
                return Err(error.context(format!("it was not ready after {START_TIMEOUT:?}")));
            }
            sleep(START_POLL).await;
        }
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN)..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended by itself, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn random_key() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("no random bytes")?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
