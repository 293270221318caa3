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

    /// The rows, from above.
    pub(crate) fn row_names(&self) -> impl Iterator<Item = &'static str> {
        self.rows.iter().map(|row| row.name)
    }

    /// A Markdown table of medians, each with its ratio to the first column in the same round.
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
                let text = match (value, row.ratio(column)) {
                    (None, _) => "–".to_owned(),
                    (Some(value), _) if !row.comparable => thousands(&format!("{value:.0}")),
                    (Some(value), Some(ratio)) => format!("{} ({}×)", figure(*value), figure(ratio)),
                    (Some(value), None) => figure(*value),
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
        let all_rounds = self.rows.iter().flat_map(|row| &row.values).flat_map(BTreeMap::keys);
        let count = all_rounds.max().map_or(0, |last| last + 1);
        let rows = self.rows.iter().map(|row| {
            let peers = self.columns.iter().enumerate().zip(row.medians());
            let peers = peers.map(|((column, name), median)| {
                // In every column the first value is of the first round, also where somebody was not measured in all of them.
                let rounds: Vec<_> = (0..count).map(|round| row.values[column].get(&round)).collect();
                let ratio = row.ratio(column);
                ((*name).to_owned(), json!({ "median": median, "ratio_to_first": ratio, "rounds": rounds }))
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

    /// The median of a column's ratios to the first, each between two values of the same round: a slow minute hits both. `None` if there
    /// is none that means anything.
    fn ratio(&self, column: usize) -> Option<f64> {
        if column == 0 || !self.comparable {
            return None;
        }
        let of_first = |round| self.values[0].get(round).copied();
        let pairs = self.values[column].iter().filter_map(|(round, value)| Some((value, of_first(round)?)));
        let ratios: Option<Vec<_>> = pairs.map(|(value, base)| (base > 0.0).then(|| value / base)).collect();
        median(&ratios?)
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
        let peers = &sheet.json()["rows"][0]["peers"];
        assert_eq!(peers["channelapi"]["rounds"], json!([1000.0, 1500.0, 9000.0]));
        assert_eq!(
            peers["floor"],
            json!({ "median": 750.0, "ratio_to_first": 0.5, "rounds": [null, 750.0, null] })
        );
        assert_eq!(sheet.row_names().collect::<Vec<_>>(), ["bytes", "orders"]);
    }

    /// Medians of two columns may be of two rounds: then their quotient says more of the minutes than of who was measured in them.
    #[test]
    fn a_ratio_in_a_table_is_between_values_of_the_same_round() {
        let mut sheet = Sheet::new("Test".to_owned(), vec!["ours", "theirs"]);
        for (round, (ours, theirs)) in [(1.0, 2.0), (10.0, 20.0), (4.0, 40.0)].into_iter().enumerate() {
            sheet.record(round, 0, vec![Sample::cost("time", ours)]);
            sheet.record(round, 1, vec![Sample::cost("time", theirs)]);
        }
        assert!(sheet.table().contains("| time | 4.00 | 20.0 (2.00×) |"), "{}", sheet.table());
        sheet.record(3, 0, vec![Sample::cost("time", 0.0)]);
        sheet.record(3, 1, vec![Sample::cost("time", 1.0)]);
        assert!(!sheet.table().contains('×'), "nothing is a multiple of nothing");
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
