//! Configuration: flags, then the environment, then a TOML file, then defaults.
//!
//! [`options`] is the one place where an option is written down. Nothing here touches global state or ends the
//! process: what the caller should print or log comes back as data.

pub mod acme;
pub mod auth_keys;
mod broker;
mod contents;
mod document;
pub mod env;
pub mod file;
pub mod jwt;
pub mod keys;
mod listening;
mod lists;
pub mod moment;
pub mod nearest;
pub mod options;
pub mod origins;
pub mod pages;
pub mod pattern;
pub mod policy;
pub mod proxies;
pub mod scope;
pub mod secret;
pub mod source;
mod syntax;
pub mod tornado;
pub mod units;
pub mod value;

use std::path::{Path, PathBuf};

pub use self::options::Config;
use self::{
    env::Environment,
    source::{Given, Problem, Resolver, Source},
    value::{LogFormat, LogLevel},
};

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct Rejected {
    /// Why; never empty.
    pub problems: Vec<Problem>,
    /// What else looked wrong; often the cause.
    pub warnings: Vec<String>,
}

/// Merges what was given everywhere and checks all of it.
pub fn load(
    flags: Vec<Given>,
    named: Option<&Path>,
    environment: Environment,
    search: &[PathBuf],
) -> Result<Config, Rejected> {
    let named = named.map(Path::to_owned).or_else(|| environment.config.map(PathBuf::from));
    let file = file::load(named.as_deref(), search);

    let given: Vec<Given> = [flags, environment.given, file.given].concat();
    let mut values = Resolver::new(&given);
    let mut config = Config::resolve(&mut values);

    config.settings = values.settings;
    let policies = lists::policy::resolve(&file.policies, &config);
    let auth_keys = lists::auth_keys::resolve(&file.auth_keys);
    let jwt = lists::jwt::resolve(&file.issuers);

    let warnings = [environment.warnings, file.warnings, jwt.warnings, policies.warnings].concat();
    let of_lists = [auth_keys.problems, jwt.problems, policies.problems].concat();
    let mut problems = [file.problems, environment.problems, values.problems, of_lists].concat();
    problems.extend(listening::problems(&config));
    if !problems.is_empty() {
        problems.sort();
        return Err(Rejected { problems, warnings });
    }
    config.file = file.path;
    config.distrusted = file.distrusted;
    config.warnings = warnings;
    config.policy = policies.policies;
    config.auth_keys = auth_keys.keys;
    config.jwt = jwt.issuers;
    config.imply();
    Ok(config)
}

impl Config {
    /// What one option means for others that were left alone.
    fn imply(&mut self) {
        if self.debug && self.claim("log.level", LogLevel::Debug.as_str()) {
            self.log.level = LogLevel::Debug;
        }
        if self.debug && self.claim("log.format", LogFormat::Pretty.as_str()) {
            self.log.format = LogFormat::Pretty;
        }
    }

    /// Records a value implied by `debug`, unless somebody chose another.
    fn claim(&mut self, key: &str, value: &str) -> bool {
        let untouched =
            self.settings.iter_mut().find(|setting| setting.key == key && setting.source == Source::Default);
        let Some(setting) = untouched else { return false };
        value.clone_into(&mut setting.value);
        setting.source = Source::Implied("debug");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{options::spec, *};

    fn flag(key: &str, text: &str) -> Given {
        let spec = spec(key);
        Given { spec, text: text.to_owned(), source: Source::Flag(format!("--{}", spec.flag())) }
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        env::load(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn source_of(config: &Config, key: &str) -> String {
        config.settings.iter().find(|setting| setting.key == key).unwrap().source.to_string()
    }

    #[test]
    fn flags_beat_variables_beat_the_file_beats_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "port = 3\naddress = '127.0.0.3'\ndata_dir = '/three'\n").unwrap();
        let variables = [("CHANNELAPI_PORT", "2"), ("CHANNELAPI_ADDRESS", "127.0.0.2")];

        let config = load(vec![flag("port", "1")], Some(&path), environment(&variables), &[]).unwrap();
        assert_eq!(config.port, 1);
        assert_eq!(config.address.to_string(), "127.0.0.2");
        assert_eq!(config.data_dir.to_str(), Some("/three"));
        assert_eq!(config.log.level, LogLevel::Info);
        assert_eq!(config.file.as_deref(), Some(path.as_path()));
        for (key, source) in [
            ("port", "--port".to_owned()),
            ("address", "CHANNELAPI_ADDRESS".to_owned()),
            ("data_dir", format!("{}:3", path.display())),
            ("log.level", "default".to_owned()),
        ] {
            assert_eq!(source_of(&config, key), source);
        }
    }

    #[test]
    fn the_file_named_by_the_flag_beats_the_one_named_by_the_variable() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1.toml"), dir.path().join("2.toml"));
        std::fs::write(&one, "port = 1").unwrap();
        std::fs::write(&two, "port = 2").unwrap();
        let variables = [("CHANNELAPI_CONFIG", one.to_str().unwrap())];
        let port = |named: Option<&Path>| load(vec![], named, environment(&variables), &[]).unwrap().port;
        assert_eq!((port(None), port(Some(&two))), (1, 2));
    }

    #[test]
    fn problems_of_all_places_are_reported_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "prot = 3\nport = 70000\n").unwrap();
        let variables = [("CHANNELAPI_DEBUG", "maybe"), ("CHANNELAPI_PROT", "1")];

        let rejected =
            load(vec![flag("address", "x")], Some(&path), environment(&variables), &[]).unwrap_err();
        let printed: Vec<String> = rejected.problems.iter().map(ToString::to_string).collect();
        let path = path.display();
        assert_eq!(printed.len(), 4, "{printed:#?}");
        for (problem, start) in printed.iter().zip([
            format!("{path}:1:1: unknown key `prot`"),
            format!("{path}:2:8: port: `70000` is not a port number"),
            "CHANNELAPI_DEBUG: `maybe` is not yes or no".to_owned(),
            "--address: `x` is not an IP address".to_owned(),
        ]) {
            assert!(problem.starts_with(&start), "{problem} / {start}");
        }
        assert_eq!(rejected.warnings.len(), 1);
    }

    #[test]
    fn debug_makes_logs_readable_unless_they_were_chosen() {
        let config = load(vec![flag("debug", "true")], None, environment(&[]), &[]).unwrap();
        assert_eq!((config.log.level, config.log.format), (LogLevel::Debug, LogFormat::Pretty));
        assert_eq!(source_of(&config, "log.level"), "because of debug");

        let chosen = [("CHANNELAPI_LOG_LEVEL", "info"), ("CHANNELAPI_LOG_FORMAT", "auto")];
        let config = load(vec![flag("debug", "true")], None, environment(&chosen), &[]).unwrap();
        assert_eq!((config.log.level, config.log.format), (LogLevel::Info, LogFormat::Auto));
    }

    #[test]
    fn nothing_of_a_configuration_prints_its_secret() {
        let config =
            load(vec![flag("auth_key", "hunter2hunter2hunter2")], None, environment(&[]), &[]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(config.auth_key.unwrap().matches(b"hunter2hunter2hunter2"));
    }
}
