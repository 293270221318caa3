//! The server under torture: started on a directory and a port that stay the same however often it dies.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::http::{Http, Request};

/// Shorter keys are refused.
pub(crate) const AUTH_KEY: &str = "torture-0123456789abcdef";

const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// How much of its log is shown when something is wrong.
const LOG_SHOWN: usize = 3_000;

pub(crate) struct Server {
    binary: PathBuf,
    folder: TempDir,
    pub(crate) address: SocketAddr,
    /// Where it is asked instead, by those who cannot speak to it there.
    pub(crate) door: Option<SocketAddr>,
    /// Where its data is, inside the folder.
    pub(crate) data: PathBuf,
    /// Variables for its environment.
    pub(crate) environment: Vec<(String, String)>,
    /// A program, and its arguments, that starts the server in the server's own process.
    pub(crate) wrapper: Vec<String>,
    child: Option<Child>,
    /// The longest time from a start to the first answer.
    pub(crate) slowest_start: Duration,
}

impl Server {
    /// Prepares a directory; nothing runs yet.
    pub(crate) fn prepare(binary: &Path, configuration: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("channelapi-torture-").tempdir()?;
        fs::write(folder.path().join("channelapi.toml"), configuration)?;
        Ok(Self {
            binary: binary.to_owned(),
            folder,
            address: free_address()?,
            door: None,
            data: PathBuf::from("data"),
            environment: Vec::new(),
            wrapper: Vec::new(),
            child: None,
            slowest_start: Duration::ZERO,
        })
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join(&self.data)
    }

    /// Room for what a scenario needs beside the data.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the process without waiting for it.
    pub(crate) fn launch(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the server runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let child = self.command(self.address.port(), &log)?.spawn();
        self.child = Some(child.with_context(|| format!("cannot start {}", self.binary.display()))?);
        Ok(())
    }

    /// Starts it and returns when it answers.
    pub(crate) async fn start(&mut self) -> Result<()> {
        match self.start_unless_refused().await? {
            None => Ok(()),
            Some(status) => bail!("the server ended with {status} while starting; it said:\n{}", self.log()),
        }
    }

