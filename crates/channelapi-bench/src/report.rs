//! Results: a Markdown table of medians and ratios for people, every value as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::statistics::median;

/// One measured value. The name holds its unit.
pub(crate) struct Sample {
    name: &'static str,
    value: f64,
    /// Whether a ratio to the first column makes sense.
    comparable: bool,
}

impl Sample {
    /// Less is better.
    pub(crate) fn cost(name: &'static str, value: f64) -> Self {
        Self { name, value, comparable: true }
    }

    /// More is better.
    pub(crate) fn rate(name: &'static str, value: f64) -> Self {
        Self { name, value, comparable: true }
    }

    /// Just so.
    pub(crate) fn fact(name: &'static str, value: f64) -> Self {
        Self { name, value, comparable: false }
    }
}

/// The results of one benchmark: a row per metric, a column for each who was measured.
pub(crate) struct Sheet {
    pub(crate) title: String,
    pub(crate) columns: Vec<&'static str>,
    rows: Vec<Row>,
    /// What has to be known to read it; printed below the table.
    pub(crate) notes: Vec<String>,
}

struct Row {
    name: &'static str,
    comparable: bool,
    /// By column, then by round.
    values: Vec<BTreeMap<usize, f64>>,
}

impl Sheet {
    pub(crate) fn new(title: String, columns: Vec<&'static str>) -> Self {
        Self { title, columns, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds one column's values of one round.
    pub(crate) fn record(&mut self, round: usize, column: usize, samples: Vec<Sample>) {
        for sample in samples {
            let known = self.rows.iter().position(|row| row.name == sample.name);
            let row = known.unwrap_or_else(|| {
                let values = vec![BTreeMap::new(); self.columns.len()];
                self.rows.push(Row { name: sample.name, comparable: sample.comparable, values });
                self.rows.len() - 1
            });
            self.rows[row].values[column].insert(round, sample.value);
        }
    }

    /// One column's values of a row, by round; none if it was not measured.
    pub(crate) fn rounds(&self, row: &str, column: &str) -> Option<&BTreeMap<usize, f64>> {
        let column = self.columns.iter().position(|name| *name == column)?;
        let row = self.rows.iter().find(|known| known.name == row)?;
        Some(&row.values[column]).filter(|rounds| !rounds.is_empty())
    }

    /// The median of a column's values of a row.
    pub(crate) fn median(&self, row: &str, column: &str) -> Option<f64> {
        median(&self.rounds(row, column)?.values().copied().collect::<Vec<_>>())
    }

    /// A Markdown table of medians.
    pub(crate) fn table(&self) -> String {
        let mut table = format!("### {}\n\n| median |", self.title);
        for column in &self.columns {
            let _ = write!(table, " {column} |");
        }
        let _ = write!(table, "\n|---|{}\n", "---:|".repeat(self.columns.len()));
        for row in &self.rows {
            let medians: Vec<_> = row.medians().collect();
            let _ = write!(table, "| {} |", row.name);
            for (column, value) in medians.iter().enumerate() {
                let text = match (value, medians[0]) {
                    (None, _) => "–".to_owned(),
                    (Some(value), _) if !row.comparable => thousands(&format!("{value:.0}")),
                    (Some(value), Some(base)) if column > 0 && base > 0.0 => {
                        format!("{} ({}×)", figure(*value), figure(value / base))
                    }
                    (Some(value), _) => figure(*value),
                };
                let _ = write!(table, " {text} |");
            }
            table.push('\n');
        }
        for note in &self.notes {
            let _ = write!(table, "\n{note}\n");
        }
        table
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let peers = self.columns.iter().zip(&row.values).zip(row.medians());
            let peers = peers.map(|((name, rounds), median)| {
                let rounds: Vec<_> = rounds.values().collect();
                ((*name).to_owned(), json!({ "median": median, "rounds": rounds }))
            });
            json!({ "metric": row.name, "peers": peers.collect::<serde_json::Map<_, _>>() })
        });
        json!({ "title": self.title, "rows": rows.collect::<Vec<_>>(), "notes": self.notes })
    }
}

impl Row {
    /// By column.
    fn medians(&self) -> impl Iterator<Item = Option<f64>> {
        self.values.iter().map(|rounds| median(&rounds.values().copied().collect::<Vec<_>>()))
    }
}

/// As many digits as mean something.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        1000.0.. => thousands(&format!("{value:.0}")),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        let left = digits.len() - index;
        if left.is_multiple_of(3) && index > 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_shows_medians_and_ratios_to_the_first_peer() {
        let mut sheet = Sheet::new("Test".to_owned(), vec!["channelapi", "floor"]);
        let measured = [(0, 0, 1000.0, 3.0), (1, 0, 1500.0, 3.0), (2, 0, 9000.0, 3.0), (1, 1, 750.0, 4.0)];
        for (round, column, cost, fact) in measured {
            sheet.record(round, column, vec![Sample::cost("bytes", cost), Sample::fact("orders", fact)]);
        }
        sheet.notes.push("Nothing else.".to_owned());
        let expected = "### Test\n\n| median | channelapi | floor |\n|---|---:|---:|\n\
                        | bytes | 1,500 | 750 (0.50×) |\n| orders | 3 | 4 |\n\nNothing else.\n";
        assert_eq!(sheet.table(), expected);
        assert_eq!(sheet.rounds("bytes", "floor"), Some(&BTreeMap::from([(1, 750.0)])));
        assert_eq!(sheet.rounds("bytes", "nobody"), None);
        assert_eq!(sheet.median("bytes", "channelapi"), Some(1500.0));
        assert_eq!(sheet.json()["rows"][0]["peers"]["channelapi"]["rounds"], json!([1000.0, 1500.0, 9000.0]));
    }

    #[test]
    fn figures_have_about_three_digits() {
        for (value, text) in [
            (0.123, "0.12"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.5, "1,234"),
            (1e6, "1,000,000"),
            (-1e5, "-100,000"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
