//! `cargo xtask setup`: installs what tests and checks need, and nothing that a user of the server needs.
//!
//! Every step may be repeated: it looks first and does only what is missing. An installation is current
//! while the file that ordered it equals the stamp, which is a copy of that file from the last success.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::step;
use crate::tools::CARGO_DENY;
use crate::tree::Tree;

/// The browser that page tests run in, where Debian puts it.
const CHROMIUM: &str = "/usr/bin/chromium";
/// Names another browser, here and for the page tests.
const CHROMIUM_VARIABLE: &str = "CHROMIUM_BIN";

/// The authority that tests get certificates from, and its version.
const PEBBLE: &str = "github.com/letsencrypt/pebble/v2/cmd/pebble";
const PEBBLE_VERSION: &str = "v2.10.1";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only what the tests need, without the tools of `check`
    #[arg(long)]
    tests: bool,
}

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    for_tests(tree)?;
    if !arguments.tests {
        CARGO_DENY.install(tree)?;
        if let Err(reason) = install_valgrind()? {
            println!("instructions are not counted: {reason}");
        }
    }
    Ok(())
}

/// Everything that `cargo xtask test` needs.
pub(crate) fn for_tests(tree: &Tree) -> Result<()> {
    for_javascript(tree)?;
    for_python(tree)?;
    install_chromium()?;
    for_torture()
}

/// What some fault scenarios look through. Without it they are skipped, and say so.
pub(crate) fn for_torture() -> Result<()> {
    let library = |multiarch: &str| Path::new("/usr/lib").join(multiarch).join("faketime/libfaketimeMT.so.1");
    let has_library = ["x86_64-linux-gnu", "aarch64-linux-gnu", ""]
        .into_iter()
        .any(|multiarch| library(multiarch).exists());
    let has_strace = Command::new("strace").arg("--version").output().is_ok();
    for (package, is_installed) in [("strace", has_strace), ("libfaketime", has_library)] {
        if is_installed {
            println!("{package} is installed");
            continue;
        }
        let consequence = "the fault scenarios that need it are skipped";
        if is_debian() && is_root()? {
            or_without(apt_install(package, package), package, consequence);
        } else {
            println!("{package} is not installed: {consequence}");
        }
    }
    Ok(())
}

/// What counts instructions. Answers why it is not there, if it cannot be installed.
pub(crate) fn install_valgrind() -> Result<Result<(), String>> {
    if Command::new("valgrind").arg("--version").output().is_ok() {
        return Ok(Ok(()));
    }
    if is_debian() && is_root()? {
        // A machine without network can check everything else.
        return Ok(apt_install("valgrind", "valgrind").map_err(|error| format!("{error:#}")));
    }
    Ok(Err("there is no valgrind, which is the package of the same name on most systems".to_owned()))
}

