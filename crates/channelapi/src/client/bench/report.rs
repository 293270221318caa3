//! What a run has found out, for people and for programs.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    Load,
    course::Course,
    tally::{Figure, Mishap, Mishaps, Times},
};
use crate::client::Failed;

/// What is told of the times of each figure.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// Above this share of a core the program itself is what is measured.
const BUSY: f64 = 0.9;

/// The result of a run.
pub(super) struct Report<'a> {
    course: &'a Course,
    times: BTreeMap<Figure, Times>,
    mishaps: BTreeMap<Mishap, Mishaps>,
    seconds: Duration,
    load_cpu: f64,
    is_interrupted: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(course: &'a Course, is_interrupted: bool) -> Self {
        let (seconds, load_cpu) = course.effort();
        let (times, mishaps) = (course.tally.times(), course.tally.mishaps());
        Self { course, times, mishaps, seconds, load_cpu, is_interrupted }
    }

    /// Whether everything went well.
    pub(super) fn verdict(&self) -> Result<(), Failed> {
        if self.mishaps.is_empty() {
            // A program that reads only the exit code must not take this for a result.
            let is_nothing = self.is_interrupted && self.times.is_empty();
            let nothing = || Err(Failed("interrupted before anything was measured".to_owned()));
            return if is_nothing { nothing() } else { Ok(()) };
        }
        let kinds = self.mishaps.iter().map(|(mishap, mishaps)| {
            let (count, first) = (grouped(mishaps.count), &mishaps.first);
            format!("\n  {count} {} (the first: {first})", mishap.names().1)
        });
        Err(Failed(format!("not everything went well:{}", kinds.collect::<String>())))
    }

    pub(super) fn json(&self) -> String {
        let bench = &self.course.bench;
        let figures: Map<String, Value> = self
            .times
            .iter()
            .map(|(figure, times)| {
                let histogram = &times.histogram;
                let mut told = json!({ "count": histogram.len(), "per_second": rounded(times.per_second()) });
                for (name, quantile) in QUANTILES {
                    told[format!("{name}_us")] = histogram.value_at_quantile(quantile).into();
                }
                told["max_us"] = histogram.max().into();
                (figure.names().0.to_owned(), told)
            })
            .collect();
        let errors: Map<String, Value> = self
            .mishaps
            .iter()
            .map(|(mishap, Mishaps { count, first })| {
                (mishap.names().0.to_owned(), json!({ "count": count, "first": first }))
            })
            .collect();
        json!({
            "bench": bench.load.name(),
            "server": bench.target.server.to_string(),
            "connections": bench.connections,
            "rate": bench.rate,
            "due": self.due().map(whole),
            "size": bench.size,
            "volatile": bench.is_volatile,
            "seconds": rounded(self.seconds.as_secs_f64()),
            "interrupted": self.is_interrupted,
            "load_cpu": rounded(self.load_cpu),
            "figures": figures,
            "errors": errors,
        })
        .to_string()
    }

    pub(super) fn table(&self) -> String {
        let mut text = self.headline();
        let _ = write!(text, "\n\n{:<26}{:>11}{:>11}", "", "count", "per second");
        for name in ["p50", "p90", "p99", "p99.9", "max"] {
            let _ = write!(text, "{name:>10}");
        }
        for (figure, times) in &self.times {
            let histogram = &times.histogram;
            let (count, rate) = (grouped(histogram.len()), grouped_rate(times.per_second()));
            let _ = write!(text, "\n{:<26}{count:>11}{rate:>11}", figure.names().1);
            let quantiles = QUANTILES.map(|(_, quantile)| histogram.value_at_quantile(quantile));
            for micros in quantiles.into_iter().chain([histogram.max()]) {
                let _ = write!(text, "{:>10}", shown(micros));
            }
        }
        let share = self.load_cpu * 100.0;
        let _ = write!(text, "\n\nThis program used {share:.0} % of one core");
        let seconds = self.seconds.as_secs_f64();
        let _ = write!(text, " in the last part of the run, which took {seconds:.1} s.");
        if self.load_cpu > BUSY {
            text.push_str(" It was at its own limit: the server may be faster than these figures.");
        }
        if let Some((made, due)) = self.shortfall() {
            let (made, due) = (grouped(made), format!("{due:.0}"));
            let _ = write!(
                text,
                "\nOnly {made} publications were made of {due} that were due: the rate was not reached."
            );
        }
        if self.is_interrupted {
            text.push_str("\nInterrupted: this is what was measured until then.");
        }
        text
    }

    /// How many publications were made and how many were due, if these differ by more than one in a hundred.
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
    fn shortfall(&self) -> Option<(u64, f64)> {
        let due = self.due().filter(|_| !self.is_interrupted)?;
        let made = self.times.get(&Figure::Publish).map_or(0, |times| times.histogram.len());
        ((made as f64) < due * 0.99).then_some((made, due))
    }

    /// How many publications were to be made in the time there was for it; `None` if it was as many as possible, or none.
    fn due(&self) -> Option<f64> {
        let bench = &self.course.bench;
        let rate = bench.rate.filter(|_| bench.load != Load::Connect)?;
        Some((rate * bench.duration.as_secs_f64()).ceil())
    }

    fn headline(&self) -> String {
        let bench = &self.course.bench;
        let (count, size) = (grouped(bench.connections), bench.size);
        let kind = if bench.is_volatile { "volatile publications" } else { "publications" };
        let rate =
            bench.rate.map_or_else(|| "as fast as possible".to_owned(), |rate| format!("{rate} a second"));
        let (server, clients) = (&bench.target.server, &bench.target.clients);
        match bench.load {
            Load::Connect => format!("{count} clients, {rate}, at {clients}"),
            Load::Fanout => {
                format!("{count} clients in one channel, {kind} of {size} bytes, {rate}, at {clients}")
            }
            Load::Publish { channels } => format!(
                "{count} publishers, {kind} of {size} bytes to {}, {rate}, at {server}",
                if channels == 1 {
                    "one channel".to_owned()
                } else {
                    format!("{} channels", grouped(channels))
                }
            ),
            Load::Resume { every, away } => format!(
                "{count} clients that are cut off every {every:?} and stay away for {away:?}, {kind} of {size} bytes, {rate}, at {clients}"
            ),
        }
    }
}

/// As many digits as mean something.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// 12,345.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn grouped_rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { grouped(whole(rate)) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and counts are positive and far below 2^64"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// Three digits and a unit.
#[expect(clippy::cast_precision_loss, reason = "an hour in microseconds is far below 2^52")]
fn shown(micros: u64) -> String {
    let micros = micros as f64;
    let (value, unit) = match micros {
        ..1e3 => (micros, "µs"),
        ..1e6 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let digits = if unit == "µs" { 0 } else { digits };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (micros, text) in [
            (7, "7 µs"),
            (999, "999 µs"),
            (1234, "1.23 ms"),
            (45_678, "45.7 ms"),
            (456_789, "457 ms"),
            (61_000_000, "61.0 s"),
        ] {
            assert_eq!(shown(micros), text);
        }
        assert_eq!((grouped_rate(9.96), grouped_rate(12_345.4)), ("10.0".to_owned(), "12,345".to_owned()));
    }
}
