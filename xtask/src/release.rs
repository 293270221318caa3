//! `cargo xtask release`: what is published, built so that anybody can build it again and get the same bytes.
//!
//! What is built is a commit, from before the first build until the last is done: whatever is not in one, nobody else has. Two builds, each from nothing and in a directory of its own, must
//! give the same file. Beside it lies what is in it, what it was built with, and the checksums of all of it. The binary is linked to the system's C library: names of hosts are looked up through it, which a static
//! one cannot do reliably.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::rustc::{host, said};
use crate::step;
use crate::tree::Tree;
use crate::{materials, step::announce};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build once, and do not look whether a second build would be the same
    #[arg(long)]
    once: bool,
    /// Build what is not committed, too
    #[arg(long)]
    dirty: bool,
    /// Only print the bill of materials (CycloneDX 1.5), and build nothing
    #[arg(long)]
    bill: bool,
}

/// Where everything is put that is published.
const ARTIFACTS: &str = "release-artifacts";
/// What the places of this machine are called in the binary, wherever it is built.
const SOURCES: &str = "/channelapi";
const REGISTRY: &str = "/cargo";
const TOOLCHAIN: &str = "/rust";

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    if arguments.bill {
        print!("{}", materials::bill(tree)?);
        return Ok(());
    }
    let before = Sources::look(tree);
    if !arguments.dirty {
        all_committed(before.changes.as_deref())?;
    }
    let first = build(tree, "one")?;
    if !arguments.once {
        let second = build(tree, "two")?;
        announce("The two builds are the same");
        let (first, second) = (checksum(&first)?, checksum(&second)?);
        ensure!(first == second, "two builds of the same sources differ: {first} and {second}");
        println!("{first}");
    }
    // Before the last release makes way.
    let after = Sources::look(tree);
    let (bill, build) = (materials::bill(tree)?, circumstances(tree, &after, arguments.once)?);
    if !arguments.dirty {
        nothing_came_between(&before, &after)?;
    }
    let folder = tree.target(ARTIFACTS);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let name = format!("channelapi-{}-{}", materials::version(tree)?, host(tree)?);
    let mut files = vec![name.clone(), format!("{name}.cdx.json"), format!("{name}.build.txt")];
    let mut files: Vec<_> = files.drain(..).map(|name| folder.join(name)).collect();
    fs::copy(&first, &files[0]).with_context(|| format!("cannot copy {}", first.display()))?;
    fs::write(&files[1], bill)?;
    fs::write(&files[2], &build)?;
    for document in ["LICENSE", "CHANGELOG.md", "SECURITY.md"] {
        files.push(folder.join(document));
        fs::copy(tree.path(document), folder.join(document))?;
    }
    let mut sums = String::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        writeln!(sums, "{}  {name}", checksum(file)?)?;
    }
    fs::write(folder.join("SHA256SUMS"), &sums)?;
    println!("\n{}:\n{sums}\n{build}", folder.display());
    println!(
        "Before it is published, sign SHA256SUMS, for example with `gpg --armor --detach-sign SHA256SUMS`."
    );
    println!("{}", why_not_static(tree)?);
    Ok(())
}

/// What `git` says of what is built. A build takes what lies there when it comes to it, which may be minutes later.
struct Sources {
    /// None if it does not know, as where the sources came without it.
    commit: Option<String>,
    /// What is not committed, a line for each file. None if it does not know.
    changes: Option<String>,
}

impl Sources {
    fn look(tree: &Tree) -> Self {
        let said = |arguments: &[&str]| {
            let output = Command::new("git").current_dir(tree.path("")).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let commit = said(&["rev-parse", "HEAD"]).map(|commit| commit.trim().to_owned());
        Self { commit, changes: said(&["status", "--porcelain"]) }
    }
}

fn all_committed(changes: Option<&str>) -> Result<()> {
    let changes = changes.context("git does not say what is built here; --dirty builds it all the same")?;
    let changes = changes.trim_end();
    ensure!(
        changes.is_empty(),
        "nobody else has what is not committed; commit it or put it away, or build it all the same with --dirty:\n{changes}"
    );
    Ok(())
}

/// Whether what lay there when the builds began is what lay there when they were done.
fn nothing_came_between(before: &Sources, after: &Sources) -> Result<()> {
    let changed = "the sources changed while they were built";
    all_committed(after.changes.as_deref()).context(changed)?;
    ensure!(
        before.commit.is_some() && before.commit == after.commit,
        "{changed}: from {} to {}; build again, or take what there is with --dirty",
        before.commit.as_deref().unwrap_or("an unknown commit"),
        after.commit.as_deref().unwrap_or("an unknown one")
    );
    Ok(())
}

/// What a commit is called, and whether there was more.
fn name_of(sources: &Sources) -> String {
    let commit = sources.commit.as_deref().unwrap_or("unknown");
    match sources.changes.as_deref() {
        Some("") => commit.to_owned(),
        Some(_) => format!("{commit}-dirty"),
        None => format!("{commit}, perhaps with changes"),
    }
}

/// What is known of another build of the same sources. Two that differ end before.
fn reproducible(once: bool) -> &'static str {
    if once { "not checked" } else { "yes, two builds were the same" }
}

