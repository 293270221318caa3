//! A real Redis server: streams, `appendfsync always`, one connection over a Unix socket with a whole batch in its pipeline.
//!
//! The server dies with this process, whatever ends it: the kernel is asked to see to that, by `setpriv`, which then becomes the
//! server. So killing this process kills both, which is what a crash of the machine would do.

use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Store;
use super::resp::{Connection, Reply};
use crate::job::{self, CHANNELS, Job};

pub(crate) const PROGRAM: &str = "redis-server";
pub(crate) const TIE: &str = "setpriv";

/// How long the server may take to read what it has stored.
const START_TIMEOUT: Duration = Duration::from_mins(1);

const START_POLL: Duration = Duration::from_millis(1);

/// Channels that are asked for their length at once.
const COUNT_BATCH: usize = 1000;

pub(crate) struct Redis {
    child: Child,
    connection: Connection<UnixStream>,
    names: Vec<String>,
    job: Job,
}

impl Redis {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let socket = folder.join("redis.sock");
        // That of a killed server is still there.
        let _ = std::fs::remove_file(&socket);
        let log = std::fs::File::create(folder.join("redis.log"))?;
        let mut command = Command::new(TIE);
        command.args(["--pdeathsig", "KILL", "--", PROGRAM, "--port", "0"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(folder);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let connection = connect(&socket, &mut child);
        let connection = connection.inspect_err(|_| end(&mut child)).with_context(|| {
            let said = std::fs::read_to_string(folder.join("redis.log")).unwrap_or_default();
            format!("{PROGRAM} did not start; it said: {said}")
        })?;
        let names = (0..CHANNELS).map(job::name).collect();
        Ok(Self { child, connection, names, job: Job::new() })
    }
}

impl Store for Redis {
    fn append(&mut self, batch: usize, numbers: Range<u64>, until: Instant) -> Result<u64> {
        let (connection, names) = (&mut self.connection, &self.names);
        self.job.in_batches(batch, numbers, until, |records| {
            for record in records {
                let name = names[record.channel as usize].as_bytes();
                connection.queue(&[b"XADD", name, b"*", b"data", record.data]);
            }
            connection.send()?;
            for _ in records {
                let Reply::Bytes(_) = connection.reply()? else { bail!("XADD gave no id") };
            }
            Ok(())
        })
    }

    fn newest(&mut self, channel: u32) -> Result<Vec<u8>> {
        let name = self.names[channel as usize].as_bytes();
        self.connection.queue(&[b"XREVRANGE", name, b"+", b"-", b"COUNT", b"1"]);
        self.connection.send()?;
        // A list of entries; an entry is its id and a list of names and values.
        let reply = self.connection.reply()?;
        let fields = reply.item(0).and_then(|entry| entry.item(1));
        match fields.and_then(|fields| fields.item(1)) {
            Some(Reply::Bytes(data)) => Ok(data.clone()),
            _ => bail!("the channel is empty: {reply:?}"),
        }
    }

    fn count(&mut self) -> Result<u64> {
        let mut count = 0;
        for names in self.names.chunks(COUNT_BATCH) {
            for name in names {
                self.connection.queue(&[b"XLEN", name.as_bytes()]);
            }
            self.connection.send()?;
            for _ in names {
                let Reply::Number(length) = self.connection.reply()? else { bail!("XLEN gave no number") };
                count += u64::try_from(length)?;
            }
        }
        Ok(count)
    }

    fn server(&self) -> Option<u32> {
        Some(self.child.id())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Which server is measured.
pub(crate) fn version() -> String {
    let output = Command::new(PROGRAM).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    format!("Redis {}", version.unwrap_or("?"))
}

/// Returns when the server has read everything and answers.
fn connect(socket: &Path, child: &mut Child) -> Result<Connection<UnixStream>> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            let mut connection = Connection::new(stream);
            connection.queue(&[b"PING"]);
            connection.send()?;
            match connection.reply() {
                Ok(_pong) => return Ok(connection),
                Err(error) if error.to_string().contains("LOADING") => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}");
        }
        if Instant::now() > deadline {
            bail!("it was not ready after {START_TIMEOUT:?}");
        }
        std::thread::sleep(START_POLL);
    }
}

fn end(child: &mut Child) {
    // Fails only if it has ended by itself, which is what we want.
    let _ = child.kill();
    let _ = child.wait();
}
