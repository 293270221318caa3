//! Mistakes on the command line, each explained in one line.

use std::{ffi::OsString, time::Duration};

use clap::{
    Arg, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Exit, Invocation, command::command, settings::EMPTY, version};
use crate::config::{
    moment::Moment,
    nearest::{did_you_mean, nearest},
    options::{OPTIONS, POLICY, Spec},
    units::ByteSize,
    value::{Shape, Value},
};

/// What can be meant by a word, and how it is written in full.
const VERBS: [(&str, &str); 23] = [
    ("serve", "serve"),
    ("publish", "publish"),
    ("subscribe", "subscribe"),
    ("tail", "subscribe"),
    ("bench", "bench"),
    ("connect", "bench connect"),
    ("fanout", "bench fanout"),
    ("resume", "bench resume"),
    ("store", "store"),
    ("backup", "store backup"),
    ("stats", "store stats"),
    ("jwt", "jwt"),
    ("sign", "jwt sign"),
    ("verify", "jwt verify"),
    ("key", "key"),
    ("create", "key create"),
    ("hash", "key hash"),
    ("check", "check"),
    ("config", "config"),
    ("default", "config default"),
    ("show", "config show"),
    ("doc", "config doc"),
    ("version", "version"),
];

/// Turns the parser's complaint into ours; a wish for help is not one.
pub(super) fn explain(error: &clap::Error, args: &[OsString]) -> Result<Invocation, Exit> {
    let verb = verb_of(args);
    let message = match error.kind() {
        ErrorKind::DisplayVersion => return Ok(Invocation::Print(version())),
        // The parser takes every word that begins with -h for a wish for help.
        ErrorKind::DisplayHelp if asks_for_help(args) => {
            return Ok(Invocation::Print(error.render().to_string()));
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => which(&verb),
        ErrorKind::DisplayHelp => verb.unknown("-h", args),
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => verb.unknown(&subject(error), args),
        ErrorKind::InvalidValue | ErrorKind::NoEquals | ErrorKind::WrongNumberOfValues => {
            missing_value(&subject(error), args)
        }
        ErrorKind::MissingRequiredArgument => verb.incomplete(&subject(error)),
        _ => first_line(error, &verb),
    };
    Err(Exit::unusable(format!("error: {message}\n")))
}

fn asks_for_help(args: &[OsString]) -> bool {
    args.iter().any(|arg| arg == "-h" || arg == "--help" || arg == "help")
}

/// The verb that was typed, as far as one was recognised.
struct Verb {
    /// In full, the program's name first.
    name: String,
    command: Command,
}

fn verb_of(args: &[OsString]) -> Verb {
    let mut verb = Verb { name: "channelapi".to_owned(), command: command() };
    for arg in args.iter().skip(1) {
        if let Some(below) = verb.command.find_subcommand(arg) {
            verb = Verb { name: format!("{} {}", verb.name, below.get_name()), command: below.clone() };
        }
    }
    verb
}

fn which(verb: &Verb) -> String {
    let names = verb.command.get_subcommands().filter(|below| !below.is_hide_set());
    let mut full: Vec<String> = names.map(|below| format!("`{} {}`", verb.name, below.get_name())).collect();
    let last = full.pop().unwrap_or_default();
    if full.is_empty() {
        return format!("what of it? write {last}");
    }
    format!("which of them? {} or {last}", full.join(", "))
}

impl Verb {
    fn help(&self) -> String {
        format!("`{} --help` lists them all", self.name)
    }

    /// What its flags are called; those of the server where it has none of its own.
    fn flags(&self) -> Vec<String> {
        let own = self.command.get_arguments().filter(|arg| !arg.is_hide_set());
        let own: Vec<String> = own.filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
        let of_the_server = || OPTIONS.iter().filter(|spec| spec.in_file).map(Spec::flag);
        if own.is_empty() { of_the_server().chain(["config".to_owned()]).collect() } else { own }
    }

    fn unknown(&self, word: &str, args: &[OsString]) -> String {
        if !word.starts_with('-') {
            return if self.command.get_positionals().next().is_some() {
                format!("`{word}` is one word too many; what contains spaces needs quotes around it")
            } else {
                self.unknown_word(word)
            };
        }
        // Of `-prot=80` the parser names only `-p`, as it might be a short flag.
        let typed =
            args.iter().filter_map(|arg| arg.to_str()).find(|arg| arg.starts_with(word)).unwrap_or(word);
        let name = typed.split('=').next().unwrap_or(typed);
        if let Some(wrong) = self.below_zero(typed, args) {
            return wrong;
        }
        if name.trim_start_matches('-').starts_with(POLICY) {
            return format!("unknown option `{name}`; policies are written in the file, below [[policy]]");
        }
        let flags = self.flags();
        let known = flags.iter().map(String::as_str).chain(["help", "version"]);
        let guess = did_you_mean(name.trim_start_matches('-'), known).replacen('`', "`--", 1);
        let help = self.help();
        let is_data = self.command.get_name() == "publish" && !name.starts_with("--");
        if !guess.is_empty() && !is_data {
            format!("unknown option `{name}`{guess}")
        } else if OPTIONS.iter().any(|spec| spec.flag() == name.trim_start_matches('-')) {
            format!("`{name}` is an option of the server; say where it is with --server=URL")
        } else if is_data {
            format!("unknown option `{name}`; {help}, and data that begins with a dash goes behind ` -- `")
        } else {
            format!("unknown option `{name}`; {help}")
        }
    }

    /// What is wrong with a value such as `-1s`, in the words of its option: the parser takes it for flags.
    fn below_zero(&self, typed: &str, args: &[OsString]) -> Option<String> {
        if !typed.strip_prefix('-')?.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let before = args.iter().position(|arg| arg == typed)?.checked_sub(1)?;
        let flag = args[before].to_str()?;
        let is_meant = |arg: &&Arg| {
            let long = flag.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name));
            long || arg.get_short().is_some_and(|short| flag == format!("-{short}"))
        };
        let arg =
            self.command.get_arguments().filter(|arg| arg.get_action().takes_values()).find(is_meant)?;
        let name = arg.get_long()?;
        let why = match arg.get_value_names()?.first()?.as_str() {
            "TIME" if name == "expires" => Moment::parse(typed).err(),
            "TIME" => Duration::parse(typed).err(),
            "SIZE" => ByteSize::parse(typed).err(),
            "N" => u64::parse(typed).err(),
            "PORT" => u16::parse(typed).err(),
            _ => None,
        };
        Some(match why {
            Some(why) => format!("--{name}: {why}"),
            None => format!("a value that starts with a dash follows an equals sign: --{name}={typed}"),
        })
    }

    /// A word behind it that is none of its verbs. Those of its own family are the nearest.
    fn unknown_word(&self, word: &str) -> String {
        let below: Vec<_> = self.command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
        if self.command.get_name() == "channelapi"
            || VERBS.iter().any(|(short, verb)| short == verb && *short == word)
        {
            return unknown_command(word);
        }
        if below.is_empty() {
            return without_dashes(word).unwrap_or_else(|| self.one_too_many(word));
        }
        if let Some(guess) = nearest(word, below.iter().map(|below| below.get_name())) {
            let group = self.command.get_name();
            return format!("unknown command `{word}`; did you mean `{group} {guess}`?");
        }
        unknown_command(word)
    }

    /// A word behind a verb that takes options only. It may be the place that one of them names.
    fn one_too_many(&self, word: &str) -> String {
        let has = |id: &str| self.command.get_arguments().any(|arg| arg.get_id() == id);
        let (place, flag) = if has("data_dir") && self.name.contains(" store ") {
            ("data directory", "--data-dir")
        } else if has("config") {
            ("configuration file", "-c")
        } else {
            return format!("`{word}` is one word too many; nothing follows `{}`", self.name);
        };
        format!("`{word}` is one word too many; if it is the {place}, write {flag} {word}")
    }

    /// Something without which the verb means nothing is missing.
    fn incomplete(&self, missing: &str) -> String {
        let usage = self.command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").lines().next().unwrap_or_default();
        // The parser shows an option with its value.
        let missing = missing.split(" <").next().unwrap_or(missing).trim_matches(['<', '>']);
        format!("{missing} is missing; write `{}`", usage.replace("[OPTIONS] ", ""))
    }
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

