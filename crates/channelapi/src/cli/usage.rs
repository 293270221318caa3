//! Mistakes on the command line, each explained in one line.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Exit, Invocation, version};
use crate::config::{
    nearest::{did_you_mean, nearest},
    options::{OPTIONS, Spec},
    value::{Shape, Value},
};

/// What can be meant by a word, and how it is written in full.
const VERBS: [(&str, &str); 7] = [
    ("serve", "serve"),
    ("check", "check"),
    ("config", "config"),
    ("default", "config default"),
    ("show", "config show"),
    ("doc", "config doc"),
    ("version", "version"),
];

const HELP: &str = "`channelapi --help` lists them all";

/// Turns the parser's complaint into ours; a wish for help is not one.
pub(super) fn explain(error: &clap::Error, args: &[OsString]) -> Result<Invocation, Exit> {
    let message = match error.kind() {
        ErrorKind::DisplayVersion => return Ok(Invocation::Print(version())),
        ErrorKind::DisplayHelp => return Ok(Invocation::Print(error.render().to_string())),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "which of them? `channelapi config default`, `channelapi config show` or `channelapi config doc`"
                .to_owned()
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => unknown(&subject(error), args),
        ErrorKind::InvalidValue | ErrorKind::NoEquals | ErrorKind::WrongNumberOfValues => {
            missing_value(&subject(error))
        }
        _ => first_line(error),
    };
    Err(Exit::unusable(format!("error: {message}\n")))
}

/// The word that the parser stumbled over.
fn subject(error: &clap::Error) -> String {
    [ContextKind::InvalidArg, ContextKind::InvalidSubcommand]
        .into_iter()
        .find_map(|kind| match error.get(kind)? {
            ContextValue::String(word) => Some(word.clone()),
            ContextValue::Strings(words) => words.first().cloned(),
            _ => None,
        })
        .unwrap_or_default()
}

fn unknown(word: &str, args: &[OsString]) -> String {
    if !word.starts_with('-') {
        return unknown_command(word);
    }
    // Of `-prot=80` the parser names only `-p`, as it might be a short flag.
    let typed = args.iter().filter_map(|arg| arg.to_str()).find(|arg| arg.starts_with(word)).unwrap_or(word);
    let name = typed.split('=').next().unwrap_or(typed);
    let flags: Vec<String> = OPTIONS.iter().filter(|spec| spec.in_file).map(Spec::flag).collect();
    let known = flags.iter().map(String::as_str).chain(["config", "help", "version"]);
    let guess = did_you_mean(name.trim_start_matches('-'), known).replacen('`', "`--", 1);
    if guess.is_empty() {
        format!("unknown option `{name}`; {HELP}")
    } else {
        format!("unknown option `{name}`{guess}")
    }
}

fn unknown_command(word: &str) -> String {
    let name = word.split('=').next().unwrap_or(word).replace('_', "-");
    if OPTIONS.iter().any(|spec| spec.flag() == name) {
        return format!("unknown command `{word}`; an option starts with two dashes: --{word}");
    }
    if bool::parse(word).is_ok() {
        return format!(
            "unknown command `{word}`; the value of a switch follows an equals sign, as in --debug={word}"
        );
    }
    let guess = nearest(word, VERBS.map(|(short, _)| short));
    match VERBS.iter().find(|(short, _)| Some(*short) == guess) {
        Some((_, verb)) if *verb == word => format!("`{word}` follows another command; give only one"),
        Some((_, verb)) => format!("unknown command `{word}`; did you mean `{verb}`?"),
        None => format!("unknown command `{word}`; {HELP}"),
    }
}

fn missing_value(flag: &str) -> String {
    // The parser names the flag together with the name of its value.
    let name = flag.split([' ', '=']).next().unwrap_or(flag);
    let spec = OPTIONS.iter().find(|spec| format!("--{}", spec.flag()) == name);
    let example = match spec {
        Some(spec) if spec.shape == Shape::Boolean => {
            return format!("{name} takes its value after an equals sign: {name}=true");
        }
        Some(spec) if spec.secret => {
            return format!(
                "{name} needs a value; write {name}=KEY, with the equals sign if it starts with a dash"
            );
        }
        Some(spec) => spec.default.unwrap_or(spec.placeholder),
        None if name == "--config" => "FILE",
        None => "VALUE",
    };
    format!("{name} needs a value; write {name}={example}")
}

/// What is left is rare: the parser's own words, without its advice.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("{}; {HELP}", line.trim_start_matches("error: "))
}
