//! Everything that can be typed.

use clap::{Arg, Command, builder::OsStringValueParser};

use super::{
    arguments::{config_arg, option_arg, optional},
    bench::bench_command,
    client::{publish_command, subscribe_command},
    jwt::jwt_command,
    key::key_command,
    store::store_command,
};
use crate::config::{
    options::{OPTIONS, spec},
    tornado,
};

/// Everything that can be typed.
pub(super) fn command() -> Command {
    with_negative_numbers(verbs())
}

/// Lets `-1` be the value of an option, which then says what is wrong with it.
fn with_negative_numbers(command: Command) -> Command {
    let takes_value = |arg: &Arg| !arg.is_positional() && arg.get_action().takes_values();
    let command =
        command.mut_args(|arg| if takes_value(&arg) { arg.allow_negative_numbers(true) } else { arg });
    command.mut_subcommands(with_negative_numbers)
}

fn verbs() -> Command {
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
    let ping_timeout = option_arg(spec("socketio.ping_timeout"))
        .help("How long a pong may take; ours allow more than the suites [default: 200ms]");
    let conformance = Command::new("conformance")
        .about("Run the server that the official Socket.IO test suites expect")
        .hide(true)
        .args([address, port, ping_timeout]);

    with_options(Command::new("channelapi"))
        .about("Push notifications to browsers and apps over Socket.IO, from any backend that speaks HTTP.")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands([with_options(serve), publish_command(), subscribe_command(), bench_command()])
        .subcommands([key_command(), jwt_command(), store_command(), with_options(check), config])
        .subcommand(Command::new("version").about("Print the version"))
        .subcommand(conformance)
        .after_help(EXAMPLES)
}

const EXAMPLES: &str = "\
Examples:
  channelapi                                    Start, with a generated key in ./data/auth_key
  channelapi --debug --address 127.0.0.1        Develop on this machine
  channelapi --port 80 --data-dir /srv/push     Choose port and directory
  channelapi subscribe demo                     Print what is published to the channel demo
  channelapi publish demo hello                 Publish to it
  channelapi config default > channelapi.toml   Write a configuration file to edit
  channelapi check -c channelapi.toml           Check it
  channelapi config show                        See what is in effect, and why

Every option is also a variable (CHANNELAPI_LOG_LEVEL) and a key of the file (level below [log]).
Flags win over variables, variables over the file. `channelapi config doc` explains each option.";

fn option_args() -> Vec<Arg> {
    let config = config_arg();
    let options = OPTIONS.iter().map(|spec| option_arg(spec).help_heading(spec.title).hide(!spec.in_file));
    [config].into_iter().chain(options).collect()
}

fn tornado_args() -> Vec<Arg> {
    let logging = Arg::new(tornado::LOGGING).long(tornado::LOGGING);
    let ignored = tornado::IGNORED.iter().map(|name| {
        let arg = Arg::new(*name).long(name.replace('_', "-"));
        if *name == "log_to_stderr" { optional(arg) } else { arg }
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