/// The JavaScript clients, exactly as the lock file has them.
pub(crate) fn for_javascript(tree: &Tree) -> Result<()> {
    install_pebble(tree);
    let order = Order::new(tree, "conformance/package-lock.json");
    if tree.path("conformance/node_modules").is_dir() && order.is_current() {
        println!("JavaScript clients are installed");
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.current_dir(tree.path("conformance")).args(["ci", "--no-audit", "--no-fund"]);
    step::install("Install JavaScript clients (npm ci)", &mut npm)?;
    order.stamp()
}

/// A small authority for certificates. Without it the tests that need one are skipped, and say so.
fn install_pebble(tree: &Tree) {
    let directory = tree.target("tools").join("bin");
    let version = Command::new("go").args(["version", "-m"]).arg(directory.join("pebble")).output();
    let Ok(version) = version else {
        println!("Go is not installed: the tests against an authority for certificates are skipped");
        return;
    };
    if String::from_utf8_lossy(&version.stdout).contains(PEBBLE_VERSION) {
        println!("Pebble {PEBBLE_VERSION} is installed");
        return;
    }
    let mut go = Command::new("go");
    go.env("GOBIN", &directory).arg("install").arg(format!("{PEBBLE}@{PEBBLE_VERSION}"));
    let installed = step::install(&format!("Install Pebble {PEBBLE_VERSION} (go install)"), &mut go);
    or_without(installed, "Pebble", "the tests against an authority for certificates are skipped");
}

/// Says what follows when something could not be installed that can be done without.
fn or_without(installed: Result<()>, what: &str, consequence: &str) {
    if let Err(error) = installed {
        println!("{what} could not be installed: {consequence} ({error:#})");
    }
}

/// The Python clients, in a virtual environment of their own inside the build directory.
pub(crate) fn for_python(tree: &Tree) -> Result<()> {
    let order = Order::new(tree, "conformance/requirements.txt");
    if python(tree).is_file() && order.is_current() {
        println!("Python clients are installed");
        return Ok(());
    }
    install_venv_module()?;
    let mut venv = Command::new("python3");
    step::run("Create a Python environment", venv.args(["-m", "venv", "--clear"]).arg(tree.target("venv")))?;
    let mut pip = Command::new(python(tree));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    step::install("Install Python clients (pip install)", pip.arg(&order.file))?;
    order.stamp()
}

/// The interpreter that sees the Python clients.
pub(crate) fn python(tree: &Tree) -> PathBuf {
    tree.target("venv").join("bin").join("python")
}

/// The browser for page tests.
pub(crate) fn install_chromium() -> Result<()> {
    let named = env::var_os(CHROMIUM_VARIABLE).map(PathBuf::from);
    if let Some(browser) = &named {
        ensure!(browser.exists(), "{CHROMIUM_VARIABLE} names {}, which does not exist", browser.display());
    }
    if named.is_some() || Path::new(CHROMIUM).exists() {
        println!("Chromium is installed");
        return Ok(());
    }
    apt_install("chromium", &format!("Chromium at {CHROMIUM}, or where {CHROMIUM_VARIABLE} says,"))
}

/// Debian ships Python without the part that creates environments.
fn install_venv_module() -> Result<()> {
    let found = Command::new("python3").args(["-c", "import ensurepip, venv"]).output();
    if found.context("cannot start python3: install Python 3.9 or later")?.status.success() {
        return Ok(());
    }
    apt_install("python3-venv", "the module that creates Python environments")
}

fn apt_install(package: &str, purpose: &str) -> Result<()> {
    ensure!(
        is_debian() && is_root()?,
        "the tests need {purpose}: on Debian, run `apt-get install --no-install-recommends {package}` as root; \
         elsewhere install it in your system's way"
    );
    step::install("Refresh Debian's list of packages", &mut apt(&["update"]))?;
    let install = &mut apt(&["install", "-y", "--no-install-recommends", package]);
    step::install(&format!("Install Debian's {package}"), install)
}

fn apt(arguments: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
    apt
}

fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian")
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("cannot start `id`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// A file that says what to install, and its stamp.
struct Order {
    file: PathBuf,
    stamp: PathBuf,
}

impl Order {
    fn new(tree: &Tree, inside: &str) -> Self {
        let file = tree.path(inside);
        let name = file.file_name().unwrap_or_default();
        let stamp = tree.target("stamps").join(name);
        Self { file, stamp }
    }

    fn is_current(&self) -> bool {
        match (fs::read(&self.file), fs::read(&self.stamp)) {
            (Ok(ordered), Ok(installed)) => ordered == installed,
            _ => false,
        }
    }

    fn stamp(&self) -> Result<()> {
        if let Some(directory) = self.stamp.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::copy(&self.file, &self.stamp) {
            Ok(_) => Ok(()),
            Err(error) => bail!("cannot write {}: {error}", self.stamp.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_current_until_its_file_changes() {
        let directory = env::temp_dir().join(format!("channelapi-xtask-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let order = Order { file: directory.join("lock"), stamp: directory.join("stamps").join("lock") };
        fs::write(&order.file, "one").unwrap();
        assert!(!order.is_current());
        order.stamp().unwrap();
        assert!(order.is_current());
        fs::write(&order.file, "two").unwrap();
        assert!(!order.is_current());
        fs::remove_dir_all(&directory).unwrap();
    }
}
