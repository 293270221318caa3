//! What is known of one option besides its type, and what follows from its key.

use crate::config::value::{Shape, Value};

/// What is known about an option besides its type.
#[derive(Debug)]
pub struct Spec {
    /// The heading it stands under.
    pub title: &'static str,
    /// The TOML table it lives in; `None` at the top of the file.
    pub section: Option<&'static str>,
    /// Its name inside the table.
    pub name: &'static str,
    /// Its full name, `section.name`.
    pub key: &'static str,
    /// The default as one would write it; `None` when there is no value by default.
    pub default: Option<&'static str>,
    /// A value to show in examples; the default if there is one.
    pub example: &'static str,
    /// The smallest and largest value, both allowed.
    pub range: Option<(&'static str, &'static str)>,
    /// Whether it can be written in the file; the original's options that we only recognise cannot.
    pub in_file: bool,
    /// How TOML writes it.
    pub shape: Shape,
    /// What `--help` calls its value.
    pub placeholder: &'static str,
    /// What can be written.
    pub accepts: &'static str,
    /// Whether it must never be shown.
    pub secret: bool,
    /// The doc comment, as it is written in the table.
    pub(super) doc: &'static str,
}

impl Spec {
    /// What the type of an option says of it. Everything else is written where the option is.
    pub(super) const fn of<T: Value>() -> Self {
        Self {
            title: "",
            section: None,
            name: "",
            key: "",
            default: None,
            example: "",
            range: None,
            in_file: true,
            shape: T::SHAPE,
            placeholder: T::PLACEHOLDER,
            accepts: T::ACCEPTS,
            secret: T::SECRET,
            doc: "",
        }
    }

    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("CHANNELAPI_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// The variable that names a file holding the value; secrets have one.
    pub fn file_variable(&self) -> Option<String> {
        self.secret.then(|| format!("{}_FILE", self.variable()))
    }

    /// The description, one paragraph per item; the first says it all in one line.
    pub fn paragraphs(&self) -> Vec<String> {
        let lines: Vec<&str> = self.doc.lines().map(str::trim).collect();
        lines
            .split(|line| line.is_empty())
            .filter(|lines| !lines.is_empty())
            .map(|lines| lines.join(" "))
            .collect()
    }

    /// The first paragraph, as a help text: without a final period.
    pub fn summary(&self) -> String {
        self.paragraphs()[0].trim_end_matches('.').to_owned()
    }

    /// Reads a value of this option and holds it to the range.
    pub fn parse<T: Value>(&self, text: &str) -> Result<T, String> {
        if text == "0" && self.range.is_some_and(|(low, _)| low == "0s") {
            return Err("`0` has no unit; write 0s".to_owned());
        }
        let value = T::parse(text)?;
        let Some((low, high)) = self.range else { return Ok(value) };
        let bound = |text| T::parse(text).ok().and_then(|bound| bound.magnitude());
        let fits = bound(low) <= value.magnitude() && value.magnitude() <= bound(high);
        if fits { Ok(value) } else { Err(format!("`{text}` is out of range; write {low} to {high}")) }
    }
}
