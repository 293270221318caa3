//! The environment: `CHANNELAPI_*`, the `_FILE` twins of secrets, and plain `PORT`.
//!
//! A variable that is set but empty counts as not set, because that is how `${NAME:-}` in a compose file says "no
//! value"; only an empty secret is refused, as there it would quietly weaken the server.

use std::{
    collections::BTreeMap, ffi::OsString, io::ErrorKind, os::unix::fs::PermissionsExt as _, path::Path,
};

use crate::small_file;
use channelapi_core::limits::SECRET_FILE_BYTES_MAX;

use super::{
    nearest::did_you_mean,
    options::{AUTH_KEYS, JWT, OPTIONS, POLICY, Spec, spec},
    source::{Given, Problem, Source},
};

/// Names the configuration file, as `--config` does.
pub const CONFIG_VARIABLE: &str = "CHANNELAPI_CONFIG";

/// Names the server that `publish` and `subscribe` talk to, as `--server` does.
pub const URL_VARIABLE: &str = "CHANNELAPI_URL";

const PREFIX: &str = "CHANNELAPI_";

/// What the environment said.
#[derive(Default)]
pub struct Environment {
    /// The configuration file it names.
    pub config: Option<OsString>,
    /// The server it names, for the verbs that talk to one.
    pub url: Option<OsString>,
    /// The values in it.
    pub given: Vec<Given>,
    /// What is impossible about it.
    pub problems: Vec<Problem>,
    /// What looks like a mistake in it.
    pub warnings: Vec<String>,
}

/// Picks our variables out of all.
pub fn load(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
    let mut environment = Environment::default();
    let mut ours: BTreeMap<String, OsString> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX) || name == "PORT")
        .collect();

    environment.config = ours.remove(CONFIG_VARIABLE).filter(|path| !path.is_empty());
    environment.url = ours.remove(URL_VARIABLE).filter(|url| !url.is_empty());
    let platform_port = ours.remove("PORT").filter(|port| !port.is_empty());
    for spec in OPTIONS {
        environment.option(spec, &mut ours);
    }
    let port_is_set = environment.given.iter().any(|given| given.spec.key == "port");
    if let Some(port) = platform_port.filter(|_| !port_is_set) {
        environment.text(spec("port"), "PORT", port);
    }
    let unknown: Vec<&String> = ours.keys().filter(|name| !set_by_kubernetes(name)).collect();
    environment.warnings.extend(unknown.into_iter().map(|name| unknown_variable(name)));
    environment
}

impl Environment {
    fn option(&mut self, spec: &'static Spec, ours: &mut BTreeMap<String, OsString>) {
        let name = spec.variable();
        let value = ours.remove(&name);
        let path = spec.file_variable().and_then(|name| Some((ours.remove(&name)?, name)));
        match (value, path) {
            (Some(_), Some((_, twin))) => {
                let message = format!("{name} and {twin} are both set; remove one of them");
                self.problems.push(Problem::of(message));
            }
            (Some(value), None) => self.text(spec, &name, value),
            (None, Some((path, twin))) => match read_secret(&path) {
                Ok((text, warning)) => {
                    self.warnings.extend(warning);
                    self.given.push(Given { spec, text, source: Source::Variable(twin) });
                }
                Err(why) => self.problems.push(Problem::at(Source::Variable(twin), why)),
            },
            (None, None) => {}
        }
    }

    fn text(&mut self, spec: &'static Spec, name: &str, value: OsString) {
        let source = Source::Variable(name.to_owned());
        let Ok(text) = value.into_string() else {
            return self.problems.push(Problem::at(source, "the value is not UTF-8 text"));
        };
        if text.is_empty() && !spec.secret {
            self.warnings.push(format!("{name} is set but empty, which counts as not set"));
        } else if set_to_a_service(spec, &text) {
            self.warnings.push(format!(
                "{name} is `{text}`, which Kubernetes sets for a service of that name; it is ignored \
                 (set `enableServiceLinks: false` in the pod to be rid of it)"
            ));
        } else {
            self.given.push(Given { spec, text, source });
        }
    }
}

/// The content of a secret's file, and what is to be said of it. Editors and `echo` end it with a newline that is not part of the secret.
fn read_secret(path: &OsString) -> Result<(String, Option<String>), String> {
    if path.is_empty() {
        return Err("the variable is empty; name a file that holds the key, or remove it".to_owned());
    }
    let shown = path.display();
    let (bytes, metadata) =
        small_file::read(Path::new(path), SECRET_FILE_BYTES_MAX).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => format!("the file {shown} is larger than 64 KiB, which is no key"),
            kind => format!("cannot read the file {shown}: {error}{}", advice(kind)),
        })?;
    let mode = metadata.permissions().mode();
    let text = String::from_utf8(bytes).map_err(|_| format!("the file {shown} is not UTF-8 text"))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(format!("the file {shown} is empty; write the key into it")),
        // Where it is mounted for a group of which the server is one, that is as it should be.
        secret if mode & 0o004 == 0 => Ok((secret.to_owned(), None)),
        secret => {
            let warning =
                format!("every user of this machine may read the key in {shown}; run `chmod 640 {shown}`");
            Ok((secret.to_owned(), Some(warning)))
        }
    }
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "; check the path and that the secret is mounted",
        ErrorKind::PermissionDenied => "; let the user that runs channelapi read it",
        _ => "",
    }
}