/// What to write if a word is an option, or the value of a switch.
fn without_dashes(word: &str) -> Option<String> {
    let name = word.split('=').next().unwrap_or(word).replace('_', "-");
    if OPTIONS.iter().any(|spec| spec.flag() == name) {
        return Some(format!("unknown command `{word}`; an option starts with two dashes: --{word}"));
    }
    bool::parse(word).is_ok().then(|| {
        format!(
            "unknown command `{word}`; the value of a switch follows an equals sign, as in --debug={word}"
        )
    })
}

fn unknown_command(word: &str) -> String {
    if let Some(meant) = without_dashes(word) {
        return meant;
    }
    let guess = nearest(word, VERBS.map(|(short, _)| short));
    match VERBS.iter().find(|(short, _)| Some(*short) == guess) {
        Some((_, verb)) if *verb == word => format!("`{word}` follows another command; give only one"),
        Some((_, verb)) => format!("unknown command `{word}`; did you mean `{verb}`?"),
        None => format!("unknown command `{word}`; `channelapi --help` lists them all"),
    }
}

fn missing_value(flag: &str, args: &[OsString]) -> String {
    // The parser names the flag together with the name of its value.
    let name = flag.split([' ', '=']).next().unwrap_or(flag);
    if args.iter().any(|arg| arg.is_empty()) {
        return format!("{}: {EMPTY}", name.trim_matches(['<', '>']));
    }
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
        None => match name {
            "--config" => "FILE",
            "--server" | "--clients" => "http://127.0.0.1:8888",
            "--key" => {
                return "--key needs a value; write --key=KEY, with the equals sign if it starts with a dash"
                    .to_owned();
            }
            "--since" => "all",
            "--channels" => "a,b",
            "--count" => "1",
            "--ttl" => "1h",
            "--output" => "json",
            "--connections" => "1000",
            "--rate" => "100",
            "--duration" => "30s",
            "--size" => "200",
            _ => "VALUE",
        },
    };
    format!("{name} needs a value; write {name}={example}")
}

/// What is left is rare: the parser's own words, without its advice.
fn first_line(error: &clap::Error, verb: &Verb) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("{}; see `{} --help`", line.trim_start_matches("error: "), verb.name)
}
