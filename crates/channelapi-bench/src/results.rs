//! The page that a run of all benchmarks leaves behind.

use std::fmt::Write as _;

use serde_json::Value;

use crate::outcome::Outcome;
use crate::plot::Picture;

/// The page as Markdown. The pictures lie beside it.
pub(crate) fn page(
    date: &str,
    command: &str,
    machine: &Value,
    outcomes: &[Outcome],
    failures: &[String],
    pictures: &[Picture],
) -> String {
    let mut page = format!("# Results of {date}\n\nWritten by `{command}`.\n\n");
    page += "Compare ratios within a table, never absolute values between machines; \
             [the method](../README.md) says how each figure comes about.\n\n";
    page += "| machine | |\n|---|---|\n";
    for (fact, value) in machine.as_object().into_iter().flatten() {
        let _ = writeln!(page, "| {fact} | {} |", value.as_str().map_or(value.to_string(), str::to_owned));
    }
    page.push('\n');
    for picture in pictures {
        let _ = writeln!(page, "![{}]({date}-{}.svg)\n", picture.title, picture.name);
    }
    let criteria = || outcomes.iter().flat_map(|outcome| &outcome.criteria);
    let held = criteria().filter(|criterion| criterion.is_held()).count();
    let _ = writeln!(page, "Of {} goals {held} are reached.\n", criteria().count());
    for criterion in criteria().filter(|criterion| !criterion.is_held()) {
        let _ = writeln!(page, "- Not reached: {}", criterion.sentence());
    }
    for failure in failures {
        let _ = writeln!(page, "- {failure}");
    }
    for outcome in outcomes {
        let name = outcome.arguments.first().map_or("", String::as_str);
        let _ = write!(page, "\n## {name}\n\n{}", outcome.markdown());
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::criteria::{Criterion, Wanted};
    use crate::report::{Sample, Sheet};

    #[test]
    fn page_tells_goals_that_were_not_reached_and_what_failed() {
        let mut sheet = Sheet::new("Test".to_owned(), vec!["ours"]);
        sheet.record(0, 0, vec![Sample::cost("bytes", 3.0)]);
        let criterion = |bound| Criterion::value(&sheet, "bytes", "ours", Wanted::AtMost(bound)).unwrap();
        let criteria = vec![criterion(2.0), criterion(4.0)];
        let outcome = Outcome {
            arguments: vec!["test".to_owned(), "--fast".to_owned()],
            cores: "server on 1 core".to_owned(),
            rounds: 1,
            versions: serde_json::Map::from_iter([("ours".to_owned(), json!("1.0"))]),
            sheets: vec![sheet],
            criteria,
        };
        let page = page("today", "all", &json!({"cores": 2}), &[outcome], &["`x` failed".to_owned()], &[]);
        for part in [
            "# Results of today",
            "| cores | 2 |",
            "Of 2 goals 1 are reached.",
            "- Not reached: Test: bytes, ours: 3.00, wanted ≤ 2",
            "- `x` failed",
            "## test\n\n### Test",
            "- ours: 1.0",
            "- `channelapi-bench test --fast`",
        ] {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
    }
}