/// For a service called `channelapi`, Kubernetes puts `CHANNELAPI_PORT=tcp://10.0.0.1:8888` into every pod.
fn set_to_a_service(spec: &Spec, text: &str) -> bool {
    spec.placeholder == "PORT"
        && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}

/// … along with `CHANNELAPI_SERVICE_HOST`, `CHANNELAPI_PORT_8888_TCP_ADDR` and more of the kind.
fn set_by_kubernetes(name: &str) -> bool {
    let mut words = name.split('_').skip_while(|word| *word != "SERVICE" && *word != "PORT");
    match (words.next(), words.next()) {
        (Some("SERVICE"), Some(what)) => what == "HOST" || what == "PORT",
        (Some("PORT"), Some(number)) => number.parse::<u16>().is_ok(),
        _ => false,
    }
}

fn unknown_variable(name: &str) -> String {
    if OPTIONS.iter().any(|spec| format!("{}_FILE", spec.variable()) == name) {
        return format!("unknown variable {name} is ignored; only secrets can be read from a file");
    }
    if name.trim_start_matches(PREFIX).starts_with(&JWT.to_ascii_uppercase()) {
        return format!(
            "unknown variable {name} is ignored; issuers of JWTs are written in the file, below [[{JWT}]]; a secret can be in a \
             `secret_file`"
        );
    }
    if name.trim_start_matches(PREFIX).starts_with(&AUTH_KEYS.to_ascii_uppercase()) {
        return format!(
            "unknown variable {name} is ignored; a list of keys is written in the file, below [[{AUTH_KEYS}]]"
        );
    }
    if name.trim_start_matches(PREFIX).starts_with(&POLICY.to_ascii_uppercase()) {
        return format!(
            "unknown variable {name} is ignored; policies are written in the file, below [[policy]]"
        );
    }
    let known: Vec<String> = OPTIONS
        .iter()
        .flat_map(|spec| [Some(spec.variable()), spec.file_variable()])
        .flatten()
        .chain([CONFIG_VARIABLE, URL_VARIABLE].map(str::to_owned))
        .collect();
    // Compared without the prefix, which would make everything look alike.
    let bare = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let candidates: Vec<String> = known.iter().map(|name| bare(name)).collect();
    let guess = did_you_mean(&bare(name), candidates.iter().map(String::as_str));
    let guess = guess.replace('`', "").replace("mean ", &format!("mean {PREFIX}"));
    format!("unknown variable {name} is ignored{guess}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        load(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[track_caller]
    fn reads(variables: &[(&str, &str)], expected: &[(&str, &str, &str)]) {
        let environment = environment(variables);
        assert_eq!(environment.problems, []);
        let given: Vec<_> = environment
            .given
            .iter()
            .map(|given| (given.spec.key, given.text.as_str(), given.source.to_string()))
            .collect();
        let given: Vec<_> = given.iter().map(|(key, text, source)| (*key, *text, source.as_str())).collect();
        assert_eq!(given, expected);
    }

    #[track_caller]
    fn warns(variables: &[(&str, &str)], expected: &str) {
        assert_eq!(environment(variables).warnings, [expected]);
    }

    #[track_caller]
    fn refuses(variables: &[(&str, &str)], part: &str) {
        let problems = environment(variables).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains(part), "{problems:?}");
    }

    #[test]
    fn every_option_has_its_variable() {
        for spec in OPTIONS {
            reads(&[(&spec.variable(), "1")], &[(spec.key, "1", &spec.variable())]);
        }
        assert_eq!(environment(&[("CHANNELAPI_CONFIG", "x.toml")]).config, Some("x.toml".into()));
        assert_eq!(environment(&[("CHANNELAPI_URL", "http://a")]).url, Some("http://a".into()));
    }

    #[test]
    fn other_programs_variables_are_none_of_our_business() {
        reads(&[("PATH", "/bin"), ("REDIS_HOST", "x"), ("channelapi_port", "1")], &[]);
        assert!(environment(&[("PATH", "/bin"), ("MY_CHANNELAPI_PORT", "1")]).warnings.is_empty());
    }

    #[test]
    fn plain_port_is_used_when_ours_is_not_set() {
        reads(&[("PORT", "5000")], &[("port", "5000", "PORT")]);
        reads(&[("PORT", "5000"), ("CHANNELAPI_PORT", "80")], &[("port", "80", "CHANNELAPI_PORT")]);
        reads(&[("PORT", "5000"), ("CHANNELAPI_PORT", "")], &[("port", "5000", "PORT")]);
        reads(&[("PORT", "")], &[]);
    }

    #[test]
    fn slips_are_noticed() {
        warns(
            &[("CHANNELAPI_REDIS_HSOT", "x")],
            "unknown variable CHANNELAPI_REDIS_HSOT is ignored; did you mean CHANNELAPI_REDIS_HOST?",
        );
        warns(
            &[("CHANNELAPI_CORS_ORIGINS", "*")],
            "unknown variable CHANNELAPI_CORS_ORIGINS is ignored; did you mean CHANNELAPI_HTTP_CORS_ORIGINS?",
        );
        warns(
            &[("CHANNELAPI_PORT_FILE", "x")],
            "unknown variable CHANNELAPI_PORT_FILE is ignored; only secrets can be read from a file",
        );
        warns(
            &[("CHANNELAPI_POLICY_MATCH", "user-*")],
            "unknown variable CHANNELAPI_POLICY_MATCH is ignored; policies are written in the file, below [[policy]]",
        );
        warns(&[("CHANNELAPI_QQQ", "x")], "unknown variable CHANNELAPI_QQQ is ignored");
        warns(
            &[("CHANNELAPI_LOG_LEVEL", "")],
            "CHANNELAPI_LOG_LEVEL is set but empty, which counts as not set",
        );
    }

    #[test]
    fn a_kubernetes_service_of_our_name_does_no_harm() {
        let variables = [
            ("CHANNELAPI_PORT", "tcp://10.0.0.1:8888"),
            ("CHANNELAPI_SERVICE_HOST", "10.0.0.1"),
            ("CHANNELAPI_SERVICE_PORT", "8888"),
            ("CHANNELAPI_SERVICE_PORT_HTTP", "8888"),
            ("CHANNELAPI_PORT_8888_TCP", "tcp://10.0.0.1:8888"),
            ("CHANNELAPI_PORT_8888_TCP_ADDR", "10.0.0.1"),
        ];
        reads(&variables, &[]);
        let warnings = environment(&variables).warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("enableServiceLinks"), "{warnings:?}");
    }

    #[test]
    fn a_secret_can_come_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for (content, secret) in [("k3y", "k3y"), ("k3y\n", "k3y"), ("k3y\r\n", "k3y"), (" k3y \n", " k3y ")]
        {
            fs::write(&path, content).unwrap();
            let variables = [("CHANNELAPI_AUTH_KEY_FILE", path.to_str().unwrap())];
            reads(&variables, &[("auth_key", secret, "CHANNELAPI_AUTH_KEY_FILE")]);
        }
    }

    #[test]
    fn a_secret_file_that_everybody_may_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "k3y").unwrap();
        for (mode, is_told) in [(0o600, false), (0o440, false), (0o444, true), (0o644, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let warnings = environment(&[("CHANNELAPI_AUTH_KEY_FILE", path.to_str().unwrap())]).warnings;
            let told = warnings
                .iter()
                .filter(|warning| warning.contains("every user of this machine may read the key in "));
            assert_eq!(told.count() == 1, is_told, "{mode:o}: {warnings:?}");
        }
    }

    #[test]
    fn a_secret_file_that_cannot_be_used_is_named_with_its_variable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let name = path.to_str().unwrap();
        let variables = [("CHANNELAPI_AUTH_KEY_FILE", name)];
        refuses(&variables, &format!("CHANNELAPI_AUTH_KEY_FILE: cannot read the file {name}: No such file"));
        refuses(&variables, "check the path and that the secret is mounted");
        fs::write(&path, "\n").unwrap();
        refuses(
            &variables,
            &format!("CHANNELAPI_AUTH_KEY_FILE: the file {name} is empty; write the key into it"),
        );
        fs::write(&path, [0xff]).unwrap();
        refuses(&variables, "is not UTF-8");
        fs::write(&path, vec![b'x'; 65_537]).unwrap();
        refuses(&variables, "larger than 64 KiB");
        refuses(&[("CHANNELAPI_AUTH_KEY_FILE", dir.path().to_str().unwrap())], "cannot read the file");
        refuses(&[("CHANNELAPI_AUTH_KEY_FILE", "")], "the variable is empty");
    }

    #[test]
    fn a_secret_given_twice_is_refused() {
        let variables = [("CHANNELAPI_AUTH_KEY", "a"), ("CHANNELAPI_AUTH_KEY_FILE", "/nowhere")];
        refuses(
            &variables,
            "CHANNELAPI_AUTH_KEY and CHANNELAPI_AUTH_KEY_FILE are both set; remove one of them",
        );
    }

    #[test]
    fn an_empty_secret_reaches_the_check_that_refuses_it() {
        reads(&[("CHANNELAPI_AUTH_KEY", "")], &[("auth_key", "", "CHANNELAPI_AUTH_KEY")]);
    }
}
