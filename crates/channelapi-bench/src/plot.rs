//! Bars as SVG, drawn by hand: no script, and legible on light and on dark pages.

use std::fmt::Write as _;

use crate::outcome::Outcome;
use crate::report::{Sheet, figure};

/// A picture beside the page.
pub(crate) struct Picture {
    /// Of its file.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) svg: String,
}

/// What is drawn: the file's name, of which benchmark, the title, the row, and how small its unit is on the picture.
const DRAWN: [(&str, &str, &str, &str, f64); 3] = [
    ("memory", "connections", "Memory per idle connection, KB", "RSS per idle connection, bytes", 1000.0),
    (
        "delivery",
        "delivery",
        "CPU per delivery, µs (fan-out, one publication at a time)",
        "one at a time: CPU per delivery, µs",
        1.0,
    ),
    (
        "unicast",
        "unicast",
        "CPU per publish to one client, HTTP included, µs",
        "CPU per publish, HTTP included, µs",
        1.0,
    ),
];

const WIDTH: f64 = 720.0;
/// Room for names on the left and figures on the right.
const NAMES: f64 = 170.0;
const FIGURES: f64 = 70.0;
const BAR: f64 = 22.0;
const STEP: f64 = 32.0;
const TOP: f64 = 52.0;

/// What can be drawn of the outcomes: of each row the first table with more than one bar.
pub(crate) fn pictures(outcomes: &[Outcome]) -> Vec<Picture> {
    let drawn = DRAWN.iter().filter_map(|&(name, benchmark, title, row, unit)| {
        let of_it = |outcome: &&Outcome| outcome.arguments.first().is_some_and(|word| word == benchmark);
        let sheets = outcomes.iter().filter(of_it).flat_map(|outcome| &outcome.sheets);
        let bars = sheets.map(|sheet| bars(sheet, row, unit)).find(|bars| bars.len() > 1)?;
        Some(Picture { name, title, svg: svg(title, &bars) })
    });
    drawn.collect()
}

fn bars(sheet: &Sheet, row: &str, unit: f64) -> Vec<(&'static str, f64)> {
    let columns = sheet.columns.iter();
    columns.filter_map(|column| Some((*column, sheet.median(row, column)? / unit))).collect()
}

/// One bar for each; the first one stands out.
fn svg(title: &str, bars: &[(&str, f64)]) -> String {
    let longest = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let height = bars.iter().fold(TOP, |height, _| height + STEP) + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"14\">\n\
         <title>{title}</title>\n<style>\n\
         text {{ fill: #24292f }} .title {{ font-size: 16px; font-weight: 600 }}\n\
         .bar {{ fill: #afb8c1 }} .ours {{ fill: #0a7d5a }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         text {{ fill: #d0d7de }} .bar {{ fill: #57606a }} .ours {{ fill: #3fb98a }}\n\
         }}\n</style>\n<text class=\"title\" x=\"8\" y=\"28\">{title}</text>\n"
    );
    let mut top = TOP;
    for (index, (name, value)) in bars.iter().enumerate() {
        let class = if index == 0 { "ours" } else { "bar" };
        // So thin that it cannot be seen would look like nothing at all.
        let width = (value / longest * (WIDTH - NAMES - FIGURES)).max(1.0);
        let (base, end, figure) = (top + BAR * 0.72, NAMES + width + 8.0, figure(*value));
        let left = NAMES - 10.0;
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{base:.1}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{NAMES}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"3\"/>\
             <text x=\"{end:.1}\" y=\"{base:.1}\">{figure}</text>"
        );
        top += STEP;
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let svg = svg("Cost", &[("ours", 1.0), ("theirs", 4.0)]);
        assert!(svg.contains("class=\"ours\" x=\"170\" y=\"52\" width=\"120.0\""), "{svg}");
        assert!(svg.contains("class=\"bar\" x=\"170\" y=\"84\" width=\"480.0\""), "{svg}");
        assert!(svg.contains(">4.00</text>") && svg.contains(">theirs</text>") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("prefers-color-scheme: dark") && !svg.contains("<script"));
    }
}