/// What whoever builds it again needs besides the sources: other compilers make other bytes.
fn circumstances(tree: &Tree, sources: &Sources, once: bool) -> Result<String> {
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).current_dir(tree.path("")).args(arguments).output();
        let said = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        let said = said.map(|said| String::from_utf8_lossy(&said).into_owned());
        let line = said.as_deref().and_then(|said| said.lines().next()).map(|line| line.trim().to_owned());
        line.unwrap_or_else(|| "unknown".to_owned())
    };
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    Ok(format!(
        "commit: {}\nreproducible: {}\n{}\nC compiler: {}\nC library: {}\n",
        name_of(sources),
        reproducible(once),
        said(tree, &["--version", "--verbose"])?,
        first_line(&compiler, &["--version"]),
        first_line("ldd", &["--version"]),
    ))
}

/// Whether a variable of the environment could change what is built. What should, is in the sources; `CC` alone may name a compiler, which
/// is then told.
fn may_change_the_build(name: &str) -> bool {
    const STARTS: [&str; 16] = [
        "AR_",
        "AWS_LC_",
        "CARGO_BUILD_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CC_",
        "CFLAGS",
        "CMAKE_",
        "CPPFLAGS",
        "CXX",
        "HOST_",
        "JEMALLOC_",
        "LDFLAGS",
        "RANLIB_",
        "RUSTC_",
        "TARGET_",
    ];
    const NAMES: [&str; 9] = [
        "AR",
        "ARFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CROSS_COMPILE",
        "LIBSQLITE3_FLAGS",
        "RANLIB",
        "RUSTFLAGS",
        "SQLITE_MAX_VARIABLE_NUMBER",
    ];
    NAMES.contains(&name) || STARTS.iter().any(|start| name.starts_with(start))
}

/// Why there is no binary without a C library beside it.
fn why_not_static(tree: &Tree) -> Result<String> {
    let musl = format!("{}-unknown-linux-musl", env::consts::ARCH);
    let is_installed = toolchain(tree)?.join("lib/rustlib").join(&musl).is_dir();
    let state = if is_installed {
        "is installed, but nobody tests this server with it"
    } else {
        "is not installed here"
    };
    Ok(format!(
        "There is no static binary: glibc looks up names of hosts through files of the system, which it cannot do reliably from inside a \
         static one, and Rust's {musl} {state}."
    ))
}

/// A build from nothing, which knows neither where nor when it takes place.
fn build(tree: &Tree, name: &str) -> Result<PathBuf> {
    let target = tree.target("reproduce").join(name);
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    // The last that fits counts, so what may be inside another comes behind it.
    let places = [
        (tree.path(""), SOURCES.to_owned()),
        (cargo_home()?, REGISTRY.to_owned()),
        (toolchain(tree)?, TOOLCHAIN.to_owned()),
        (target.clone(), format!("{SOURCES}/target")),
    ];
    let remap = |flag: &str, separator: &str| {
        let flags = places.iter().map(|(from, to)| format!("{flag}{}={to}", from.display()));
        flags.collect::<Vec<_>>().join(separator)
    };
    let mut cargo = tree.cargo();
    cargo.args(["build", "--release", "--locked", "--package", "channelapi"]);
    let names = env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| may_change_the_build(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_TARGET_DIR", &target).env("CARGO_INCREMENTAL", "0");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", remap("--remap-path-prefix=", "\x1f"));
    // What is written in C, too.
    cargo.env("CFLAGS", remap("-ffile-prefix-map=", " ")).env("SOURCE_DATE_EPOCH", "0");
    step::run(&format!("Build {name} of the release, from nothing"), &mut cargo)?;
    Ok(target.join("release").join(format!("channelapi{}", env::consts::EXE_SUFFIX)))
}

