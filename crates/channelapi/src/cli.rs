//! The command line: what was asked for, as a value.
//!
//! Nothing here prints or exits, so every line and every mistake can be tested. The flags of the options are made
//! from the table in `config::options`; here are only the verbs.

mod usage;

use std::{
    ffi::{OsStr, OsString},
    fmt::Write,
    net::IpAddr,
    path::PathBuf,
};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{OsStringValueParser, PathBufValueParser},
};

use crate::config::{
    self, Config, Rejected, env, file, keys,
    options::{OPTIONS, Spec, spec},
    pages,
    source::{Given, Problem, Source},
    tornado,
    value::{Shape, Value},
};

/// What the process is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Run the server.
    Serve(Box<Config>),
    /// Run the server that the official Socket.IO test suites expect.
    Conformance {
        /// Port to listen on.
        port: u16,
        /// Address to listen on.
        address: IpAddr,
    },
    /// Print this to standard output, and be done.
    Print(String),
}

/// An end without anything to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code of the process.
    pub code: u8,
    /// What to print, line end included.
    pub text: String,
    /// Whether it goes to standard error.
    pub to_stderr: bool,
}

impl Exit {
    /// A command line or configuration that cannot be used.
    fn unusable(text: String) -> Self {
        Self { code: 2, text, to_stderr: true }
    }
}

/// Understands a command line, the program's name first, together with the environment.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Exit> {
    parse_in(args, variables, &file::SEARCH.map(PathBuf::from))
}

fn parse_in(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    search: &[PathBuf],
) -> Result<Invocation, Exit> {
    let args = tornado::modernize(args);
    let matches = match command().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return usage::explain(&error, &args),
    };
    // A flag may stand before or after the verb, so the levels are searched from the innermost.
    let mut verb = Vec::new();
    let mut levels = vec![&matches];
    while let Some((name, below)) = levels[0].subcommand() {
        verb.push(name);
        levels.insert(0, below);
    }
    let effective = || configuration(&levels, env::load(variables), search);
    Ok(match verb[..] {
        ["check"] => Invocation::Print(check(&effective()?)?),
        ["config", "default"] => Invocation::Print(pages::example()),
        ["config", "doc"] => Invocation::Print(pages::reference()),
        ["config", "show"] => Invocation::Print(show(&effective()?)),
        ["version"] => Invocation::Print(version()),
        ["conformance"] => conformance(&levels)?,
        _ => Invocation::Serve(Box::new(effective()?)),
    })
}

