//! What the figures have to be: ratios between two who were measured in the same round, so that a slow minute spoils no verdict.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::report::{Sheet, figure};
use crate::statistics::median;

/// One ratio, and what it must be.
pub(crate) struct Criterion {
    pub(crate) text: String,
    pub(crate) wanted: Wanted,
    /// By round.
    pub(crate) ratios: Vec<f64>,
}

/// Where the median of the ratios must lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    Above(f64),
    AtMost(f64),
}

impl Criterion {
    /// A row's ratio of one column to another. `None` unless both were measured.
    pub(crate) fn new(sheet: &Sheet, row: &str, [above, below]: [&str; 2], wanted: Wanted) -> Option<Self> {
        let (above_rounds, below_rounds) = (sheet.rounds(row, above), sheet.rounds(row, below));
        let ratios: Vec<_> =
            above_rounds.iter().zip(below_rounds).map(|(above, below)| above / below).collect();
        let text = format!("{}: {row}, {above} to {below}", sheet.title);
        (!ratios.is_empty()).then_some(Self { text, wanted, ratios })
    }

    fn is_held(&self) -> bool {
        median(&self.ratios).is_some_and(|ratio| match self.wanted {
            Wanted::Above(bound) => ratio > bound,
            Wanted::AtMost(bound) => ratio <= bound,
        })
    }
}

/// A Markdown table.
pub(crate) fn table(criteria: &[Criterion]) -> String {
    let mut table = "### Criteria\n\n| ratio within a round | median (lowest–highest) | wanted | held |\n\
                     |---|---:|---:|---|\n"
        .to_owned();
    for criterion in criteria {
        let Some(ratio) = median(&criterion.ratios) else { continue };
        let lowest = criterion.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = criterion.ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let wanted = match criterion.wanted {
            Wanted::Above(bound) => format!("> {bound}"),
            Wanted::AtMost(bound) => format!("≤ {bound}"),
        };
        let held = if criterion.is_held() { "yes" } else { "**no**" };
        let (ratio, lowest, highest) = (figure(ratio), figure(lowest), figure(highest));
        let _ = writeln!(table, "| {} | {ratio}× ({lowest}–{highest}) | {wanted} | {held} |", criterion.text);
    }
    table
}

pub(crate) fn json(criteria: &[Criterion]) -> Value {
    let criteria = criteria.iter().map(|criterion| {
        let wanted = match criterion.wanted {
            Wanted::Above(bound) => json!({ "above": bound }),
            Wanted::AtMost(bound) => json!({ "at_most": bound }),
        };
        json!({
            "ratio": criterion.text, "median": median(&criterion.ratios), "rounds": criterion.ratios,
            "wanted": wanted, "held": criterion.is_held(),
        })
    });
    criteria.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Sample;

    #[test]
    fn the_median_of_the_rounds_decides() {
        let mut sheet = Sheet::new("Test".to_owned(), vec!["ours", "theirs"]);
        for (ours, theirs) in [(3.0, 2.0), (8.0, 2.0), (1.0, 2.0)] {
            sheet.record(0, vec![Sample::rate("speed", ours)]);
            sheet.record(1, vec![Sample::rate("speed", theirs)]);
        }
        let criterion = |wanted| Criterion::new(&sheet, "speed", ["ours", "theirs"], wanted).unwrap();
        assert_eq!(criterion(Wanted::Above(1.0)).ratios, [1.5, 4.0, 0.5]);
        assert!(criterion(Wanted::Above(1.0)).is_held());
        assert!(!criterion(Wanted::Above(1.5)).is_held());
        assert!(criterion(Wanted::AtMost(1.5)).is_held());
        assert!(!criterion(Wanted::AtMost(1.4)).is_held());
        assert!(Criterion::new(&sheet, "speed", ["ours", "nobody"], Wanted::Above(1.0)).is_none());
        let criteria = [criterion(Wanted::Above(2.0))];
        assert!(
            table(&criteria).contains("| Test: speed, ours to theirs | 1.50× (0.50–4.00) | > 2 | **no** |")
        );
        assert_eq!(json(&criteria)[0]["held"], false);
    }
}
