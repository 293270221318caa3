//! Logs: structured lines on standard error.
//!
//! Invariant: whoever logs does not wait for whoever reads the log. A thread of its own does, and the end of the process for a moment.

mod queue;

use crate::config::Config;
use crate::config::value::{LogFormat, LogLevel};
use crate::metrics::LOG_LINES_DROPPED;
use crate::output;
use crate::reload::{Change, Part};
use queue::{Queue, Waiting};
use rustix::io::Errno;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::io::{self, IsTerminal as _, stderr};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tracing::error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

/// Whether lines are written for people.
pub(crate) fn is_for_people(format: LogFormat) -> bool {
    match format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => stderr().is_terminal(),
    }
}

/// How much is logged, which can be changed.
#[derive(Clone)]
pub(crate) struct Verbosity(reload::Handle<Targets, Registry>);

impl Part for Verbosity {
    fn options(&self, _: &Config) -> &'static [&'static str] {
        &["log.level"]
    }

    fn prepare(&self, config: &Config) -> anyhow::Result<Change> {
        let (handle, filter) = (self.0.clone(), filter(config.log.level));
        // It fails only when nobody logs any more.
        Ok(Box::new(move || _ = handle.reload(filter)))
    }
}

/// Of libraries only warnings are logged, whatever the level: theirs may hold data, ours do not.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets([("channelapi", level), ("channelapi_core", level)])
}

/// Starts logging.
pub(crate) fn start(level: LogLevel, format: LogFormat) -> Verbosity {
    // If there is no thread to be had, lines are written by whoever logs them.
    let writer = thread::Builder::new().name("logging".to_owned()).spawn(write_lines);
    HAS_WRITER.store(writer.is_ok(), Ordering::Release);
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Line);
    let layer = if is_for_people(format) {
        let has_colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        lines.with_target(false).with_ansi(has_colours).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Verbosity(handle)
}

/// How long the end of the process waits for a reader of the log.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// How long a panic waits for it, which may be the end of the process, and mostly is not.
const PANIC_PATIENCE: Duration = Duration::from_millis(100);

/// The pause before trying again what is not to be waited for.
const FULL_PAUSE: Duration = Duration::from_millis(10);

static QUEUE: Queue = Queue::new();

static HAS_WRITER: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// Waits until what was logged is written, for a second at most.
pub(crate) fn flush() {
    QUEUE.flush(LAST_PATIENCE);
}

/// Does so when it is dropped, also by a panic.
pub(crate) struct Flushed;

impl Drop for Flushed {
    fn drop(&mut self) {
        flush();
    }
}

/// Says something behind what was logged, in any format.
pub(crate) fn tell(text: &str) {
    hand_over(format!("{}\n", output::shown(text, &stderr())).as_bytes());
}

/// Says what the standard library says of a panic, which would wait for the reader of the log.
pub(crate) fn tell_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let backtrace = Backtrace::capture();
    let trace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\nstack backtrace:\n{backtrace}"),
        _ => String::new(),
    };
    tell(&format!("\nthread '{}' {panic}{trace}", thread.name().unwrap_or("<unnamed>")));
    // A second one while the thread unwinds ends the process, and nobody else would wait.
    QUEUE.flush(PANIC_PATIENCE);
}

/// Takes each line in one piece.
struct Line;

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        hand_over(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hand_over(line: &[u8]) {
    if IS_WRITER.get() || !HAS_WRITER.load(Ordering::Acquire) {
        write(line);
    } else {
        QUEUE.push(line);
    }
}

/// What the thread does.
fn write_lines() {
    IS_WRITER.set(true);
    loop {
        match QUEUE.next() {
            Waiting::Line(line) => write(&line),
            Waiting::Dropped(lines) => {
                error!(lines, "so many lines are missing here: the log was not read fast enough");
            }
        }
    }
}

/// Writes a line, for as long as it takes. Not through the standard library, in which others would wait for it, too.
fn write(mut line: &[u8]) {
    while !line.is_empty() {
        match rustix::io::write(stderr(), line) {
            Ok(written) => line = &line[written..],
            Err(Errno::INTR) => {}
            // Somebody who has it, too, does not want to wait.
            Err(Errno::AGAIN) => thread::sleep(FULL_PAUSE),
            Err(_) => return LOG_LINES_DROPPED.count(),
        }
    }
}
