//! `cargo xtask soak`: the long forms of the tests, for a night or before a release.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::step::{self, Closing, Outcome};
use crate::tree::Tree;
use crate::{fuzz, suites, test, torture};

/// Repetitions of the official suites; a race that shows once in a few runs shows here.
const SUITES_TIMES: u32 = 10;
/// The tests of crowds, in `crates/channelapi/tests/crowds.rs`.
const CROWD: &str = "whoever_is_gone_leaves_nothing_behind";
const STORM: &str = "whoever_loses_the_server_is_back_soon";
/// The test of random schedules of joins, publications and slow readers, in `crates/channelapi-core/src/delivery/`.
const SCHEDULE: &str = "delivery::schedules::nothing_is_left_out_or_repeated_or_promised";
/// How many of them.
const SCHEDULES: u32 = 100_000;
/// Clients that come and go.
const ABANDON_CYCLES: u32 = 1_000_000;
/// Clients that lose their server in the same moment. Each has a file on both sides, and 20,000 is what many machines allow a process.
const STORM_CLIENTS: u32 = 19_000;
/// Packets of each kind that are read by the reference's parsers and by ours.
const PACKETS: u32 = 1_000_000;
/// Times that this is done, each with other packets.
const PACKETS_TIMES: u32 = 20;
/// Seconds for each fuzz target: an hour.
const FUZZ_SECONDS: u32 = 3600;

pub(crate) fn run(tree: &Tree) -> Result<()> {
    step::summarize(&torture::long(tree)?);
    step::summarize(&[crowd(tree)?, storm(tree)?, schedules(tree)?]);
    for _ in 0..PACKETS_TIMES {
        step::summarize(&[parsers(tree)?]);
    }
    fuzz::run(tree, &fuzz::Arguments { targets: Vec::new(), seconds: FUZZ_SECONDS })?;
    // Last, for they need a checkout that not every machine has.
    suites::run(tree, &suites::Arguments { checkout: None, times: SUITES_TIMES })
}

/// Clients that come and go in every way there is, and leave nothing behind.
fn crowd(tree: &Tree) -> Result<Outcome> {
    let mut test = one_test(tree, CROWDS, CROWD);
    test.env("ABANDON_CYCLES", ABANDON_CYCLES.to_string());
    let outcome = step::watch("A million clients that come and go", test, Closing::StartingWith(&[RESULT]))?;
    prove(&outcome, None)?;
    Ok(outcome)
}

/// Clients whose server is killed, and who are all back within ten seconds.
fn storm(tree: &Tree) -> Result<Outcome> {
    let mut test = one_test(tree, CROWDS, STORM);
    // With one thread, what the test says would stand behind its name.
    test.env("STORM_CLIENTS", STORM_CLIENTS.to_string()).args(["--nocapture", "--test-threads=2"]);
    let closing = Closing::StartingWith(&[RESULT, "storm:"]);
    let outcome = step::watch("Clients that all come back at once", test, closing)?;
    prove(&outcome, Some(&format!("storm: {STORM_CLIENTS} clients,")))?;
    Ok(outcome)
}

/// Whatever comes in whatever order, every client gets what it is owed.
fn schedules(tree: &Tree) -> Result<Outcome> {
    let mut test = one_test(tree, &["channelapi-core", "--lib"], SCHEDULE);
    test.env("SCHEDULES", SCHEDULES.to_string());
    let outcome = step::watch("Random schedules of deliveries", test, Closing::StartingWith(&[RESULT]))?;
    prove(&outcome, None)?;
    Ok(outcome)
}

/// What nobody has thought of is read as the reference reads it.
fn parsers(tree: &Tree) -> Result<Outcome> {
    let outcome = test::compare_parsers(tree, PACKETS)?;
    let both_passed = outcome.closing.iter().any(|line| line.ends_with("pass 2"));
    ensure!(
        both_passed,
        "{}: two tests should have passed, but it ended with {:?}",
        outcome.name,
        outcome.closing
    );
    Ok(outcome)
}

/// Where the tests of crowds are.
const CROWDS: &[&str] = &["channelapi", "--test", "crowds"];

/// The test of this name, in the release profile.
fn one_test(tree: &Tree, place: &[&str], name: &str) -> Command {
    let mut test = tree.cargo();
    test.args(["test", "--release", "--locked", "-p"]).args(place).args(["--", "--exact", name]);
    test
}

/// How `cargo test` says what came of the tests.
const RESULT: &str = "test result:";

/// Whether the one test ran, and said its figure, if it has one: where there is no test of that name, cargo is content, too.
fn prove(outcome: &Outcome, figure: Option<&str>) -> Result<()> {
    let Outcome { name, closing, .. } = outcome;
    let results: Vec<_> = closing.iter().filter(|line| line.starts_with(RESULT)).collect();
    let is_one = matches!(results[..], [result] if result.starts_with("test result: ok. 1 passed;"));
    ensure!(is_one, "{name}: one test should have passed, but cargo said {results:?}");
    if let Some(figure) = figure {
        let is_said = closing.iter().any(|line| line.starts_with(figure));
        ensure!(is_said, "{name}: the test passed, but did not say `{figure}`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[track_caller]
    fn check(closing: &[&str], figure: Option<&str>, problem: Option<&str>) {
        let closing = closing.iter().map(|line| (*line).to_owned()).collect();
        let outcome = Outcome { name: "a step".to_owned(), took: Duration::ZERO, closing };
        let told = prove(&outcome, figure).err().map(|error| error.to_string());
        let is_right = match (&told, problem) {
            (Some(told), Some(problem)) => told.contains(problem),
            (told, problem) => told.is_none() && problem.is_none(),
        };
        assert!(is_right, "{told:?}");
    }

    /// A test that got another name was left out, and the step called passed.
    #[test]
    fn a_step_without_its_test_fails() {
        const ONE: &str =
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s";
        const NONE: &str =
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.00s";
        const MANY: &str =
            "test result: ok. 11 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        check(&[ONE], None, None);
        for closing in [&[][..], &[NONE], &[MANY], &[ONE, ONE], &["1 passed;"]] {
            check(closing, None, Some("a step: one test should have passed"));
        }
        let (figure, said) = ("storm: 19000 clients,", "storm: 19000 clients, 7 refusals on the way");
        check(&[said, ONE], Some(figure), None);
        for other in ["storm: 2000 clients, 7 refusals on the way", "19000 clients,"] {
            check(&[other, ONE], Some(figure), Some("did not say `storm: 19000 clients,`"));
        }
        check(&[said, NONE], Some(figure), Some("one test should have passed"));
    }

    #[test]
    fn the_tests_of_the_steps_are_there() {
        let read = |path| std::fs::read_to_string(Tree::find().unwrap().path(path)).unwrap();
        let crowds = read("crates/channelapi/tests/crowds.rs");
        for name in [CROWD, STORM] {
            assert!(crowds.contains(&format!("#[test]\nfn {name}()")), "{name}");
        }
        let (_, name) = SCHEDULE.rsplit_once("::").unwrap();
        assert!(read("crates/channelapi-core/src/delivery/schedules.rs").contains(&format!("fn {name}(")));
    }
}