    /// Starts it and returns when it answers, or when it has ended.
    pub(crate) async fn start_unless_refused(&mut self) -> Result<Option<ExitStatus>> {
        let began = Instant::now();
        self.launch()?;
        while self.healthy().await.is_err() {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                self.child = None;
                return Ok(Some(status));
            }
            if began.elapsed() > START_MAX {
                bail!("the server did not answer within {START_MAX:?}; it said:\n{}", self.log());
            }
            sleep(POLL).await;
        }
        self.slowest_start = self.slowest_start.max(began.elapsed());
        Ok(None)
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self, patience: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("there is no server that could end")?;
        let status = wait(child, patience).await?;
        let status = status.with_context(|| format!("the server did not end within {patience:?}"))?;
        self.child = None;
        Ok(status)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        let child = self.child.as_mut().context("there is no server that could end")?;
        Ok(child.try_wait()?.is_some())
    }

    /// Its process.
    pub(crate) fn process(&self) -> Result<Pid> {
        pid(self.child.as_ref().context("there is no server")?)
    }

    /// `channelapi store verify` on its data: whether it calls the data sound, and what it says.
    pub(crate) fn verify_data(&self) -> Result<(bool, String)> {
        let mut command = Command::new(&self.binary);
        command.args(["store", "verify", "--data-dir"]).arg(self.data_dir()).stdin(Stdio::null());
        let output = command.current_dir(self.folder.path()).output()?;
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        Ok((output.status.success(), said.concat()))
    }

    /// SIGKILL; whatever the server was doing ends in the middle.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("there is no server to kill")?;
        if let Some(status) = child.try_wait()? {
            bail!("the server ended by itself with {status}; it said:\n{}", self.log());
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, as a process manager stops it.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("there is no server to stop")?;
        kill_process(pid(&child)?, Signal::TERM)?;
        match wait(&mut child, STOP_MAX).await? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the server ended with {status} when stopped; it said:\n{}", self.log()),
            None => {
                child.kill()?;
                child.wait()?;
                bail!("the server did not stop within {STOP_MAX:?}; it said:\n{}", self.log())
            }
        }
    }

    /// A second process on the same directory, on a port of its own, until it ends or `patience` does.
    pub(crate) async fn rival(&self, patience: Duration) -> Result<(Option<ExitStatus>, String)> {
        let path = self.folder.path().join("rival.log");
        let log = File::create(&path)?;
        let mut child = self.command(free_address()?.port(), &log)?.spawn()?;
        let status = wait(&mut child, patience).await?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        Ok((status, String::from_utf8_lossy(&fs::read(path)?).into_owned()))
    }

    /// The program with other arguments and nothing else, until it ends or `patience` does.
    pub(crate) async fn once(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
        patience: Duration,
    ) -> Result<(Option<ExitStatus>, String)> {
        self.once_until(None, arguments, environment, patience).await
    }

    /// The same, also until it has said `part`.
    pub(crate) async fn once_until(
        &self,
        part: Option<&str>,
        arguments: &[&str],
        environment: &[(&str, &str)],
        patience: Duration,
    ) -> Result<(Option<ExitStatus>, String)> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let path = folder.path().join("log");
        let log = File::create(&path)?;
        let mut command = Command::new(&self.binary);
        command.current_dir(folder.path()).args(arguments).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let said = || fs::read(&path).map(|log| String::from_utf8_lossy(&log).into_owned());
        let end = Instant::now() + patience;
        let mut status = child.try_wait()?;
        while status.is_none()
            && Instant::now() < end
            && !part.is_some_and(|part| said().is_ok_and(|said| said.contains(part)))
        {
            sleep(POLL).await;
            status = child.try_wait()?;
        }
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        Ok((status, said()?))
    }

    /// Resident bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        // Of a process that guards its memory, others see little more than this.
        let text = self.proc("status")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let log = self.whole_log();
        let start = log.floor_char_boundary(log.len().saturating_sub(LOG_SHOWN));
        log[start..].to_owned()
    }

    pub(crate) fn whole_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn door(&self) -> SocketAddr {
        self.door.unwrap_or(self.address)
    }

    /// What it counts, as text.
    pub(crate) async fn metrics(&self) -> Result<String> {
        let headers = format!("Authorization: {AUTH_KEY}\r\n");
        let request = Request { method: "GET", path: "/metrics", headers: &headers, body: "" };
        let answer = Http::connect(self.door()).await?.exchange(&request).await?;
        ensure!(answer.status == 200, "/metrics was answered {}: {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// Gives it another configuration to read, and has it read.
    pub(crate) fn reload(&self, configuration: &str) -> Result<()> {
        fs::write(self.folder.path().join("channelapi.toml"), configuration)?;
        kill_process(self.process()?, Signal::HUP)?;
        Ok(())
    }

    /// What every user of the machine sees of it.
    pub(crate) fn command_line(&self) -> Result<String> {
        self.proc("cmdline")
    }

    /// What the system limits it to.
    pub(crate) fn limits(&self) -> Result<String> {
        self.proc("limits")
    }

    fn proc(&self, name: &str) -> Result<String> {
        let child = self.child.as_ref().context("there is no server to look at")?;
        let path = format!("/proc/{}/{name}", child.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// Every file in its directory.
    pub(crate) fn files_of_data(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let (mut files, mut folders) = (Vec::new(), vec![self.data_dir()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push((path.clone(), fs::read(&path)?));
                }
            }
        }
        Ok(files)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn command(&self, port: u16, log: &File) -> Result<Command> {
        let mut command = match &self.wrapper[..] {
            [] => Command::new(&self.binary),
            [wrapper, arguments @ ..] => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        command.current_dir(self.folder.path()).envs(self.environment.iter().cloned());
        command.args(["--config", "channelapi.toml", "--address", "127.0.0.1", "--data-dir"]).arg(&self.data);
        command.args(["--port", &port.to_string()]).env("CHANNELAPI_AUTH_KEY", AUTH_KEY);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        Ok(command)
    }

    async fn healthy(&self) -> Result<()> {
        let mut http = Http::connect(self.door()).await?;
        let request = Request { method: "GET", path: "/healthz", headers: "", body: "" };
        let status = http.exchange(&request).await?.status;
        ensure!(status == 200, "the server is not well: {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only if it has ended by itself, which is what we want.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("unusable process id")
}

async fn wait(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        sleep(POLL).await;
    }
    Ok(None)
}

/// A port below those that the kernel gives to outgoing connections: a client that tries to connect while the server is
/// down would otherwise get the server's own port one day, and find itself connected to itself.
fn free_address() -> Result<SocketAddr> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let outgoing = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768_u16);
    // Runs side by side begin their search at different places.
    let span = u32::from(outgoing.saturating_sub(10_000)).max(1);
    let start = std::process::id() % span;
    for step in 0..span {
        let port = outgoing.saturating_sub(1 + u16::try_from((start + step * 7) % span)?);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port below {outgoing} is free")
}
