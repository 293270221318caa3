//! Results: a Markdown table of medians and their spread for people, every value as JSON for programs.

use std::fmt::{Display, Write as _};

use serde_json::{Value, json};

/// A row per metric, a column per contender.
pub(crate) struct Sheet {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    /// By column, then by round.
    values: Vec<Vec<f64>>,
}

impl Sheet {
    pub(crate) fn new(title: String, columns: Vec<&'static str>) -> Self {
        Self { title, columns, rows: Vec::new() }
    }

    /// Adds a value of one round.
    pub(crate) fn record(&mut self, column: usize, name: String, value: f64) {
        let known = self.rows.iter().position(|row| row.name == name);
        let row = known.unwrap_or_else(|| {
            self.rows.push(Row { name, values: vec![Vec::new(); self.columns.len()] });
            self.rows.len() - 1
        });
        self.rows[row].values[column].push(value);
    }

    /// Medians, and between which values they lie.
    pub(crate) fn table(&self) -> String {
        let mut table = format!("### {}\n\n| median |", self.title);
        for column in &self.columns {
            let _ = write!(table, " {column} |");
        }
        let _ = write!(table, "\n|---|{}\n", "---:|".repeat(self.columns.len()));
        for row in &self.rows {
            let _ = write!(table, "| {} |", row.name);
            for values in &row.values {
                let _ = write!(table, " {} |", cell(values));
            }
            table.push('\n');
        }
        table
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let stores = self.columns.iter().zip(&row.values);
            let stores = stores.map(|(name, rounds)| {
                ((*name).to_owned(), json!({ "median": median(rounds), "rounds": rounds }))
            });
            json!({ "metric": row.name, "stores": stores.collect::<serde_json::Map<_, _>>() })
        });
        json!({ "title": self.title, "rows": rows.collect::<Vec<_>>() })
    }
}

fn cell(values: &[f64]) -> String {
    let (Some(median), lowest, highest) = (
        median(values),
        values.iter().copied().fold(f64::INFINITY, f64::min),
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    ) else {
        return "–".to_owned();
    };
    if values.len() < 2 {
        return figure(median);
    }
    format!("{} ({}–{})", figure(median), figure(lowest), figure(highest))
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(upper), 0) => Some(f64::midpoint(sorted[middle - 1], *upper)),
        (upper, _) => upper.copied(),
    }
}

/// As many digits as mean something.
fn figure(value: f64) -> String {
    match value {
        1_000_000.0.. => format!("{:.2} M", value / 1e6),
        10_000.0.. => format!("{:.1} k", value / 1e3),
        100.0.. => grouped(format!("{value:.0}")),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number with a comma for every three digits.
pub(crate) fn grouped(number: impl Display) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_shows_medians_and_spread() {
        let mut sheet = Sheet::new("Test".to_owned(), vec!["a", "b"]);
        for value in [12_000.0, 1_500_000.0, 9.0] {
            sheet.record(0, "records/s".to_owned(), value);
        }
        sheet.record(1, "CPU".to_owned(), 1.234);
        let expected = "### Test\n\n| median | a | b |\n|---|---:|---:|\n\
                        | records/s | 12.0 k (9.00–1.50 M) | – |\n| CPU | – | 1.23 |\n";
        assert_eq!(sheet.table(), expected);
        assert_eq!(sheet.json()["rows"][0]["stores"]["a"]["median"], json!(12_000.0));
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(1, "1"), (1024, "1,024"), (100_000, "100,000")] {
            assert_eq!(grouped(number), text);
        }
    }
}
