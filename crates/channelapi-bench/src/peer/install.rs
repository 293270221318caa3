//! Installs peers from package registries, each with its own lock file, into the build folder: `cargo clean` takes them along, and
//! nothing of theirs is ever committed.
//!
//! What is installed already is left alone. An error says what is missing; the others are measured all the same.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// The version that is measured.
const SOCKUDO_VERSION: &str = "5.2.0";

/// Brings the compiler for protocol buffers that Sockudo is built with.
const GRPCIO_TOOLS: &str = "grpcio-tools==1.85.1";

/// Where the peers' sources are.
pub(super) fn source(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benchmarks/peers").join(inside)
}

/// Where they are installed: beside the profile's folder that this program runs from.
pub(super) fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // A test runs from a folder deeper down.
    let profile = own.ancestors().find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    let target = profile.and_then(Path::parent).context("this program lies outside of a build folder")?;
    Ok(target.join("peers"))
}

pub(super) fn socketioxide() -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked"]).env("CARGO_TARGET_DIR", folder()?);
    run(cargo.current_dir(source("socketioxide")))
}

/// Both Node peers: they differ in the file that is started.
pub(super) fn node() -> Result<()> {
    let (from, to) = (source("node"), folder()?.join("node"));
    std::fs::create_dir_all(&to)?;
    let is_current = to.join("node_modules").is_dir() && is_same(&from, &to, "package-lock.json");
    for file in ["package.json", ".npmrc", "ws.js", "uws.js", "contract.js", "launch.js"] {
        std::fs::copy(from.join(file), to.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    if is_current {
        return Ok(());
    }
    std::fs::copy(from.join("package-lock.json"), to.join("package-lock.json"))?;
    let mut npm = Command::new("npm");
    let installed = run(npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&to));
    if installed.is_err() {
        // It is the mark of a complete installation.
        std::fs::remove_file(to.join("package-lock.json"))?;
    }
    installed
}

/// µWebSockets comes as machine code, for some versions of Node on some systems.
pub(super) fn check_uws() -> Result<()> {
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--eval", "import '@trufflesuite/uws-js-unofficial'"]);
    let output = node.current_dir(folder()?.join("node")).output().context("cannot start node")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let reason = errors.lines().find(|line| line.contains("Error")).unwrap_or_default();
    // Without machine code for this Node the package falls back to an imitation, and says so.
    ensure!(
        output.status.success() && !errors.contains("fallback") && !errors.contains("Falling back"),
        "no npm package has µWebSockets for this Node: {reason}"
    );
    Ok(())
}

pub(super) fn python() -> Result<()> {
    let (from, to) = (source("python"), folder()?.join("python"));
    if is_same(&from, &to, "requirements.txt") {
        return Ok(());
    }
    let mut venv = Command::new("python3");
    run(venv.args(["-m", "venv", "--clear"]).arg(&to))?;
    let mut pip = Command::new(to.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    run(pip.arg(from.join("requirements.txt")))?;
    std::fs::copy(from.join("requirements.txt"), to.join("requirements.txt"))?;
    Ok(())
}

pub(super) fn centrifuge() -> Result<()> {
    let program = folder()?.join("centrifuge");
    let mut go = Command::new("go");
    run(go.args(["build", "-mod=readonly", "-o"]).arg(program).current_dir(source("centrifuge")))
}

/// Built from its own lock file, in the folder of the other builds. Its build script needs `protoc`, which comes from a package
/// of Python's if there is none here.
pub(super) fn sockudo() -> Result<()> {
    let root = folder()?.join("sockudo");
    let installed = Command::new(root.join("bin/sockudo")).arg("--version").output();
    if installed.is_ok_and(|said| said.stdout.trim_ascii_end().ends_with(SOCKUDO_VERSION.as_bytes())) {
        return Ok(());
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "sockudo", "--version", SOCKUDO_VERSION, "--locked", "--root"]).arg(&root);
    cargo.env("CARGO_TARGET_DIR", folder()?).env("PROTOC", protoc()?);
    // Its users have its allocator as it is; cargo gives us the settings of ours.
    cargo.env_remove("JEMALLOC_SYS_WITH_MALLOC_CONF");
    run(&mut cargo)
}

/// The compiler for protocol buffers.
fn protoc() -> Result<PathBuf> {
    if Command::new("protoc").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok("protoc".into());
    }
    let home = folder()?.join("protoc");
    let (python, protoc) = (home.join("bin/python"), home.join("bin/protoc"));
    if protoc.exists() {
        return Ok(protoc);
    }
    let mut venv = Command::new("python3");
    run(venv.args(["-m", "venv", "--clear"]).arg(&home))?;
    let mut pip = Command::new(&python);
    run(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", GRPCIO_TOOLS]))?;
    // It is the mark of a complete installation.
    std::fs::write(&protoc, format!("#!/bin/sh\nexec '{}' -m grpc_tools.protoc \"$@\"\n", python.display()))?;
    std::fs::set_permissions(&protoc, Permissions::from_mode(0o755))?;
    Ok(protoc)
}

fn is_same(one: &Path, other: &Path, file: &str) -> bool {
    match (std::fs::read(one.join(file)), std::fs::read(other.join(file))) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// What the program prints goes where messages go: standard output is for tables.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    let status = command.status().with_context(|| format!("`{program}` is not installed"))?;
    ensure!(status.success(), "`{program}` failed ({status}): see what it said above");
    Ok(())
}
