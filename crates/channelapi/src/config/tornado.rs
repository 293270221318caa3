//! Command lines of the original, which was a Tornado program: one dash or two, underscores or dashes, and flags for
//! log files that a server run by a process manager has no use for.

use std::ffi::OsString;

use super::options::OPTIONS;

/// Tornado's flags for log files: accepted, so that old command lines start, and ignored.
pub const IGNORED: [&str; 7] = [
    "log_to_stderr",
    "log_file_prefix",
    "log_file_max_size",
    "log_file_num_backups",
    "log_rotate_mode",
    "log_rotate_when",
    "log_rotate_interval",
];

/// Tornado's name for the log level.
pub const LOGGING: &str = "logging";

/// Tornado's word for a level of its own: leave logging alone. Ours cannot be off, so it logs what must be known.
pub fn log_level(tornado: &str) -> &str {
    if tornado.eq_ignore_ascii_case("none") { "error" } else { tornado }
}

/// Writes every flag the way the parser knows it: `-auth_key=x` becomes `--auth-key=x`. Values are left alone.
pub fn modernize(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut only_values = false;
    args.into_iter()
        .map(|arg| {
            only_values |= arg == "--";
            match arg.to_str().filter(|_| !only_values).and_then(modern) {
                Some(flag) => flag.into(),
                None => arg,
            }
        })
        .collect()
}

fn modern(arg: &str) -> Option<String> {
    let (name, value) = match arg.split_once('=') {
        Some((name, value)) => (name, format!("={value}")),
        None => (arg, String::new()),
    };
    let two_dashes = name.strip_prefix("--").map(|name| name.replace('_', "-"));
    // With one dash only names we know: `-c` and typing errors are for the parser.
    let one_dash = || name.strip_prefix('-').map(|name| name.replace('_', "-")).filter(|name| is_flag(name));
    two_dashes.or_else(one_dash).map(|name| format!("--{name}{value}"))
}

fn is_flag(name: &str) -> bool {
    name == "config" || OPTIONS.iter().any(|spec| spec.flag() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let modern = modernize(line.split(' ').map(OsString::from));
        let modern: Vec<_> = modern.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(modern.join(" "), expected);
    }

    #[test]
    fn dashes_and_underscores_are_the_same() {
        check("--auth_key=a_b --auth-key=a_b", "--auth-key=a_b --auth-key=a_b");
        check("--socketio-ping_interval 1s", "--socketio-ping-interval 1s");
        check("--log_file_prefix=/var/log/a_b.log", "--log-file-prefix=/var/log/a_b.log");
        check("--data_dir a_b", "--data-dir a_b");
    }

    #[test]
    fn one_dash_is_enough_for_the_names_we_know() {
        check(
            "-debug=true -auth_key=x -port=80 -redis_host=h -redis_port=1",
            "--debug=true --auth-key=x --port=80 --redis-host=h --redis-port=1",
        );
        check("-port 80 -debug", "--port 80 --debug");
        check("-config=x -c x -x -", "--config=x -c x -x -");
        check("-prot=80", "-prot=80");
    }

    #[test]
    fn nothing_is_changed_after_a_double_dash() {
        check("-- --a_b -port", "-- --a_b -port");
    }
}