/// What `version` and `--version` print.
fn version() -> String {
    concat!("channelapi ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
}

fn check(config: &Config) -> Result<String, Exit> {
    let (loopback, debug) = (config.is_loopback(), config.debug);
    let mut text = warnings(&config.warnings);
    match keys::check_auth_key(config.auth_key.as_ref(), &config.data_dir, loopback, debug) {
        Ok(Some(about_key)) => text += &warnings(&about_key),
        Ok(None) => {
            let path = keys::key_file(&config.data_dir);
            let _ =
                writeln!(text, "no auth key is set; the first start will generate one in {}", path.display());
        }
        Err(error) => return Err(Exit::unusable(format!("{text}error: {error}\n"))),
    }
    let file = config.file.as_ref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
    let _ = writeln!(text, "configuration is valid ({file})");
    Ok(text)
}

fn show(config: &Config) -> String {
    warnings(&config.warnings) + &pages::effective(config)
}

fn warnings(warnings: &[String]) -> String {
    warnings.iter().fold(String::new(), |text, warning| text + "warning: " + warning + "\n")
}

fn conformance(levels: &[&ArgMatches]) -> Result<Invocation, Exit> {
    // The upstream suites connect to port 3000 of this machine unless they are told otherwise.
    let port = single(levels, "port", "3000")?;
    let address = single(levels, "address", "127.0.0.1")?;
    Ok(Invocation::Conformance { port, address })
}

fn single<T: Value>(levels: &[&ArgMatches], key: &str, default: &str) -> Result<T, Exit> {
    let spec = spec(key);
    let text = values(levels, spec.key)
        .first()
        .map_or_else(|| default.to_owned(), |text| text.to_string_lossy().into_owned());
    spec.parse(&text).map_err(|reason| Exit::unusable(format!("error: --{}: {reason}\n", spec.flag())))
}

/// Merges the flags with everything else.
fn configuration(
    levels: &[&ArgMatches],
    environment: env::Environment,
    search: &[PathBuf],
) -> Result<Config, Exit> {
    let mut heard = Vec::new();
    let (given, problems): (Vec<_>, Vec<_>) =
        OPTIONS.iter().filter_map(|spec| flag(levels, spec)).partition(Result::is_ok);
    let mut given: Vec<Given> = given.into_iter().flatten().collect();
    let problems: Vec<Problem> = problems.into_iter().filter_map(Result::err).collect();

    if let Some(level) = values(levels, tornado::LOGGING).first() {
        let text = tornado::log_level(&level.to_string_lossy()).to_owned();
        // Last, so that --log-level wins.
        given.push(Given { spec: spec("log.level"), text, source: Source::Flag("--logging".to_owned()) });
    }
    for secret in given.iter().filter(|given| given.spec.secret) {
        let (flag, variable) = (&secret.source, secret.spec.variable());
        heard.push(format!(
            "{flag} on the command line can be read by every user of this machine in the list of processes; \
             use {variable}_FILE or {variable} instead"
        ));
    }
    for name in tornado::IGNORED.iter().filter(|name| is_given(levels, name)) {
        heard.push(format!(
            "--{name} is ignored: logs go to standard error, where the process manager collects them"
        ));
    }

    let named: Option<PathBuf> =
        levels.iter().find_map(|level| level.try_get_one("config").ok().flatten().cloned());
    let loaded = config::load(given, named.as_deref(), environment, search);
    match loaded {
        Ok(mut config) if problems.is_empty() => {
            config.warnings.splice(0..0, heard);
            Ok(config)
        }
        Ok(config) => Err(rejected(&heard, &Rejected { problems, warnings: config.warnings })),
        Err(mut reasons) => {
            reasons.problems.extend(problems);
            Err(rejected(&heard, &reasons))
        }
    }
}

fn rejected(heard: &[String], reasons: &Rejected) -> Exit {
    let mut text = warnings(heard) + &warnings(&reasons.warnings);
    for problem in &reasons.problems {
        let _ = writeln!(text, "error: {problem}");
    }
    Exit::unusable(text)
}

/// What the flag of this option says, if it was given.
fn flag(levels: &[&ArgMatches], spec: &'static Spec) -> Option<Result<Given, Problem>> {
    let values = values(levels, spec.key);
    if values.is_empty() {
        return None;
    }
    let source = Source::Flag(format!("--{}", spec.flag()));
    let texts: Option<Vec<&str>> = values.iter().map(|value| value.to_str()).collect();
    Some(match texts {
        Some(texts) => Ok(Given { spec, text: texts.join(","), source }),
        None => Err(Problem::at(source, "the value is not UTF-8 text")),
    })
}

/// The values of a flag at the innermost level that has any.
fn values<'a>(levels: &[&'a ArgMatches], id: &str) -> Vec<&'a OsStr> {
    let at = |level: &&'a ArgMatches| level.try_get_many::<OsString>(id).ok().flatten();
    levels.iter().find_map(at).into_iter().flatten().map(OsString::as_os_str).collect()
}

fn is_given(levels: &[&ArgMatches], id: &str) -> bool {
    levels.iter().any(|level| matches!(level.try_contains_id(id), Ok(true)))
}

