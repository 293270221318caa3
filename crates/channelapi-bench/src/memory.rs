//! Rows of memory: what is resident for a server, and beside it the same with shared pages counted in shares.

use crate::report::{Sample, Sheet};
use crate::statistics::real;
use crate::usage::Memory;

/// What stands below a table with such rows.
const MEANING: &str = "RSS counts every page that is there for a server, PSS a page that several processes have in shares: code of libraries that others use, too. \
                       Both are of all processes of a server.";

/// What stands below it if somebody's RSS stands without PSS.
const HIDDEN: &str = "Where there is no PSS, the server hides its memory from us: its RSS is what the kernel keeps count of, which may lag behind. \
                      Root is told all.";

/// A row of RSS and one of PSS, of a value that is made from readings in bytes.
pub(crate) fn rows<const N: usize>(
    [rss_name, pss_name]: [&'static str; 2],
    readings: [Memory; N],
    value: impl Fn([f64; N]) -> f64,
) -> Vec<Sample> {
    let mut rows = vec![Sample::cost(rss_name, value(readings.map(|reading| real(reading.rss))))];
    if readings.iter().all(|reading| reading.pss.is_some()) {
        let shares = readings.map(|reading| real(reading.pss.unwrap_or_default()));
        rows.push(Sample::cost(pss_name, value(shares)));
    }
    rows
}

/// Says below a table what its rows of memory mean.
pub(crate) fn explain(sheet: &mut Sheet) {
    let columns_of = |start: &str| {
        let rows = sheet.row_names().filter(|row| row.starts_with(start));
        rows.map(|row| sheet.columns.iter().filter(|column| sheet.median(row, column).is_some()).count())
            .max()
    };
    let (rss, pss) = (columns_of("RSS"), columns_of("PSS"));
    if rss.is_some() {
        sheet.notes.push(MEANING.to_owned());
    }
    if rss > pss {
        sheet.notes.push(HIDDEN.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_memory_are_shown_and_explained() {
        let reading = |rss, pss| Memory { rss, pss };
        let told = rows(["RSS", "PSS"], [reading(10, Some(8)), reading(30, Some(20))], |[a, b]| b - a);
        let hidden = rows(["RSS", "PSS"], [reading(10, Some(8)), reading(30, None)], |[a, b]| b - a);
        let mut sheet = Sheet::new("Test".to_owned(), vec!["ours", "theirs"]);
        sheet.record(0, 0, told);
        explain(&mut sheet);
        assert_eq!((sheet.median("RSS", "ours"), sheet.median("PSS", "ours")), (Some(20.0), Some(12.0)));
        assert_eq!(sheet.notes, [MEANING]);
        sheet.notes.clear();
        sheet.record(0, 1, hidden);
        explain(&mut sheet);
        assert_eq!((sheet.median("RSS", "theirs"), sheet.median("PSS", "theirs")), (Some(20.0), None));
        assert_eq!(sheet.notes, [MEANING, HIDDEN]);
        let mut other = Sheet::new("Test".to_owned(), vec!["ours"]);
        explain(&mut other);
        assert!(other.notes.is_empty());
    }
}
