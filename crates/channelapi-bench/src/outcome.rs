//! What one benchmark has found, and what it was found with.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::criteria::{self, Criterion};
use crate::report::Sheet;

/// Tables, verdicts, and what one needs to repeat them.
pub(crate) struct Outcome {
    /// The command line, without the program.
    pub(crate) arguments: Vec<String>,
    pub(crate) cores: String,
    pub(crate) rounds: u16,
    /// By name; of a peer that could not be installed, the reason.
    pub(crate) versions: Map<String, Value>,
    pub(crate) sheets: Vec<Sheet>,
    pub(crate) criteria: Vec<Criterion>,
}

impl Outcome {
    /// The tables, and how they came about.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for sheet in &self.sheets {
            let _ = writeln!(text, "{}", sheet.table());
        }
        if !self.criteria.is_empty() {
            let _ = writeln!(text, "{}", criteria::table(&self.criteria));
        }
        for (name, version) in &self.versions {
            // The disk has none.
            if let Some(version) = version.as_str().filter(|version| !version.is_empty()) {
                let _ = writeln!(text, "- {name}: {version}");
            }
        }
        let _ = writeln!(text, "- {}; medians of {} rounds", self.cores, self.rounds);
        let _ = writeln!(text, "- `channelapi-bench {}`", self.arguments.join(" "));
        text
    }

    /// Every single value.
    pub(crate) fn json(&self, machine: &Value) -> Value {
        json!({
            "arguments": self.arguments,
            "machine": machine,
            "cores": self.cores,
            "peers": self.versions,
            "sheets": self.sheets.iter().map(Sheet::json).collect::<Vec<_>>(),
            "criteria": criteria::json(&self.criteria),
        })
    }
}

/// Writes JSON for people who look into the file.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
