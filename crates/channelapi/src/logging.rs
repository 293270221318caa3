//! Logs: structured lines on standard error.

use crate::config::Config;
use crate::config::value::{LogFormat, LogLevel};
use crate::reload::{Change, Part};
use std::io::{IsTerminal as _, stderr};
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
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let layer = if is_for_people(format) {
        let has_colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        lines.with_target(false).with_ansi(has_colours).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Verbosity(handle)
}
