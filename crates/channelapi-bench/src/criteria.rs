//! What the figures have to be. A ratio is between two who were measured in the same round, so that a slow minute spoils no verdict.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use crate::report::{Sheet, figure};
use crate::statistics::median;

/// One figure, and what it must be.
pub(crate) struct Criterion {
    text: String,
    wanted: Wanted,
    is_ratio: bool,
    /// By round.
    values: Vec<f64>,
}

/// Where the median must lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    Above(f64),
    AtMost(f64),
}

/// A row, who is compared in it to us, and what the ratio of our figure to theirs must be.
pub(crate) type Goal = (&'static str, &'static str, Wanted);

impl Criterion {
    /// A row's ratio of one column to another. `None` unless both were measured.
    pub(crate) fn new(sheet: &Sheet, row: &str, [above, below]: [&str; 2], wanted: Wanted) -> Option<Self> {
        let (above_rounds, below_rounds) = (sheet.rounds(row, above)?, sheet.rounds(row, below)?);
        let same_round = |(round, above): (&usize, &f64)| Some(above / below_rounds.get(round)?);
        let values = above_rounds.iter().filter_map(same_round).collect();
        let text = format!("{}: {row}, {above} to {below}", sheet.title);
        Self { text, wanted, is_ratio: true, values }.meaningful()
    }

    /// A figure by itself.
    pub(crate) fn value(sheet: &Sheet, row: &str, column: &str, wanted: Wanted) -> Option<Self> {
        let values = sheet.rounds(row, column)?.values().copied().collect();
        let text = format!("{}: {row}, {column}", sheet.title);
        Self { text, wanted, is_ratio: false, values }.meaningful()
    }

    /// Only what has a figure in every round that can be judged: with few connections, memory may even shrink.
    fn meaningful(self) -> Option<Self> {
        let is_measured = !self.values.is_empty() && self.values.iter().all(|value| *value > 0.0);
        is_measured.then_some(self)
    }

    /// Those of the goals whose rows and columns were measured.
    pub(crate) fn of(sheet: &Sheet, ours: &'static str, goals: &[Goal]) -> Vec<Self> {
        goals
            .iter()
            .filter_map(|(row, theirs, wanted)| Self::new(sheet, row, [ours, theirs], *wanted))
            .collect()
    }

    pub(crate) fn is_held(&self) -> bool {
        median(&self.values).is_some_and(|value| match self.wanted {
            Wanted::Above(bound) => value > bound,
            Wanted::AtMost(bound) => value <= bound,
        })
    }

    /// For a list.
    pub(crate) fn sentence(&self) -> String {
        let unit = if self.is_ratio { "×" } else { "" };
        let value = median(&self.values).map(figure).unwrap_or_default();
        format!("{}: {value}{unit}, wanted {}", self.text, self.wanted)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Above(bound) => write!(formatter, "> {bound}"),
            Self::AtMost(bound) => write!(formatter, "≤ {bound}"),
        }
    }
}

/// A Markdown table.
pub(crate) fn table(criteria: &[Criterion]) -> String {
    let mut table =
        "### Criteria\n\n| what | median (lowest–highest) | wanted | held |\n|---|---:|---:|---|\n"
            .to_owned();
    for criterion in criteria {
        let Some(middle) = median(&criterion.values) else { continue };
        let lowest = criterion.values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = criterion.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let wanted = criterion.wanted;
        let held = if criterion.is_held() { "yes" } else { "**no**" };
        let unit = if criterion.is_ratio { "×" } else { "" };
        let (middle, lowest, highest) = (figure(middle), figure(lowest), figure(highest));
        let _ = writeln!(
            table,
            "| {} | {middle}{unit} ({lowest}–{highest}) | {wanted} | {held} |",
            criterion.text
        );
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
            "what": criterion.text, "median": median(&criterion.values), "rounds": criterion.values,
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
        for (round, (ours, theirs)) in [(3.0, 2.0), (8.0, 2.0), (1.0, 2.0)].into_iter().enumerate() {
            sheet.record(round, 0, vec![Sample::rate("speed", ours)]);
            sheet.record(round, 1, vec![Sample::rate("speed", theirs)]);
        }
        let criterion = |wanted| Criterion::new(&sheet, "speed", ["ours", "theirs"], wanted).unwrap();
        assert_eq!(criterion(Wanted::Above(1.0)).values, [1.5, 4.0, 0.5]);
        assert!(criterion(Wanted::Above(1.0)).is_held());
        assert!(!criterion(Wanted::Above(1.5)).is_held());
        assert!(criterion(Wanted::AtMost(1.5)).is_held());
        assert!(!criterion(Wanted::AtMost(1.4)).is_held());
        assert!(Criterion::new(&sheet, "speed", ["ours", "nobody"], Wanted::Above(1.0)).is_none());
        let value = Criterion::value(&sheet, "speed", "ours", Wanted::AtMost(2.0)).unwrap();
        assert!(!value.is_held());
        let criteria = [criterion(Wanted::Above(2.0)), value];
        assert!(table(&criteria).contains(
            "| Test: speed, ours to theirs | 1.50× (0.50–4.00) | > 2 | **no** |\n\
                 | Test: speed, ours | 3.00 (1.00–8.00) | ≤ 2 | **no** |"
        ));
        assert_eq!(json(&criteria)[0]["held"], false);
        let goals = [("speed", "theirs", Wanted::AtMost(2.0)), ("speed", "nobody", Wanted::AtMost(2.0))];
        assert_eq!(Criterion::of(&sheet, "ours", &goals).len(), 1);
    }

    #[test]
    fn a_ratio_is_never_between_two_rounds() {
        let mut sheet = Sheet::new("Test".to_owned(), vec!["ours", "theirs"]);
        for (round, column, speed) in [(0, 0, 3.0), (1, 0, 8.0), (1, 1, 2.0)] {
            sheet.record(round, column, vec![Sample::rate("speed", speed)]);
        }
        let criterion = Criterion::new(&sheet, "speed", ["ours", "theirs"], Wanted::Above(1.0)).unwrap();
        assert_eq!(criterion.values, [4.0]);
    }
}