/// Everything that can be typed.
fn command() -> Command {
    let with_options = |command: Command| command.args(option_args()).args(tornado_args());
    let serve = Command::new("serve").about("Run the server; the same as giving no command");
    let check = Command::new("check")
        .alias("checkconfig")
        .about("Tell whether the configuration is valid, and exit with 0 or 2");
    let show =
        Command::new("show").about("Print the effective values and where each came from, without secrets");
    let config = Command::new("config")
        .about("Print an example file, the reference page or the effective values")
        .subcommand_required(true)
        .subcommand(
            Command::new("default").about("Print an example channelapi.toml with every key and its default"),
        )
        .subcommand(with_options(show))
        .subcommand(Command::new("doc").about("Print the reference page of all options, in Markdown"));
    let address = option_arg(spec("address")).help("Address to listen on [default: 127.0.0.1]");
    let port = option_arg(spec("port")).help("Port to listen on [default: 3000]");
    let conformance = Command::new("conformance")
        .about("Run the server that the official Socket.IO test suites expect")
        .hide(true)
        .args([address, port]);

    with_options(Command::new("channelapi"))
        .about("Push notifications to browsers and apps over Socket.IO, from any backend that speaks HTTP.")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands([with_options(serve), with_options(check), config])
        .subcommand(Command::new("version").about("Print the version"))
        .subcommand(conformance)
        .after_help(EXAMPLES)
}

const EXAMPLES: &str = "\
Examples:
  channelapi                                    Start, with a generated key in ./data/auth_key
  channelapi --debug --address 127.0.0.1        Develop on this machine
  channelapi --port 80 --data-dir /srv/push     Choose port and directory
  channelapi config default > channelapi.toml   Write a configuration file to edit
  channelapi check -c channelapi.toml           Check it
  channelapi config show                        See what is in effect, and why

Every option is also a variable (CHANNELAPI_LOG_LEVEL) and a key of the file (level below [log]).
Flags win over variables, variables over the file. `channelapi config doc` explains each option.";

fn option_args() -> Vec<Arg> {
    let config = Arg::new("config")
        .short('c')
        .long("config")
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .overrides_with("config")
        .help_heading(OPTIONS[0].title)
        .help("Configuration file [default: ./channelapi.toml, then /etc/channelapi/channelapi.toml]");
    let options = OPTIONS.iter().map(|spec| option_arg(spec).help_heading(spec.title).hide(!spec.in_file));
    [config].into_iter().chain(options).collect()
}

