//! A disk that is read-only for a server that has its files open.
//!
//! No kernel lets `mount` do that: it says that the file system is busy. But it does so itself after an error. Here strace
//! answers in its place, to every call that would change the server's files: `EROFS`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{skipped, works};
use crate::server::Server;

const CALLS: &str = "write,pwrite64,ftruncate,fallocate,unlink,unlinkat,rename,renameat,renameat2";

/// As long as it lives, the server's disk is read-only.
pub(super) struct ReadOnly(Child);

/// Whether this machine can do it.
pub(super) fn check() -> Result<()> {
    if works("strace", &["--trace=write", "--inject=write:error=EROFS", "--trace-path=/none"], &["true"]) {
        return Ok(());
    }
    Err(skipped("strace is missing or may not trace; install Debian's package `strace`"))
}

impl ReadOnly {
    pub(super) fn make(server: &Server) -> Result<Self> {
        let mut strace = Command::new("strace");
        let process = server.process()?.as_raw_nonzero().to_string();
        strace.args(["--follow-forks", "--output=/dev/null", "--attach", &process]);
        strace.arg(format!("--trace={CALLS}")).arg(format!("--inject={CALLS}:error=EROFS"));
        let (data, log) = (server.data_dir(), server.data.join("log"));
        // The server names its files as it was told where they are, and the kernel by their whole path.
        for folder in [data.clone(), data.join("log"), server.data.clone(), log.clone()] {
            for name in names(&server.folder().join(&folder))? {
                let mut option = OsString::from("--trace-path=");
                option.push(folder.join(name));
                strace.arg(option);
            }
        }
        let strace = strace.current_dir(server.folder()).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(strace.context("cannot start strace")?))
    }

    pub(super) fn end(mut self) -> Result<()> {
        let process = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(process.context("unusable process id")?, Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        // Fails only if it has ended, which is what we want. The server is let go.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn names(folder: &Path) -> Result<Vec<OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}
