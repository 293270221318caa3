//! One step of a command: a program that is announced, watched, timed and, when it fails, named.
//!
//! Invariants: a step's output reaches the terminal line by line as it is written; a step ends only when
//! everything it started has let go of that output, so a server that a test forgot to stop is an error.

use std::io::{BufRead, BufReader, PipeReader};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How long a program's children may hold its output after it has ended.
const STRAGGLERS: Duration = Duration::from_secs(10);

/// How often what comes over a network is asked for.
const INSTALLS_MAX: u32 = 3;
const INSTALL_PAUSE: Duration = Duration::from_secs(10);

/// Which of a runner's lines are worth repeating at the end.
#[derive(Clone, Copy)]
pub(crate) enum Closing {
    /// The lines that start with one of these texts, as from `cargo test`, which closes once per test binary.
    StartingWith(&'static [&'static str]),
    /// The last lines that are not empty.
    Last(usize),
}

/// What a finished step leaves for the summary.
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) took: Duration,
    pub(crate) closing: Vec<String>,
}

/// When the first step was announced.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Announces a step that is done in this process, with the minutes and seconds since the first one.
pub(crate) fn announce(name: &str) {
    let seconds = BEGIN.elapsed().as_secs();
    println!("\n── {name} ({}:{:02})", seconds / 60, seconds % 60);
}

/// Runs a program on the terminal as it is.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<()> {
    announce(name);
    let status = command.status().with_context(|| cannot_start(name, command))?;
    if status.success() {
        return Ok(());
    }
    Err(anyhow!("{name} failed ({status}): {}", shown(command)))
}

/// Runs a program that installs something, again if it fails: what comes over a network fails for a moment at times.
pub(crate) fn install(name: &str, command: &mut Command) -> Result<()> {
    insist(|| run(name, command))
}

/// Does something until it goes well, [`INSTALLS_MAX`] times at most.
pub(crate) fn insist(act: impl FnMut() -> Result<()>) -> Result<()> {
    insist_after(INSTALL_PAUSE, act)
}

fn insist_after(pause: Duration, mut act: impl FnMut() -> Result<()>) -> Result<()> {
    for attempt in 1..INSTALLS_MAX {
        let Err(error) = act() else { return Ok(()) };
        println!("{error:#}; attempt {} of {INSTALLS_MAX} in {} s", attempt + 1, pause.as_secs());
        thread::sleep(pause);
    }
    act()
}

/// Runs programs side by side on the terminal as they are. All of them must succeed.
pub(crate) fn run_together(name: &str, commands: Vec<Command>) -> Result<()> {
    announce(name);
    let mut running = Vec::new();
    for mut command in commands {
        let child = command.spawn().with_context(|| cannot_start(name, &command))?;
        running.push((shown(&command), child));
    }
    let mut failed = Vec::new();
    for (line, child) in &mut running {
        let status = child.wait()?;
        if !status.success() {
            failed.push(format!("{name} failed ({status}): {line}"));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow!(failed.join("\n"))) }
}

/// Runs a program and keeps its closing lines.
pub(crate) fn watch(name: &str, mut command: Command, closing: Closing) -> Result<Outcome> {
    announce(name);
    let started = Instant::now();
    // One pipe for both streams keeps their lines in the order they were written.
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let failed_start = cannot_start(name, &command);
    let line_shown = shown(&command);
    let mut child = command.spawn().context(failed_start)?;
    drop(command); // It holds our copies of the writing end; the pipe ends when the last one closes.

    let lines = relay(reader, closing);
    let status = child.wait()?;
    let closing = match lines.recv_timeout(STRAGGLERS) {
        Ok(kept) => kept,
        Err(RecvTimeoutError::Timeout) => bail!(
            "{name} ended, but something it started still runs {} s later; a test did not stop its server",
            STRAGGLERS.as_secs()
        ),
        Err(RecvTimeoutError::Disconnected) => bail!("the output of {name} could not be read"),
    };
    if !status.success() {
        bail!("{name} failed ({status}): {line_shown}");
    }
    Ok(Outcome { name: name.to_owned(), took: started.elapsed(), closing })
}

/// Prints what every runner said last.
pub(crate) fn summarize(outcomes: &[Outcome]) {
    println!("\n── In short");
    for outcome in outcomes {
        println!("{} ({:.0} s)", outcome.name, outcome.took.as_secs_f64());
        for line in &outcome.closing {
            println!("    {line}");
        }
    }
}

fn relay(reader: PipeReader, closing: Closing) -> mpsc::Receiver<Vec<String>> {
    let (done, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            println!("{line}");
            keep(&mut kept, line, closing);
        }
        // The receiver is gone only when the step has given up waiting, and has said so.
        let _ = done.send(kept);
    });
    lines
}

fn keep(kept: &mut Vec<String>, line: String, closing: Closing) {
    match closing {
        Closing::StartingWith(starts) if starts.iter().any(|start| line.starts_with(start)) => {
            kept.push(line);
        }
        Closing::StartingWith(_) => {}
        Closing::Last(_) if line.trim().is_empty() => {}
        Closing::Last(count) => {
            kept.push(line);
            if kept.len() > count {
                kept.remove(0);
            }
        }
    }
}

fn cannot_start(name: &str, command: &Command) -> String {
    format!("cannot start {name}: is `{}` installed?", command.get_program().display())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn closing_lines_come_from_both_streams_in_order() {
        let outcome = watch("numbers", shell("echo one; echo two >&2; echo; echo three"), Closing::Last(2));
        assert_eq!(outcome.unwrap().closing, ["two", "three"]);
    }

    #[test]
    fn closing_lines_can_be_chosen_by_their_start() {
        let script = "echo 'test result: ok. 1 passed'; echo noise; echo 'test result: ok. 2 passed'";
        let outcome = watch("cargo", shell(script), Closing::StartingWith(&["test result:"])).unwrap();
        assert_eq!(outcome.closing, ["test result: ok. 1 passed", "test result: ok. 2 passed"]);
    }

    #[test]
    fn a_failing_step_is_named_with_its_command() {
        let error = watch("the doomed step", shell("exit 3"), Closing::Last(1)).err().unwrap().to_string();
        assert!(error.contains("the doomed step") && error.contains("exit 3"), "{error}");
    }

    #[test]
    fn programs_side_by_side_are_all_awaited() {
        run_together("two", vec![shell("exit 0"), shell("exit 0")]).unwrap();
        let error = run_together("two", vec![shell("exit 4"), shell("exit 0")]).unwrap_err().to_string();
        assert!(error.contains("exit 4") && !error.contains("exit 0"), "{error}");
    }

    #[test]
    fn what_fails_for_a_moment_is_tried_again_but_not_for_ever() {
        let mut left = 2;
        let fails_twice = || {
            left -= 1;
            if left < 0 { Ok(()) } else { Err(anyhow!("no network")) }
        };
        insist_after(Duration::ZERO, fails_twice).unwrap();
        let mut tries = 0;
        let never = || {
            tries += 1;
            Err(anyhow!("no network"))
        };
        assert_eq!(insist_after(Duration::ZERO, never).unwrap_err().to_string(), "no network");
        assert_eq!(tries, INSTALLS_MAX);
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let error = run("nothing", &mut Command::new("no-such-program-here")).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program-here"), "{error:#}");
    }
}
