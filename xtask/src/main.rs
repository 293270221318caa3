//! The menu: everything a developer or CI does in this repository is a command here.
//!
//! One file per command. A command is a short list of steps (`step.rs`) that print what they do and name
//! themselves when they fail, so that a red CI run reads like a sentence.

mod abuse;
mod advisories;
mod bench;
mod check;
mod fuzz;
mod hygiene;
mod imports;
mod instructions;
mod materials;
mod release;
mod run;
mod rustc;
mod setup;
mod soak;
mod step;
mod suites;
mod test;
mod tools;
mod torture;
mod tree;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::tree::Tree;

/// Everything a developer or CI does here. Without a command, prints this menu.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Menu {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests and checks need (never anything a user of the server needs)
    Setup(setup::Arguments),
    /// Formatting, lints, docs, import direction, dependencies, the tidiness of files, and counts of instructions
    Check,
    /// Set up and run all tests: Rust, real JavaScript and Python clients, the official suites
    Test(test::Arguments),
    /// What CI runs: check, then test
    Ci,
    /// The official Engine.IO and Socket.IO test suites against our server
    Suites(suites::Arguments),
    /// Fuzz the parsers; `fuzz list` names the targets
    Fuzz(fuzz::Arguments),
    /// Break the server on purpose and prove that nothing is lost: kill -9, power cuts, full and failing disks
    Torture(torture::Arguments),
    /// Send the server everything that it should not be sent, beside honest clients that must not notice
    Abuse(abuse::Arguments),
    /// The long forms of the tests: suites ten times, a thousand kills, every fuzz target for an hour
    Soak,
    /// Whether a weakness is known in what we depend on; asks the database of RustSec
    Advisories(advisories::Arguments),
    /// What is published: two builds that must be the same, a bill of materials, checksums
    Release(release::Arguments),
    /// The load generator, with its own arguments
    Bench(bench::Arguments),
    /// Count the instructions of the work that every message needs; more than recorded is a failure
    Instructions(instructions::Arguments),
    /// The server, built in release mode, with its own arguments
    Run(run::Arguments),
}

fn main() -> ExitCode {
    let Some(command) = Menu::parse().command else {
        print!("{}", Menu::command().render_help());
        return ExitCode::SUCCESS;
    };
    match perform(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> anyhow::Result<()> {
    let tree = Tree::find()?;
    match command {
        Command::Setup(arguments) => setup::run(&tree, &arguments),
        Command::Check => check::run(&tree),
        Command::Test(arguments) => test::run(&tree, &arguments),
        Command::Ci => {
            check::run(&tree)?;
            test::run(&tree, &test::Arguments::default())
        }
        Command::Suites(arguments) => suites::run(&tree, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&tree, &arguments),
        Command::Torture(arguments) => torture::run(&tree, &arguments),
        Command::Abuse(arguments) => abuse::run(&tree, &arguments),
        Command::Soak => soak::run(&tree),
        Command::Advisories(arguments) => advisories::run(&tree, &arguments),
        Command::Release(arguments) => release::run(&tree, &arguments),
        Command::Bench(arguments) => bench::run(&tree, &arguments),
        Command::Instructions(arguments) => instructions::run(&tree, &arguments),
        Command::Run(arguments) => run::run(&tree, &arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn menu_is_well_formed() {
        Menu::command().debug_assert();
    }

    #[test]
    fn every_command_on_the_menu_says_what_it_does() {
        for command in Menu::command().get_subcommands() {
            assert!(command.get_about().is_some(), "`{}` has no line on the menu", command.get_name());
        }
    }
}
