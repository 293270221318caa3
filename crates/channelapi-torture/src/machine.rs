//! What a scenario needs of the machine: tools, mounts or a network of its own. What is missing skips the scenario, and says so.

use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fmt};

use anyhow::{Context as _, Result, ensure};

/// The machine cannot do what a scenario needs. This is neither success nor failure.
#[derive(Debug)]
pub(crate) struct Skipped(String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl Error for Skipped {}

pub(crate) fn skipped(why: impl Into<String>) -> anyhow::Error {
    Skipped(why.into()).into()
}

/// Says to the process that it already has what it needs to itself.
const SECLUDED: &str = "CHANNELAPI_TORTURE_SECLUDED";

/// Whether this process has what it needs to itself.
pub(crate) fn is_secluded() -> bool {
    env::var_os(SECLUDED).is_some()
}

/// Goes on in a process whose mounts nobody else sees, and which vanish with it however it ends. It is the same process,
/// started again with the same arguments, so this returns only in there, or with the reason why it is not possible.
pub(crate) fn seclude(seed: u64) -> Result<()> {
    set_apart(seed, &["--mount", "--propagation", "private"])
}

/// The same with a network that has nothing but a loopback, which is down.
pub(crate) fn seclude_network(seed: u64) -> Result<()> {
    set_apart(seed, &["--net"])
}

fn set_apart(seed: u64, as_root: &[&str]) -> Result<()> {
    if is_secluded() {
        return Ok(());
    }
    let as_user = [&["--user", "--map-root-user"], as_root].concat();
    let found = [as_root, &as_user].into_iter().find(|options| works("unshare", options, &["true"]));
    let options = found.ok_or_else(|| {
        skipped(format!("nothing of our own: `unshare {}` does not work here, try as root", as_root[0]))
    })?;
    let mut command = Command::new("unshare");
    command.args(options).arg("--").arg(env::current_exe()?).args(env::args_os().skip(1));
    if !env::args().any(|argument| argument == "--seed" || argument.starts_with("--seed=")) {
        command.args(["--seed", &seed.to_string()]);
    }
    Err(command.env(SECLUDED, "1").exec()).context("cannot start `unshare`")
}

/// Whether a program runs, with success.
pub(crate) fn works(program: &str, options: &[&str], arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(options).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a program of the system that has to succeed.
pub(crate) fn run(program: &str, arguments: &[&OsStr]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start `{program}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program}` failed with {}: {}", output.status, said.trim());
    Ok(())
}

/// A file system in memory, of a fixed size.
pub(crate) fn mount_memory(at: &Path, size: &str) -> Result<()> {
    std::fs::create_dir_all(at)?;
    let size = format!("size={size},mode=0700");
    run(
        "mount",
        &["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), size.as_ref(), "tmpfs".as_ref(), at.as_os_str()],
    )
}
