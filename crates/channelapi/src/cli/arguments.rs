//! Arguments that several verbs have, and how they are read.

use std::ffi::{OsStr, OsString};

use clap::{
    Arg, ArgAction, ArgMatches,
    builder::{OsStringValueParser, PathBufValueParser},
};

use super::Exit;
use crate::{
    config::{
        options::{OPTIONS, Spec},
        value::Shape,
    },
    output::Output,
};

/// The verbs that talk to a server.
pub(super) const VERBS: [&str; 3] = ["publish", "subscribe", "bench"];

pub(super) fn config_arg() -> Arg {
    Arg::new("config")
        .short('c')
        .long("config")
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .overrides_with("config")
        .help_heading(OPTIONS[0].title)
        .help("Configuration file [default: ./channelapi.toml, then /etc/channelapi/channelapi.toml]")
}

pub(super) fn option_arg(spec: &'static Spec) -> Arg {
    let arg = Arg::new(spec.key)
        .long(spec.flag())
        .value_name(spec.placeholder)
        .value_parser(OsStringValueParser::new())
        // A random key may begin with a dash.
        .allow_hyphen_values(spec.secret);
    let arg = match spec.shape {
        // `--debug` alone turns it on; a value needs the equals sign, or the next word might be one.
        Shape::Boolean => optional(arg).overrides_with(spec.key),
        Shape::List => arg.action(ArgAction::Append),
        // The last one wins, so that a script can append to a line it was given.
        _ => arg.overrides_with(spec.key),
    };
    match spec.default {
        Some(default) if spec.shape != Shape::Boolean => {
            arg.help(format!("{} [default: {default}]", spec.summary()))
        }
        _ => arg.help(spec.summary()),
    }
}

/// A flag whose value needs the equals sign, or may be left out.
pub(super) fn optional(arg: Arg) -> Arg {
    arg.num_args(0..=1).require_equals(true).default_missing_value("true")
}

pub(super) fn value(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(placeholder)
        .value_parser(OsStringValueParser::new())
        .overrides_with(name)
        .help(help)
}

pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).overrides_with(name).help(help)
}

/// `-o`, for every verb that prints a result.
pub(super) fn output_arg() -> Arg {
    value("output", "FORM", "How the result is printed: table, json or quiet [default: table]").short('o')
}

/// The values of a flag at the innermost level that has any.
pub(super) fn values<'a>(levels: &[&'a ArgMatches], id: &str) -> Vec<&'a OsStr> {
    let at = |level: &&'a ArgMatches| level.try_get_many::<OsString>(id).ok().flatten();
    levels.iter().find_map(at).into_iter().flatten().map(OsString::as_os_str).collect()
}

pub(super) fn is_given(levels: &[&ArgMatches], id: &str) -> bool {
    levels.iter().any(|level| matches!(level.try_contains_id(id), Ok(true)))
}

/// The value of an argument, as text.
pub(super) fn text(levels: &[&ArgMatches], id: &str) -> Result<Option<String>, Exit> {
    let value = values(levels, id).first().map(|value| OsStr::to_owned(value));
    let value = value.map(OsString::into_string).transpose();
    value.map_err(|_| wrong(&format!("{id}: the value is not UTF-8 text")))
}

pub(super) fn is_on(levels: &[&ArgMatches], id: &str) -> bool {
    levels.iter().any(|level| matches!(level.try_get_one::<bool>(id), Ok(Some(true))))
}

/// How the result is to be printed.
pub(super) fn output(levels: &[&ArgMatches]) -> Result<Output, Exit> {
    match text(levels, "output")?.as_deref() {
        None | Some("table") => Ok(Output::Table),
        Some("json") => Ok(Output::Json),
        Some("quiet") => Ok(Output::Quiet),
        Some(other) => Err(wrong(&format!("--output: `{other}` is none; write table / json / quiet"))),
    }
}

pub(super) fn wrong(why: &str) -> Exit {
    Exit::unusable(format!("error: {why}\n"))
}
