//! Where a value came from, what is wrong with it, and which of several wins.
//!
//! Every value given anywhere is checked, also one that another overrides: a mistake that waits in the file for the
//! flag to be dropped is still a mistake.

use std::fmt;

use super::{
    options::Spec,
    value::{Shape, Value},
};

/// Where a value was written. The order is the one problems are reported in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// In the file; line and column count from 1.
    File {
        /// The path as the user knows it.
        path: String,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// In this environment variable.
    Variable(String),
    /// In this flag, dashes included.
    Flag(String),
    /// Nowhere: it follows from another option.
    Implied(&'static str),
    /// Nowhere.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, .. } => write!(f, "{path}:{line}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
            Self::Implied(option) => write!(f, "because of {option}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value that was given for an option, not yet checked.
#[derive(Clone)]
pub struct Given {
    /// The option.
    pub spec: &'static Spec,
    /// What was written.
    pub text: String,
    /// Where.
    pub source: Source,
}

/// One item of a list such as `[[policy]]`, not yet checked.
#[derive(Clone)]
pub struct GivenItem {
    /// Where it starts.
    pub source: Source,
    /// The options in it.
    pub given: Vec<Given>,
}

/// Something that keeps the server from starting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was found; `None` when the message says it itself.
    pub source: Option<Source>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A problem with something written at `source`.
    pub fn at(source: Source, message: impl Into<String>) -> Self {
        Self { source: Some(source), message: message.into() }
    }

    /// A problem whose message names its place.
    pub fn of(message: impl Into<String>) -> Self {
        Self { source: None, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            // The column is what an editor needs to jump there.
            Some(Source::File { path, line, column }) => write!(f, "{path}:{line}:{column}: ")?,
            Some(source) => write!(f, "{source}: ")?,
            None => {}
        }
        f.write_str(&self.message)
    }
}

/// One option's effective value, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The option's full name.
    pub key: &'static str,
    /// The value as text; secrets are masked.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// Picks each option's value from everything that was given.
pub struct Resolver<'a> {
    given: &'a [Given],
    /// What was wrong on the way.
    pub problems: Vec<Problem>,
    /// What was decided, in the order of the table.
    pub settings: Vec<Setting>,
}

impl<'a> Resolver<'a> {
    /// `given` is in order of precedence: the first value of an option wins.
    pub fn new(given: &'a [Given]) -> Self {
        Self { given, problems: Vec::new(), settings: Vec::new() }
    }

    /// The value of this option. After a problem it is a placeholder, so that the others are still checked.
    pub fn take<T: Value>(&mut self, spec: &'static Spec) -> T {
        let (value, source) =
            self.winner(spec).unwrap_or_else(|| (T::from_default(spec.default), Source::Default));
        self.decide(spec, value, source)
    }

    /// The value of this option, or else the one that it has elsewhere, as `setting` shows it.
    pub fn inherit<T: Value>(&mut self, spec: &'static Spec, value: T, setting: &Setting) -> T {
        let (value, source) = self.winner(spec).unwrap_or_else(|| (value, setting.source.clone()));
        self.decide(spec, value, source)
    }

    fn winner<T: Value>(&mut self, spec: &'static Spec) -> Option<(T, Source)> {
        let mut winner = None;
        for given in self.given.iter().filter(|given| given.spec.key == spec.key) {
            match brackets(given).map_or_else(|| spec.parse::<T>(&given.text), Err) {
                Ok(value) => winner = winner.or(Some((value, given.source.clone()))),
                Err(reason) => self.problems.push(Problem::at(given.source.clone(), in_place(given, reason))),
            }
        }
        winner
    }

    fn decide<T: Value>(&mut self, spec: &'static Spec, value: T, source: Source) -> T {
        self.settings.push(Setting { key: spec.key, value: value.show(), source });
        value
    }
}

/// What to say of a list that is written in a flag or variable as the file has it.
fn brackets(given: &Given) -> Option<String> {
    let is_in_file = matches!(given.source, Source::File { .. });
    let items = given.text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let is_list =
        !is_in_file && given.spec.shape == Shape::List && (items.is_empty() || items.contains(['"', '\'']));
    let plain = items.replace(['"', '\'', ' '], "");
    is_list
        .then(|| format!("brackets and quotes are for the file; write the list with commas alone: `{plain}`"))
}

/// A flag or variable is named by its source; a place in a file is only numbers, so the key goes in front.
fn in_place(given: &Given, reason: String) -> String {
    match given.source {
        Source::File { .. } => format!("{}: {reason}", given.spec.key),
        _ => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::spec;

    fn given(key: &str, text: &str, source: Source) -> Given {
        Given { spec: spec(key), text: text.to_owned(), source }
    }

    fn file(line: usize) -> Source {
        Source::File { path: "c.toml".to_owned(), line, column: 8 }
    }

    #[test]
    fn the_first_given_value_wins() {
        let all = [given("port", "1", Source::Flag("--port".to_owned())), given("port", "2", file(1))];
        let mut values = Resolver::new(&all);
        assert_eq!(values.take::<u16>(spec("port")), 1);
        assert_eq!(values.settings[0].source, Source::Flag("--port".to_owned()));
    }

    /// Once, the brackets counted as a part of the first origin.
    #[test]
    fn a_list_in_a_variable_has_no_brackets() {
        let variable = Source::Variable("CHANNELAPI_HTTP_CORS_ORIGINS".to_owned());
        let all = [given("http.cors_origins", r#"["https://a", 'https://b']"#, variable)];
        let mut values = Resolver::new(&all);
        values.take::<crate::config::origins::Origins>(spec("http.cors_origins"));
        let printed = values.problems[0].to_string();
        assert!(
            printed.starts_with("CHANNELAPI_HTTP_CORS_ORIGINS: brackets and quotes are for"),
            "{printed}"
        );
        assert!(printed.ends_with("alone: `https://a,https://b`"), "{printed}");
    }

    #[test]
    fn an_overridden_mistake_is_still_reported() {
        let all = [given("port", "1", Source::Flag("--port".to_owned())), given("port", "x", file(3))];
        let mut values = Resolver::new(&all);
        assert_eq!(values.take::<u16>(spec("port")), 1);
        let printed = values.problems[0].to_string();
        assert!(printed.starts_with("c.toml:3:8: port: `x` is not a port number"), "{printed}");
    }

    #[test]
    fn sources_are_named_the_way_the_user_wrote_them() {
        for (source, expected) in [
            (file(4), "c.toml:4"),
            (Source::Variable("CHANNELAPI_PORT".to_owned()), "CHANNELAPI_PORT"),
            (Source::Flag("--port".to_owned()), "--port"),
            (Source::Implied("debug"), "because of debug"),
            (Source::Default, "default"),
        ] {
            assert_eq!(source.to_string(), expected);
        }
    }
}