fn option_arg(spec: &'static Spec) -> Arg {
    let arg = Arg::new(spec.key)
        .long(spec.flag())
        .value_name(spec.placeholder)
        .value_parser(OsStringValueParser::new())
        // A random key may begin with a dash.
        .allow_hyphen_values(spec.secret);
    let arg = match spec.shape {
        // `--debug` alone turns it on; a value needs the equals sign, or the next word might be one.
        Shape::Boolean => switch(arg).overrides_with(spec.key),
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

fn switch(arg: Arg) -> Arg {
    arg.num_args(0..=1).require_equals(true).default_missing_value("true")
}

fn tornado_args() -> Vec<Arg> {
    let logging = Arg::new(tornado::LOGGING).long(tornado::LOGGING);
    let ignored = tornado::IGNORED.iter().map(|name| {
        let arg = Arg::new(*name).long(name.replace('_', "-"));
        if *name == "log_to_stderr" { switch(arg) } else { arg }
    });
    [logging]
        .into_iter()
        .chain(ignored)
        .map(|arg| {
            let id = arg.get_id().clone();
            arg.hide(true).value_parser(OsStringValueParser::new()).overrides_with(id)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::ffi::OsStringExt, time::Duration};

    use super::*;
    use crate::config::{origins::Origins, value::LogLevel};

    fn run(line: &str) -> Result<Invocation, Exit> {
        run_with(line, &[])
    }

    /// Runs a command line, its words separated by spaces, without looking at any file.
    fn run_with(line: &str, variables: &[(&str, &str)]) -> Result<Invocation, Exit> {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from);
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        parse_in([OsString::from("channelapi")].into_iter().chain(words), variables, &[])
    }

    #[track_caller]
    fn served(line: &str) -> Config {
        match run(line) {
            Ok(Invocation::Serve(config)) => *config,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[track_caller]
    fn printed(line: &str) -> String {
        match run(line) {
            Ok(Invocation::Print(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[track_caller]
    fn refuses(line: &str, expected: &str) {
        let exit = run(line).expect_err(line);
        assert_eq!(exit, Exit::unusable(format!("error: {expected}\n")), "{line}");
    }

    #[test]
    fn no_command_means_serve() {
        for line in ["", "serve", "--port 80", "serve --port 80", "--port 80 serve"] {
            let port = if line.contains("80") { 80 } else { 8888 };
            assert_eq!(served(line).port, port, "{line}");
        }
        assert_eq!(served("--port 1 serve --port 2").port, 2, "the one closer to the command wins");
    }

    #[test]
    fn the_originals_command_line_still_starts() {
        for line in [
            "--debug=true --auth_key=changeme --port=80",
            "--debug --auth-key changeme --port 80",
            "-debug=true -auth_key=changeme -port=80",
            "--debug=t --auth_key changeme -port 80",
        ] {
            let config = served(line);
            assert!(config.debug && config.port == 80, "{line}");
            assert!(config.auth_key.unwrap().matches(b"changeme"), "{line}");
        }
        let config = served("--redis_host=cache --redis_port=6380");
        assert_eq!((config.redis.host.as_deref(), config.redis.port), (Some("cache"), Some(6380)));
    }

    #[test]
    fn switches_take_every_word_tornado_took() {
        for (line, on) in [
            ("", false),
            ("--debug", true),
            ("--debug=true", true),
            ("--debug=1", true),
            ("--debug=yes", true),
            ("--debug=t", true),
            ("-debug", true),
            ("--debug=false", false),
            ("--debug=0", false),
            ("--debug=no", false),
            ("--debug=f", false),
            ("--debug --debug=no", false),
        ] {
            assert_eq!(served(line).debug, on, "{line}");
        }
    }

    #[test]
    fn every_option_can_be_given_with_dashes_and_with_underscores() {
        for spec in OPTIONS {
            let text = match (spec.shape, spec.key) {
                (Shape::Boolean, _) => "true",
                (Shape::Integer, _) => "80",
                (_, "address") => "::1",
                (_, "data_dir" | "redis.host") => "elsewhere",
                (_, "auth_key") => "correct-horse-battery",
                (_, "log.level") => "trace",
                (_, "log.format") => "json",
                (_, "http.cors_origins") => "https://a.example",
                (_, "socketio.max_payload") => "2KiB",
                (Shape::Quantity, _) => "7s",
                other => panic!("no example for {other:?}"),
            };
            for flag in [spec.flag(), spec.flag().replace('-', "_")] {
                let config = served(&format!("--{flag}={text}"));
                let setting = config.settings.iter().find(|setting| setting.key == spec.key).unwrap();
                assert_eq!(setting.source, Source::Flag(format!("--{}", spec.flag())), "{flag}");
                let shown = if spec.secret { "****" } else { text };
                assert_eq!(setting.value, shown, "{flag}");
            }
        }
    }

    #[test]
    fn lists_can_be_given_piece_by_piece() {
        let expected = Origins::Only(vec!["https://a.example".to_owned(), "https://b.example".to_owned()]);
        for line in [
            "--http-cors-origins https://a.example,https://b.example",
            "--http-cors-origins https://a.example --http-cors-origins https://b.example",
        ] {
            assert_eq!(served(line).http.cors_origins, expected, "{line}");
        }
    }

    #[test]
    fn the_last_of_a_repeated_flag_wins() {
        assert_eq!(served("--port 1 --port=2").port, 2);
        assert_eq!(served("--drain-timeout 1s --drain_timeout 2s").drain.timeout, Duration::from_secs(2));
    }

    #[test]
    fn a_key_on_the_command_line_is_a_warning() {
        let warnings = served("--auth_key=correct-horse-battery").warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("list of processes"), "{warnings:?}");
        assert!(warnings[0].contains("CHANNELAPI_AUTH_KEY_FILE or CHANNELAPI_AUTH_KEY"), "{warnings:?}");
        let Ok(Invocation::Serve(config)) = run_with("", &[("CHANNELAPI_AUTH_KEY", "correct-horse-battery")])
        else {
            panic!("a key in a variable is fine");
        };
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn tornados_log_flags_are_ignored_with_a_warning_each() {
        let line =
            "--log_file_prefix=/var/log/x.log --log_to_stderr --log_rotate_when H --log_file_max_size=1";
        let warnings = served(line).warnings;
        let names = ["--log_to_stderr ", "--log_file_prefix ", "--log_file_max_size ", "--log_rotate_when "];
        assert_eq!(warnings.len(), names.len(), "{warnings:?}");
        for (warning, name) in warnings.iter().zip(names) {
            assert!(warning.starts_with(name), "{warning}");
        }
        for name in tornado::IGNORED.iter().filter(|name| **name != "log_to_stderr") {
            assert_eq!(served(&format!("--{name}=1")).warnings.len(), 1, "{name}");
        }
        assert_eq!(served("--log_to_stderr=false").warnings.len(), 1);
    }

    #[test]
    fn tornados_logging_is_the_log_level() {
        for (line, level) in [
            ("--logging=debug", LogLevel::Debug),
            ("--logging=info", LogLevel::Info),
            ("--logging=warning", LogLevel::Warn),
            ("--logging=error", LogLevel::Error),
            ("--logging=none", LogLevel::Error),
            ("--logging=error --log-level=trace", LogLevel::Trace),
            ("--logging=info --debug", LogLevel::Info),
        ] {
            assert_eq!(served(line).log.level, level, "{line}");
        }
        refuses(
            "--logging=loud",
            "--logging: `loud` is not a log level; write error / warn / info / debug / trace",
        );
    }

    #[test]
    fn conformance_needs_nothing_but_a_port() {
        for (line, expected) in [
            ("conformance", ("127.0.0.1", 3000)),
            ("conformance --port 0", ("127.0.0.1", 0)),
            ("conformance --port=5 --address ::1", ("::1", 5)),
            ("--port 5 conformance", ("127.0.0.1", 5)),
        ] {
            let Ok(Invocation::Conformance { port, address }) = run(line) else { panic!("{line}") };
            assert_eq!((address.to_string().as_str(), port), expected, "{line}");
        }
        assert!(!printed("--help").contains("conformance"));
    }

    #[test]
    fn mistakes_get_one_line_that_says_what_to_type() {
        for (line, expected) in [
            ("--prot 80", "unknown option `--prot`; did you mean `--port`?"),
            ("--prot=80", "unknown option `--prot`; did you mean `--port`?"),
            ("-prot=80", "unknown option `-prot`; did you mean `--port`?"),
            ("--cors-origins=*", "unknown option `--cors-origins`; did you mean `--http-cors-origins`?"),
            ("--nonsense", "unknown option `--nonsense`; `channelapi --help` lists them all"),
            ("-p 80", "unknown option `-p`; `channelapi --help` lists them all"),
            ("serv", "unknown command `serv`; did you mean `serve`?"),
            ("show", "unknown command `show`; did you mean `config show`?"),
            ("config shw", "unknown command `shw`; did you mean `config show`?"),
            ("serve check", "`check` follows another command; give only one"),
            ("port=80", "unknown command `port=80`; an option starts with two dashes: --port=80"),
            (
                "--debug false",
                "unknown command `false`; the value of a switch follows an equals sign, as in --debug=false",
            ),
            (
                "config",
                "which of them? `channelapi config default`, `channelapi config show` or `channelapi config doc`",
            ),
            ("--port", "--port needs a value; write --port=8888"),
            ("-c", "--config needs a value; write --config=FILE"),
            (
                "--auth-key",
                "--auth-key needs a value; write --auth-key=KEY, with the equals sign if it starts with a dash",
            ),
            ("--port=", "--port: the value is empty; write a number from 0 to 65535, such as 8888"),
            (
                "--port 70000",
                "--port: `70000` is not a port number; write a number from 0 to 65535, such as 8888",
            ),
            (
                "conformance --port x",
                "--port: `x` is not a port number; write a number from 0 to 65535, such as 8888",
            ),
            ("--drain-timeout 30", "--drain-timeout: `30` has no unit; write 30s, 30ms or 30m"),
        ] {
            refuses(line, expected);
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once_after_the_warnings_that_may_explain_them() {
        let exit = run_with("--port x --address y", &[("CHANNELAPI_DEBUG", "z"), ("CHANNELAPI_PROT", "1")])
            .unwrap_err();
        let starts: Vec<&str> = exit.text.lines().map(|line| line.split('`').next().unwrap()).collect();
        let unknown = "warning: unknown variable CHANNELAPI_PROT is ignored; did you mean CHANNELAPI_PORT?";
        assert_eq!(starts, [unknown, "error: CHANNELAPI_DEBUG: ", "error: --address: ", "error: --port: "]);
        assert_eq!(exit.code, 2);
    }

    #[test]
    fn values_that_are_not_text_are_refused() {
        let args = ["channelapi".into(), OsString::from_vec(b"--log-level=\xff".to_vec())];
        let exit = parse_in(args, [], &[]).unwrap_err();
        assert_eq!(exit.text, "error: --log-level: the value is not UTF-8 text\n");
    }

    #[test]
    fn help_shows_every_option_under_its_heading_and_examples_last() {
        let help = printed("--help");
        for spec in OPTIONS {
            assert_eq!(help.contains(&format!("--{}", spec.flag())), spec.in_file, "{}", spec.key);
            assert_eq!(help.contains(&format!("\n{}:\n", spec.title)), spec.in_file, "{}", spec.key);
        }
        let (options, examples) = help.split_once("Examples:").unwrap();
        assert!(!options.contains("logging") && !options.contains("log-file"), "{options}");
        // Each example is a line that works, up to the two spaces before its explanation.
        let lines: Vec<&str> =
            examples.lines().filter_map(|line| line.strip_prefix("  channelapi")).collect();
        assert!(lines.len() >= 5);
        for line in lines {
            let words = line.split("  ").next().unwrap().split(" > ").next().unwrap();
            let outcome = run(words);
            let missing_file =
                outcome.as_ref().is_err_and(|exit| exit.text.contains("channelapi.toml: No such file"));
            assert!(outcome.is_ok() || missing_file, "{words}: {outcome:?}");
        }
    }

    #[test]
    fn the_version_can_be_asked_for_in_three_ways() {
        for line in ["version", "--version", "-V"] {
            assert_eq!(printed(line), concat!("channelapi ", env!("CARGO_PKG_VERSION"), "\n"));
        }
    }

    #[test]
    fn check_holds_the_key_to_the_rules_of_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let at = |line: &str| run(&format!("check --data-dir {} {line}", dir.path().display()));
        let Ok(Invocation::Print(text)) = at("") else { panic!("a missing key is generated later") };
        assert!(
            text.contains("the first start will generate one")
                && text.ends_with("configuration is valid (no file)\n"),
            "{text}"
        );

        let exit = at("--auth-key changeme").unwrap_err();
        assert!(
            exit.code == 2 && exit.text.contains("error: the auth key is publicly known"),
            "{}",
            exit.text
        );
        let Ok(Invocation::Print(text)) = at("--auth-key changeme --address 127.0.0.1") else { panic!() };
        assert!(text.contains("warning: THE AUTH KEY IS PUBLICLY KNOWN"), "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "check creates nothing");
    }
}
