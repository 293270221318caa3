//! The verbs that work on a data directory: what is typed, and what is asked for with it.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, builder::PathBufValueParser};

use super::{
    Exit,
    arguments::{config_arg, option_arg, output, output_arg},
    settings::configuration,
};
use crate::{
    config::{env::Environment, options::spec},
    store::{Store, Verb},
};

/// `channelapi store …`.
pub(super) fn store_command() -> Command {
    let destination = Arg::new("destination")
        .value_name("DEST")
        .required(true)
        .value_parser(PathBufValueParser::new())
        .help("The directory to make; it must not exist");
    let common = |about: &'static str| {
        let data_dir = option_arg(spec("data_dir")).help(about);
        [output_arg(), data_dir, config_arg().help_heading(None::<&str>)]
    };
    let verify = Command::new("verify")
        .about("Check every byte of the data directory; nothing is changed")
        .override_usage("channelapi store verify [OPTIONS]")
        .args(common("Data directory to check [default: ./data]"))
        .after_help(VERIFY_EXAMPLES);
    let stats = Command::new("stats")
        .about("Sum up what is stored, and how much of the disk it takes")
        .override_usage("channelapi store stats [OPTIONS]")
        .args(common("Data directory to sum up [default: ./data]"));
    let backup = Command::new("backup")
        .about("Copy the data directory, also while a server runs on it")
        .override_usage("channelapi store backup [OPTIONS] DEST")
        .arg(destination)
        .args(common("Data directory to copy [default: ./data]"))
        .after_help(BACKUP_EXAMPLES);
    Command::new("store")
        .about("Look after the data directory of a server on this machine")
        .subcommand_required(true)
        .subcommands([verify, stats, backup])
}

const BACKUP_EXAMPLES: &str = "\
Examples:
  channelapi store backup /mnt/backup/monday
  channelapi store backup --data-dir /srv/push /mnt/backup/monday

The copy is complete or not there. It holds everything, secrets too, and is as private as the
original. To restore it, stop the server, put a copy of it in the place of the data directory, and
start again: clients that saw more than it holds are told so.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  channelapi store verify && echo sound
  channelapi store verify --data-dir /mnt/backup/monday -o json

It may run beside a server. The exit code is 1 if anything is damaged.";

/// Understands `store …`.
pub(super) fn store(
    verb: &str,
    levels: &[&ArgMatches],
    environment: Environment,
    search: &[PathBuf],
) -> Result<Store, Exit> {
    let config = configuration(levels, environment, search)?;
    let destination =
        levels.iter().find_map(|level| level.try_get_one::<PathBuf>("destination").ok().flatten());
    let verb = match verb {
        "verify" => Verb::Verify,
        "stats" => Verb::Stats(config.policies()),
        _ => Verb::Backup(destination.cloned().unwrap_or_default()),
    };
    Ok(Store { data_dir: config.data_dir, verb, output: output(levels)? })
}
