//! Command lines, and what becomes of them.

mod bench;
mod client;

use std::{os::unix::ffi::OsStringExt, time::Duration};

use super::*;
use crate::config::{
    options::OPTIONS,
    origins::Origins,
    source::Source,
    value::{LogLevel, Shape},
};

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
            (_, "address" | "internal.address") => "::1",
            (_, "http.trusted_proxies") => "10.0.0.1",
            (_, "http.unix" | "internal.unix" | "tls.cert" | "tls.key" | "acme.ca_file") => "a.file",
            (_, "acme.domains") => "push.example.com",
            (_, "acme.email") => "admin@example.com",
            (_, "acme.directory") => "https://ca.example/directory",
            (_, "acme.challenge") => "http-01",
            (_, "data_dir" | "redis.host") => "elsewhere",
            (_, "auth_key") => "correct-horse-battery",
            (_, "log.level") => "trace",
            (_, "log.format") => "json",
            (_, "http.cors_origins") => "https://a.example",
            (_, "socketio.max_payload" | "history.max_bytes") => "2KiB",
            (_, "limits.slow_clients_memory" | "limits.memory") => "2MiB",
            (_, "store.max_disk") => "2TB",
            (_, "store.durability") => "relaxed",
            (Shape::Quantity, _) => "7s",
            other => panic!("no example for {other:?}"),
        };
        // What it is of no use without.
        let more = match spec.key {
            "http.proxy_protocol" => "--http-trusted-proxies=10.0.0.1",
            "internal.address" => "--internal-port=80",
            "tls.cert" => "--tls-key=a.file",
            "tls.key" => "--tls-cert=a.file",
            "tls.redirect_port" => "--tls-cert=a.file --tls-key=a.file",
            "acme.domains" => "--acme-terms-agreed",
            _ => "",
        };
        for flag in [spec.flag(), spec.flag().replace('-', "_")] {
            let config = served(&format!("--{flag}={text} {more}"));
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
    let line = "--log_file_prefix=/var/log/x.log --log_to_stderr --log_rotate_when H --log_file_max_size=1";
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
        let Ok(Invocation::Conformance { port, address, ping_timeout }) = run(line) else { panic!("{line}") };
        assert_eq!((address.to_string().as_str(), port), expected, "{line}");
        assert_eq!(ping_timeout, std::time::Duration::from_millis(200), "as the suites want it");
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
        ("--policy=user-*", "unknown option `--policy`; policies are written in the file, below [[policy]]"),
        ("--nonsense", "unknown option `--nonsense`; `channelapi --help` lists them all"),
        ("-p 80", "unknown option `-p`; `channelapi --help` lists them all"),
        ("serv", "unknown command `serv`; did you mean `serve`?"),
        ("show", "unknown command `show`; did you mean `config show`?"),
        ("config shw", "unknown command `shw`; did you mean `config show`?"),
        ("store verfy", "unknown command `verfy`; did you mean `store verify`?"),
        ("key creat", "unknown command `creat`; did you mean `key create`?"),
        ("jwt verfy", "unknown command `verfy`; did you mean `jwt verify`?"),
        ("store check", "`check` follows another command; give only one"),
        ("stats", "unknown command `stats`; did you mean `store stats`?"),
        ("check c.toml", "`c.toml` is one word too many; if it is the configuration file, write -c c.toml"),
        (
            "serve /etc/c.toml",
            "`/etc/c.toml` is one word too many; if it is the configuration file, write -c /etc/c.toml",
        ),
        (
            "store verify /etc",
            "`/etc` is one word too many; if it is the data directory, write --data-dir /etc",
        ),
        (
            "store verify good",
            "`good` is one word too many; if it is the data directory, write --data-dir good",
        ),
        ("version foo", "`foo` is one word too many; nothing follows `channelapi version`"),
        ("config default foo", "`foo` is one word too many; nothing follows `channelapi config default`"),
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
        ("--port -1", "--port: `-1` is not a port number; write a number from 0 to 65535, such as 8888"),
        (
            "--drain-timeout -1s",
            "--drain-timeout: `-1s` is not a duration; write a whole number and a unit, such as 500ms, 25s, 10m, 2h or 7d",
        ),
        (
            "check --store-max-disk -1GB --debug",
            "--store-max-disk: `-1GB` is not a size; write bytes or a number with a unit, such as 65536, 64KiB or 1MB",
        ),
        (
            "bench fanout -d -1.5h",
            "--duration: `-1.5h` is not a duration; write a whole number and a unit, such as 500ms, 25s, 10m, 2h or 7d",
        ),
        (
            "jwt sign --channels a --sub -1x",
            "a value that starts with a dash follows an equals sign: --sub=-1x",
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
    let exit =
        run_with("--port x --address y", &[("CHANNELAPI_DEBUG", "z"), ("CHANNELAPI_PROT", "1")]).unwrap_err();
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
    let lines: Vec<&str> = examples.lines().filter_map(|line| line.strip_prefix("  channelapi")).collect();
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
    assert!(exit.code == 2 && exit.text.contains("error: the auth key is publicly known"), "{}", exit.text);
    let Ok(Invocation::Print(text)) = at("--auth-key changeme --address 127.0.0.1") else { panic!() };
    assert!(text.contains("warning: THE AUTH KEY IS PUBLICLY KNOWN"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "check creates nothing");
}
