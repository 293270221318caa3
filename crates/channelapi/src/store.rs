//! The verbs that work on a data directory, whether a server runs on it or not.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use channelapi_core::broker::{Damage, Report, Stats, log_stats, verify_log};
use channelapi_core::hub::{Backup, backup};
use channelapi_core::model::Policies;
use channelapi_core::state;
use serde_json::json;

use crate::output::{Output, print};

/// What to do with a data directory.
#[derive(Debug)]
pub struct Store {
    /// The directory.
    pub data_dir: PathBuf,
    /// What to do.
    pub verb: Verb,
    /// How the result is printed.
    pub output: Output,
}

/// What can be done with one.
#[derive(Debug)]
pub enum Verb {
    /// Copy it.
    Backup(PathBuf),
    /// Check every byte of it.
    Verify,
    /// Sum it up, as a server with these policies would see it.
    Stats(Policies),
}

/// Does it.
pub fn run(request: &Store) -> anyhow::Result<()> {
    let data = &request.data_dir;
    enter(data)?;
    match &request.verb {
        Verb::Backup(destination) => {
            let taken = backup(data, destination)?;
            let place = destination.display().to_string();
            let json =
                || json!({"backup": place, "log_bytes": taken.log_bytes, "state_bytes": taken.state_bytes});
            show(request.output, || describe(&place, taken), json);
            judge(destination)
        }
        Verb::Verify => verify(data, request.output),
        Verb::Stats(policies) => {
            let now = SystemTime::UNIX_EPOCH.elapsed()?.as_millis();
            let stats = log_stats(&log_in(data)?, policies, u64::try_from(now)?)?;
            show(request.output, || describe_stats(&stats), || stats_json(&stats));
            Ok(())
        }
    }
}

fn show(output: Output, text: impl FnOnce() -> String, json: impl FnOnce() -> serde_json::Value) {
    match output {
        Output::Quiet => {}
        Output::Table => print(&text()),
        Output::Json => print(&json().to_string()),
    }
}

/// Says why there is nothing to see in a directory, if that is not for what is in it.
fn enter(data: &Path) -> anyhow::Result<()> {
    // To look at itself from inside takes the right to look into it, and no more.
    let Err(error) = data.join(".").metadata() else { return Ok(()) };
    let data = data.display();
    match error.kind() {
        ErrorKind::NotFound => {
            anyhow::bail!("{data} does not exist; say where the data directory is with --data-dir")
        }
        ErrorKind::PermissionDenied => {
            anyhow::bail!("{data}: {error}; run this as the user that runs the server")
        }
        ErrorKind::NotADirectory => Ok(()),
        _ => anyhow::bail!("{data}: {error}"),
    }
}

/// The log of a data directory.
fn log_in(data: &Path) -> anyhow::Result<PathBuf> {
    let log = data.join("log");
    anyhow::ensure!(
        log.is_dir(),
        "{} is no data directory: it has no log; say which one with --data-dir",
        data.display()
    );
    Ok(log)
}

/// Says whether a backup is good for anything: what is wrong with it was wrong before, and maybe nobody knows.
fn judge(backup: &Path) -> anyhow::Result<()> {
    let log = backup.join("log");
    let damaged = if log.is_dir() { verify_log(&log)?.damage.len() } else { 0 };
    let wrong = damaged + wrong_besides(backup).len();
    let backup = backup.display();
    anyhow::ensure!(
        wrong == 0,
        "the copy is as incomplete as what was copied: {} in it; `channelapi store verify --data-dir {backup}` \
         names what is wrong; keep the backups from before",
        if wrong == 1 {
            "1 place is damaged or missing".to_owned()
        } else {
            format!("{wrong} places are damaged or missing")
        }
    );
    Ok(())
}

/// What is wrong with a data directory besides its log. What keeps it from being looked at is, too, and must not hide the rest.
fn wrong_besides(data: &Path) -> Vec<String> {
    state::check(data).unwrap_or_else(|error| vec![error.to_string()])
}

