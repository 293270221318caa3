//! `cargo xtask test`: sets up and runs all tests, from Rust's own to real clients against a release binary.
//!
//! It stops at the first failing step and names it; a complete run ends with what every runner said last.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::fuzz::Aside;
use crate::step::{self, Closing, Outcome};
use crate::tree::Tree;
use crate::{abuse, fuzz, run, setup, suites, torture};

#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Only one part of the tests
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    /// Unit, property and integration tests, and the fuzz seeds
    Rust,
    /// Stock JavaScript clients and the page in a browser
    Js,
    /// Stock Python clients
    Python,
    /// Kills and power cuts under load, full and failing disks, damage, slow clients: nothing may be lost
    Torture,
    /// Everything that somebody can send and should not
    Abuse,
    /// The official suites, if a checkout is known
    Suites,
}

/// In the order of the run: what fails fastest comes first.
const PARTS: &[Part] = &[Part::Rust, Part::Js, Part::Python, Part::Abuse, Part::Torture, Part::Suites];

pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let mut outcomes = Vec::new();
    let mut suites_ran = true;
    match arguments.only {
        None => setup::for_tests(tree)?,
        Some(part) => set_up(tree, part)?,
    }
    let mut fuzzing = None;
    for part in PARTS.iter().filter(|part| arguments.only.is_none_or(|only| only == **part)) {
        match part {
            // These mostly wait for something. Those in JavaScript do, too, but hundreds of them look at what comes first.
            Part::Python if arguments.only.is_none() => fuzzing = Some(Aside::start(tree)),
            // Here they look at how long it takes. What they need is built while there is still something to wait for.
            Part::Torture => {
                if fuzzing.is_some() {
                    torture::build_all(tree)?;
                }
                outcomes.extend(fuzzing.take().map(Aside::finish).transpose()?);
            }
            _ => {}
        }
        match part {
            Part::Rust => outcomes.extend(rust(tree)?),
            Part::Js => outcomes.push(javascript(tree)?),
            Part::Python => outcomes.push(python(tree)?),
            Part::Abuse => outcomes.push(abuse::watch(tree)?),
            Part::Torture => outcomes.extend(torture::short(tree)?),
            Part::Suites => {
                run::build_server(tree)?;
                let outcome = suites::run_if_found(tree, None, 1)?;
                suites_ran = outcome.is_some();
                outcomes.extend(outcome);
            }
        }
    }
    step::summarize(&outcomes);
    let but = if suites_ran { "" } else { ", BUT THE OFFICIAL SUITES DID NOT RUN (see above)" };
    println!("\nAll tests that ran passed{but}.");
    Ok(())
}

fn set_up(tree: &Tree, part: Part) -> Result<()> {
    match part {
        Part::Rust | Part::Abuse => Ok(()),
        Part::Torture => setup::for_torture(),
        Part::Js => setup::for_javascript(tree).and_then(|()| setup::install_chromium()),
        Part::Python => setup::for_python(tree),
        Part::Suites => setup::for_javascript(tree),
    }
}

fn rust(tree: &Tree) -> Result<Vec<Outcome>> {
    let closing = Closing::StartingWith(&["test result:"]);
    let mut workspace = tree.cargo();
    workspace.args(["test", "--workspace", "--locked"]);
    let mut seeds = tree.cargo();
    // The server's files that the laws look at bring their own tests, which ran before.
    seeds.args(["test", "--locked", "--manifest-path", fuzz::MANIFEST, "--"]);
    seeds.args(["--skip", "config::", "--skip", "server::"]);
    Ok(vec![
        step::watch("Rust tests", workspace, closing)?,
        step::watch("Laws of the parsers on the fuzz seeds", seeds, closing)?,
    ])
}

fn javascript(tree: &Tree) -> Result<Outcome> {
    run::build_server(tree)?;
    let mut npm = conformance("npm", tree);
    npm.env("CHANNELAPI_PACKETS", build_parsers(tree)?);
    npm.current_dir(tree.path("conformance")).arg("test");
    step::watch("JavaScript clients", npm, Closing::Last(8))
}

/// Our parsers against those of the reference, on so many packets that nobody has thought of.
pub(crate) fn compare_parsers(tree: &Tree, packets: u32) -> Result<Outcome> {
    setup::for_javascript(tree)?;
    let mut node = Command::new("node");
    node.env("CHANNELAPI_PACKETS", build_parsers(tree)?).env("DIFFERENTIAL_COUNT", packets.to_string());
    node.current_dir(tree.path("conformance")).args(["--test", "differential.test.js"]);
    step::watch("The reference's parsers and ours", node, Closing::Last(8))
}

fn build_parsers(tree: &Tree) -> Result<PathBuf> {
    let mut packets = tree.cargo();
    packets.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "channelapi-protocol",
        "--example",
        "packets",
    ]);
    step::run("Build our parsers for comparing them", &mut packets)?;
    Ok(tree.target(&format!("release/examples/packets{}", std::env::consts::EXE_SUFFIX)))
}

fn python(tree: &Tree) -> Result<Outcome> {
    run::build_server(tree)?;
    let mut python = conformance(setup::python(tree), tree);
    python.current_dir(tree.path("")).arg("conformance/python");
    step::watch("Python clients", python, Closing::Last(3))
}

fn conformance(program: impl AsRef<Path>, tree: &Tree) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env("CHANNELAPI_BIN", tree.server());
    command
}