fn cargo_home() -> Result<PathBuf> {
    let given = env::var_os("CARGO_HOME").map(PathBuf::from);
    let default = env::home_dir().map(|home| home.join(".cargo"));
    given.or(default).context("neither CARGO_HOME nor a home directory is known")
}

fn toolchain(tree: &Tree) -> Result<PathBuf> {
    Ok(said(tree, &["--print", "sysroot"])?.into())
}

fn checksum(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CARGO_BUILD_TARGET` put the binary where nobody looked for it; flags and settings of whoever builds were in it.
    #[test]
    fn what_is_set_around_a_build_is_not_in_it() {
        for name in [
            "CFLAGS_x86_64_unknown_linux_gnu",
            "JEMALLOC_SYS_WITH_MALLOC_CONF",
            "CARGO_BUILD_TARGET",
            "RUSTFLAGS",
            "CC_x86_64_unknown_linux_gnu",
            "CC_x86_64-unknown-linux-gnu",
            "TARGET_CC",
            "HOST_CC",
            "TARGET_CFLAGS",
            "HOST_CFLAGS",
            "CXX",
            "CXXFLAGS",
            "CXX_x86_64_unknown_linux_gnu",
            "AR",
            "AR_x86_64_unknown_linux_gnu",
        ] {
            assert!(may_change_the_build(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "HOSTNAME",
            "CARGO_HOME",
            "RUSTUP_TOOLCHAIN",
            "https_proxy",
            "CARGO_NET_OFFLINE",
            "CC",
        ] {
            assert!(!may_change_the_build(name), "{name}");
        }
    }

    #[test]
    fn it_is_told_what_a_release_was_built_with() {
        let tree = Tree::find().unwrap();
        let sources = Sources::look(&tree);
        let told = circumstances(&tree, &sources, true).unwrap();
        let value = |key: &str| told.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        assert_eq!(value("reproducible"), Some("not checked"), "{told}");
        let checked = circumstances(&tree, &sources, false).unwrap();
        assert!(checked.contains("\nreproducible: yes, two builds were the same\n"), "{checked}");
        assert!(value("commit").is_some() && value("C compiler").is_some(), "{told}");
        assert!(value("host").is_some_and(|host| host.contains('-')), "{told}");
        assert!(value("release").is_some_and(|release| release.starts_with("1.")), "{told}");
    }

    /// A release was built from whatever lay there, and a new file did not even make it `-dirty`.
    #[test]
    fn what_is_not_committed_is_in_no_release_unless_it_is_wanted() {
        all_committed(Some("")).unwrap();
        for (changes, part) in [
            (Some(" M crates/channelapi/src/main.rs\n"), "with --dirty:\n M crates/channelapi/src/main.rs"),
            (Some("?? crates/channelapi/src/new.rs\n"), "?? crates/channelapi/src/new.rs"),
            (None, "git does not say"),
        ] {
            let error = all_committed(changes).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("--dirty"), "{error}");
        }
        assert_eq!(name_of(&sources(Some("abc"), Some(""))), "abc");
        assert_eq!(name_of(&sources(Some("abc"), Some("?? new.rs\n"))), "abc-dirty");
        assert_eq!(name_of(&sources(None, None)), "unknown, perhaps with changes");
    }

    fn sources(commit: Option<&str>, changes: Option<&str>) -> Sources {
        Sources { commit: commit.map(str::to_owned), changes: changes.map(str::to_owned) }
    }

    /// The sources were looked at before two builds of minutes each, and what was saved meanwhile was in the release of a commit without it.
    #[test]
    fn what_is_saved_or_committed_while_it_is_built_is_in_no_release() {
        let before = sources(Some("abc"), Some(""));
        nothing_came_between(&before, &sources(Some("abc"), Some(""))).unwrap();
        for (commit, changes, part) in [
            (Some("abc"), Some(" M crates/channelapi/src/main.rs\n"), "M crates/channelapi/src/main.rs"),
            (Some("abc"), None, "git does not say"),
            (Some("def"), Some(""), "from abc to def"),
            (None, Some(""), "from abc to an unknown one"),
        ] {
            let error =
                format!("{:#}", nothing_came_between(&before, &sources(commit, changes)).unwrap_err());
            assert!(error.contains("while they were built") && error.contains(part), "{error}");
        }
        assert!(nothing_came_between(&sources(None, Some("")), &sources(None, Some(""))).is_err());
    }
}