fn verify(data: &Path, output: Output) -> anyhow::Result<()> {
    let report = verify_log(&log_in(data)?)?;
    let state = wrong_besides(data);
    show(output, || describe_report(&report, &state), || report_json(&report, &state));
    let wrong = report.damage.len() + state.len();
    anyhow::ensure!(
        wrong == 0,
        "{wrong} {} damaged in {}: a server on it goes on with what is sound and tells its clients what is \
         missing, or says why it cannot start; restore a backup if you want the rest",
        if wrong == 1 { "place is" } else { "places are" },
        data.display()
    );
    Ok(())
}

fn describe_report(report: &Report, state: &[String]) -> String {
    let mut lines = vec![format!(
        "{}, {}, {}, {}",
        count(report.segments, "segment"),
        size(report.bytes),
        count(report.records, "record"),
        count(report.publications, "publication")
    )];
    if report.torn_bytes > 0 {
        lines.push(format!("{} at the end were never written as a whole, and nobody was told they were: the next start cuts them off",
            size(report.torn_bytes)
        ));
    }
    for Damage { file, position, what } in &report.damage {
        lines.push(format!("log/{file} at {position}: {what}"));
    }
    lines.extend_from_slice(state);
    if report.damage.is_empty() && state.is_empty() {
        lines.push("sound".into());
    }
    lines.join("\n")
}

fn report_json(report: &Report, state: &[String]) -> serde_json::Value {
    let damage: Vec<_> = report
        .damage
        .iter()
        .map(|damage| json!({"file": damage.file, "position": damage.position, "what": damage.what}))
        .collect();
    json!({
        "segments": report.segments,
        "bytes": report.bytes,
        "records": report.records,
        "publications": report.publications,
        "torn_bytes": report.torn_bytes,
        "damage": damage,
        "state_damage": state,
    })
}

fn describe_stats(stats: &Stats) -> String {
    let bytes: u64 = stats.segments.iter().map(|segment| segment.bytes).sum();
    let live: u64 = stats.segments.iter().map(|segment| segment.live_bytes).sum();
    let mut lines = vec![format!(
        "{}, {} kept\n{}, {} on disk, {} of it live",
        count(stats.channels, "channel"),
        count(stats.publications, "publication"),
        count(stats.segments.len(), "segment"),
        size(bytes),
        size(live)
    )];
    for segment in &stats.segments {
        let (file, publications) = (&segment.file, count(segment.publications, "publication"));
        let (bytes, live) = (size(segment.bytes), size(segment.live_bytes));
        lines.push(format!("  {file}  {bytes:>10}  live {live:>10}  {publications}"));
    }
    if !stats.largest.is_empty() {
        lines.push("largest channels".into());
    }
    for (channel, publications, bytes) in &stats.largest {
        lines.push(format!("  {channel}  {}  {}", size(*bytes), count(*publications, "publication")));
    }
    lines.join("\n")
}

fn stats_json(stats: &Stats) -> serde_json::Value {
    let segments: Vec<_> = stats
        .segments
        .iter()
        .map(|segment| {
            json!({
                "file": segment.file,
                "bytes": segment.bytes,
                "live_bytes": segment.live_bytes,
                "publications": segment.publications,
            })
        })
        .collect();
    let largest: Vec<_> = stats
        .largest
        .iter()
        .map(|(channel, publications, bytes)| {
            json!({"channel": channel.as_str(), "publications": publications, "bytes": bytes})
        })
        .collect();
    json!({
        "channels": stats.channels,
        "publications": stats.publications,
        "oldest_ts": stats.times.map(|(oldest, _)| oldest),
        "newest_ts": stats.times.map(|(_, newest)| newest),
        "segments": segments,
        "largest": largest,
    })
}

fn describe(destination: &str, taken: Backup) -> String {
    let Backup { log_bytes, state_bytes } = taken;
    format!(
        "copied to {destination}: {} of publications, {} of tokens and positions\n\
         it holds the server's secrets; to restore it, start a server with --data-dir on a copy of it",
        size(log_bytes),
        size(state_bytes)
    )
}

/// A number of things, for people.
fn count<N: Copy + std::fmt::Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A number of bytes, for people.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (3 << 20, "3.0 MiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
