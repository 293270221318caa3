//! The settings that a command line results in, and the verbs that show them.

use std::{fmt::Write, path::PathBuf, time::SystemTime};

use clap::ArgMatches;

use super::Exit;
use super::arguments::{VERBS, is_given, values};
use crate::config::{
    self, Config, Rejected, env, keys,
    options::{OPTIONS, Spec, spec},
    pages,
    source::{Given, Problem, Source},
    tornado,
};
use crate::custody;
use crate::jwt;
use crate::tls::{AcmeSettings, PairFiles};

pub(super) fn check(config: &Config) -> Result<String, Exit> {
    let mut text = warnings(&config.warnings);
    match keys::check(config, keys::Reach::of(config)) {
        Ok(checked) => {
            text += &warnings(&checked.warnings);
            if checked.will_generate {
                let path = keys::key_file(&config.data_dir).display().to_string();
                let _ = writeln!(text, "no auth key is set; the first start will generate one in {path}");
            }
        }
        Err(error) => return Err(Exit::unusable(format!("{text}error: {error}\n"))),
    }
    text += &warnings(&custody::warnings(&config.data_dir));
    if let Some(obstacle) = custody::obstacle(&config.data_dir) {
        text += &warnings(&[format!("data_dir: {obstacle}; a start by this user would fail")]);
    }
    if let (Some(certificate), Some(key)) = (&config.tls.cert, &config.tls.key) {
        let files = PairFiles { certificate: certificate.0.clone(), key: key.0.clone() };
        match files.load(SystemTime::now()) {
            Ok(pair) => text += &warnings(&pair.warnings),
            Err(error) => return Err(Exit::unusable(format!("{text}error: {error}\n"))),
        }
    }
    if config.acme.domains.is_some()
        && let Some(file) = &config.acme.ca_file
        && let Err(error) = AcmeSettings::check_ca_file(&file.0)
    {
        return Err(Exit::unusable(format!("{text}error: {error:#}\n")));
    }
    if let Err(error) = jwt::check(&config.jwt) {
        return Err(Exit::unusable(format!("{text}error: {error}\n")));
    }
    let file = config.file.as_ref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
    let _ = writeln!(text, "configuration is valid ({file})");
    Ok(text)
}

pub(super) fn show(config: &Config) -> String {
    warnings(&config.warnings) + &pages::effective(config)
}

fn warnings(warnings: &[String]) -> String {
    warnings.iter().fold(String::new(), |text, warning| text + "warning: " + warning + "\n")
}

/// What is wrong with a secret in a flag.
pub(super) const EXPOSED: &str =
    "on the command line can be read by every user of this machine in the list of processes";

/// What is said of nothing where something was typed: mostly, a shell put it there.
pub(super) const EMPTY: &str = "it is empty; is the variable set that it is from?";

/// Merges the flags with everything else.
pub(super) fn configuration(
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
        heard.push(format!("{flag} {EXPOSED}; use {variable}_FILE or {variable} instead"));
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
    // The verbs that talk to a server have a shorter name for its key.
    let is_client =
        levels.iter().filter_map(|level| level.subcommand_name()).any(|verb| VERBS.contains(&verb));
    let name = if spec.secret && is_client { "key".to_owned() } else { spec.flag() };
    let source = Source::Flag(format!("--{name}"));
    let texts: Option<Vec<&str>> = values.iter().map(|value| value.to_str()).collect();
    Some(match texts {
        Some(texts) if spec.secret && texts == [""] => Err(Problem::at(source, EMPTY)),
        Some(texts) => Ok(Given { spec, text: texts.join(","), source }),
        None => Err(Problem::at(source, "the value is not UTF-8 text")),
    })
}
