//! Reloading on SIGHUP: the configuration is read again, and what can change while the server runs changes.
//!
//! Invariants:
//! - Nothing changes unless all of the new configuration is right; what changed, and what waits for a restart, is said.
//! - A reload that fails, however it does, is not the last: the next SIGHUP begins another.

use crate::aside::aside;
use crate::config::Config;
use crate::config::jwt::{Issuer, KeySource};
use crate::config::policy::Policy;
use crate::config::secret::KeyHash;
use crate::config::source::{Setting, Source};
use crate::live::Live;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// How long a reload may take before that is told.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// Takes over what was prepared. It cannot fail.
pub(crate) type Change = Box<dyn FnOnce() + Send>;

/// A part of the server that can change its settings while it runs.
pub(crate) trait Part: Send + Sync {
    /// The options that it takes over from these settings, by their keys. One that ends with a dot is a whole section.
    fn options(&self, config: &Config) -> &'static [&'static str];

    /// Judges what the new settings say for it, and gets ready for them. Nothing must change yet: another part may refuse.
    fn prepare(&self, config: &Config) -> anyhow::Result<Change>;
}

/// Reads the configuration as at the start: everything that is wrong with it is in the text.
pub(crate) type Reread = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// A part whose settings are used as they are.
pub(crate) struct Used<T> {
    option: &'static [&'static str],
    value: Live<T>,
    pick: Pick<T>,
}

/// What of a configuration is used.
type Pick<T> = Box<dyn Fn(&Config) -> T + Send + Sync>;

impl<T: Send + Sync + 'static> Used<T> {
    pub(crate) fn part(
        option: &'static [&'static str],
        value: Live<T>,
        pick: impl Fn(&Config) -> T + Send + Sync + 'static,
    ) -> Box<dyn Part> {
        Box::new(Self { option, value, pick: Box::new(pick) })
    }
}

impl<T: Send + Sync + 'static> Part for Used<T> {
    fn options(&self, _: &Config) -> &'static [&'static str] {
        self.option
    }

    fn prepare(&self, config: &Config) -> anyhow::Result<Change> {
        let (value, new) = (self.value.clone(), (self.pick)(config));
        Ok(Box::new(move || value.replace(new)))
    }
}

/// The SIGHUPs that the process gets, from when this is made: before, one ends it.
pub(crate) struct Hangups(Signal);

/// Takes the signal from now on.
pub(crate) fn hangups() -> io::Result<Hangups> {
    signal(SignalKind::hangup()).map(Hangups)
}

/// Brings new settings to the parts of the server.
pub(crate) struct Reloader {
    reread: Reread,
    parts: Vec<Box<dyn Part>>,
    /// What is in effect: of the start, and of the last reload as far as parts took it over.
    effective: Vec<Setting>,
    policies: Vec<Vec<Setting>>,
    issuers: Vec<(Vec<Setting>, Option<KeyHash>)>,
    /// The configuration file, if there was one at the start.
    file: Option<PathBuf>,
    /// Whether anything of what is in effect is from a file.
    is_from_file: bool,
}

impl Reloader {
    /// A reloader for a server that runs with `config`.
    pub(crate) fn new(config: &Config, reread: Reread, parts: Vec<Box<dyn Part>>) -> Self {
        let (policies, issuers) = (settings_of_policies(config), settings_of_issuers(config));
        Self {
            reread,
            parts,
            effective: config.settings.clone(),
            policies,
            issuers,
            file: config.file.clone(),
            is_from_file: is_from_file(config),
        }
    }

    /// Reloads at each SIGHUP.
    pub(crate) async fn run(self, mut hangups: Hangups) {
        let shared = Arc::new(Mutex::new(self));
        while hangups.0.recv().await.is_some() {
            Self::reload_aside(&shared).await;
        }
    }

    /// Files are read, perhaps from a slow disk.
    async fn reload_aside(shared: &Arc<Mutex<Self>>) {
        let reloader = shared.clone();
        let why = match aside("reload", move || reloader.lock().reload()) {
            Ok(mut working) => {
                let in_time = tokio::time::timeout(READ_PATIENCE, &mut working).await;
                let ended = if let Ok(ended) = in_time {
                    ended
                } else {
                    warn!("reading the configuration takes long; does the disk answer that it is on?");
                    working.await
                };
                let Err(_) = ended else { return };
                "a bug ended it".to_owned()
            }
            Err(error) => format!("there is no thread for it: {error}"),
        };
        error!(why, "SIGHUP: reloading failed; the next SIGHUP tries again");
    }

    /// Takes over the configuration as it is now, or nothing of it.
    fn reload(&mut self) {
        info!("SIGHUP: reading the configuration again");
        match self.prepare() {
            Ok((config, changes)) => {
                for warning in &config.warnings {
                    warn!("{warning}");
                }
                for change in changes {
                    change();
                }
                self.tell(&config);
                self.is_from_file = is_from_file(&config);
                info!("the configuration is reloaded");
            }
            Err(problems) => {
                for problem in problems.trim_end().split_inclusive('\n') {
                    error!("{}", problem.trim_end());
                }
                error!("the configuration is not usable; everything stays as it was");
            }
        }
    }

    fn prepare(&self) -> Result<(Config, Vec<Change>), String> {
        if let Some(problem) = self.file.as_deref().and_then(unreadable) {
            return Err(problem);
        }
        let config = (self.reread)()?;
        if self.is_from_file && !is_from_file(&config) {
            return Err(emptied(&config));
        }
        let changes = self.parts.iter().map(|part| part.prepare(&config)).collect::<Result<_, _>>();
        let changes = changes.map_err(|error| format!("error: {error:#}"))?;
        Ok((config, changes))
    }

    /// Says what is different now, and what will be after a restart.
    fn tell(&mut self, config: &Config) {
        let options: BTreeSet<_> = self.parts.iter().flat_map(|part| part.options(config)).collect();
        let is_taken_over = |key: &str| {
            options
                .iter()
                .any(|option| *option == &key || (option.ends_with('.') && key.starts_with(*option)))
        };
        for (old, new) in self.effective.iter_mut().zip(&config.settings) {
            if old.value == new.value {
                continue;
            }
            let (option, before, now) = (new.key, &old.value, &new.value);
            if is_taken_over(new.key) {
                info!(option, before, now, "an option has changed");
                *old = new.clone();
            } else {
                warn!(
                    option,
                    in_effect = before,
                    configured = now,
                    "an option has changed and needs a restart"
                );
            }
        }
        if settings_of_policies(config) != self.policies {
            warn!(option = "policy", "the policies have changed and need a restart");
        }
        let issuers = settings_of_issuers(config);
        if issuers != self.issuers {
            info!(option = "jwt", "the issuers of JWTs have changed");
            self.issuers = issuers;
        }
    }
}

/// Why a configuration file is not even opened, which is said as `config/file.rs` would: what has taken its place might be waited for for
/// ever. A directory, and what is not there, is left to be said there.
fn unreadable(file: &Path) -> Option<String> {
    let found = fs::metadata(file).ok()?;
    // That is how some say that there shall be no file.
    let is_null = || fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == found.rdev());
    if found.is_file() || found.is_dir() || (found.rdev() != 0 && is_null()) {
        return None;
    }
    Some(format!(
        "error: cannot read the configuration file {}: it is a pipe or a device, which is read at the start alone; put a file in its place, or restart",
        file.display()
    ))
}

/// Whether a file says anything in this configuration that counts.
fn is_from_file(config: &Config) -> bool {
    let is_setting = config.settings.iter().any(|setting| matches!(setting.source, Source::File { .. }));
    is_setting || !(config.policy.is_empty() && config.auth_keys.is_empty() && config.jwt.is_empty())
}

/// What to say of a file that says nothing any more: a full disk, or an editor that is not done yet, is likelier than a server that shall have no
/// keys.
fn emptied(config: &Config) -> String {
    let what = match &config.file {
        Some(file) => format!("the configuration file {} is empty now", file.display()),
        None => "the configuration file is gone".to_owned(),
    };
    format!("error: {what}; if that is meant, restart")
}

/// What the policies say, without where they say it.
fn settings_of_policies(config: &Config) -> Vec<Vec<Setting>> {
    let of_one = |policy: &Policy| without_places(&policy.settings);
    config.policy.iter().map(of_one).collect()
}

/// What the issuers of JWTs are by the configuration. Settings do not show a secret; its hash tells it from another.
fn settings_of_issuers(config: &Config) -> Vec<(Vec<Setting>, Option<KeyHash>)> {
    let of_one = |issuer: &Issuer| match &issuer.keys {
        KeySource::Secret(secret) => (without_places(&issuer.settings), Some(secret.hash())),
        _ => (without_places(&issuer.settings), None),
    };
    config.jwt.iter().map(of_one).collect()
}

fn without_places(settings: &[Setting]) -> Vec<Setting> {
    let without_place = |setting: &Setting| Setting { source: Source::Default, ..setting.clone() };
    settings.iter().map(without_place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env;
    use crate::config::origins::Origins;

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        crate::config::load(vec![], None, env::load(variables), &[])
            .map_err(|rejected| rejected.problems[0].to_string())
    }

    /// A part that refuses on demand.
    struct Fussy(&'static [&'static str], Option<&'static str>);

    impl Part for Fussy {
        fn options(&self, _: &Config) -> &'static [&'static str] {
            self.0
        }

        fn prepare(&self, _: &Config) -> anyhow::Result<Change> {
            match self.1 {
                Some(why) => Err(anyhow::anyhow!(why).context("it cannot be used")),
                None => Ok(Box::new(|| {})),
            }
        }
    }

    type Variables = Arc<Mutex<Vec<(&'static str, &'static str)>>>;

    fn reloader(origins: &Live<Origins>, other: Fussy) -> (Reloader, Variables) {
        let variables = Variables::default();
        let now = variables.clone();
        let used =
            Used::part(&["http.cors_origins"], origins.clone(), |config| config.http.cors_origins.clone());
        let reread: Reread = Box::new(move || config(&now.lock()));
        (Reloader::new(&config(&[]).unwrap(), reread, vec![used, Box::new(other)]), variables)
    }

    fn value<'a>(reloader: &'a Reloader, key: &str) -> &'a str {
        &reloader.effective.iter().find(|setting| setting.key == key).unwrap().value
    }

    #[test]
    fn what_can_change_changes_and_the_rest_waits() {
        let origins = Live::new(Origins::Any);
        let (mut reloader, variables) = reloader(&origins, Fussy(&["log."], None));
        *variables.lock() = vec![
            ("CHANNELAPI_HTTP_CORS_ORIGINS", "https://a.example"),
            ("CHANNELAPI_LOG_LEVEL", "warn"),
            ("CHANNELAPI_PORT", "1"),
        ];
        reloader.reload();
        assert!(!origins.load().allows(b"https://b.example"));
        assert_eq!(value(&reloader, "http.cors_origins"), "https://a.example");
        assert_eq!(value(&reloader, "log.level"), "warn");
        assert_eq!(value(&reloader, "port"), "8888", "it is still the port that we listen on");
    }

    #[test]
    fn one_mistake_anywhere_keeps_everything_as_it_was() {
        let origins = Live::new(Origins::Any);
        let (mut reloader, variables) = reloader(&origins, Fussy(&[], None));
        *variables.lock() =
            vec![("CHANNELAPI_HTTP_CORS_ORIGINS", "https://a.example"), ("CHANNELAPI_PORT", "x")];
        reloader.reload();
        assert_eq!(**origins.load(), Origins::Any);

        let (mut reloader, variables) = self::reloader(&origins, Fussy(&[], Some("no")));
        *variables.lock() = vec![("CHANNELAPI_HTTP_CORS_ORIGINS", "https://a.example")];
        reloader.reload();
        assert_eq!(**origins.load(), Origins::Any, "a part refused, so no other may change");
        assert_eq!(value(&reloader, "http.cors_origins"), "*");
        let told = reloader.prepare().err();
        assert_eq!(told.as_deref(), Some("error: it cannot be used: no"), "with the whole reason");
    }

    #[test]
    fn an_issuer_with_another_secret_has_changed_and_one_in_another_line_has_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let issuers = |text: &str| {
            fs::write(&path, text).unwrap();
            settings_of_issuers(&config(&[("CHANNELAPI_CONFIG", path.to_str().unwrap())]).unwrap())
        };
        let first = issuers("[[jwt]]\nsecret = 'one of 32 bytes or more, as it must be'");
        assert_eq!(issuers("port = 1\n[[jwt]]\nsecret = 'one of 32 bytes or more, as it must be'"), first);
        assert_ne!(issuers("[[jwt]]\nsecret = 'another of 32 bytes or more, of course'"), first);
        assert_ne!(issuers("[[jwt]]\nsecret_file = 'secret'"), first);
        assert_ne!(issuers(""), first);
    }

    /// Once, reloading was over for good after one that a bug ended, or that the system had no thread for.
    #[tokio::test]
    async fn a_reload_that_a_bug_ends_is_not_the_last() {
        let origins = Live::new(Origins::Any);
        let (reloader, variables) = reloader(&origins, Fussy(&[], None));
        let (has_bug, read) = (Arc::new(Mutex::new(true)), reloader.reread);
        let broken = has_bug.clone();
        let reread: Reread = Box::new(move || {
            assert!(!*broken.lock(), "on purpose");
            read()
        });
        let shared = Arc::new(Mutex::new(Reloader { reread, ..reloader }));
        *variables.lock() = vec![("CHANNELAPI_HTTP_CORS_ORIGINS", "https://a.example")];
        Reloader::reload_aside(&shared).await;
        assert_eq!(**origins.load(), Origins::Any);
        *has_bug.lock() = false;
        Reloader::reload_aside(&shared).await;
        assert!(!origins.load().allows(b"https://b.example"));
    }

    /// What a reload of a server says that runs with one text in its file and finds another.
    fn reloaded(before: &str, now: impl FnOnce(&Path)) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        fs::write(&path, before).unwrap();
        let reread = {
            let path = path.clone();
            move || config(&[("CHANNELAPI_CONFIG", path.to_str().unwrap())])
        };
        let reloader = Reloader::new(&reread().unwrap(), Box::new(reread), Vec::new());
        now(&path);
        reloader.prepare().err()
    }

    /// Once, a file that was emptied was taken for a wish: all keys and issuers were gone.
    #[test]
    fn a_file_that_says_nothing_any_more_changes_nothing() {
        let key = "[[auth_keys]]\nname = 'a'\nkey_file = 'a.key'\nscopes = ['publish']\n";
        let issuer = "[[jwt]]\nsecret = 'one of 32 bytes or more, as it must be'\n";
        for before in ["port = 1\n", key, issuer, "[limits]\nevent_rate = 7\n"] {
            for now in ["", "\n \n", "# nothing\n", "[limits]\n"] {
                let refused = reloaded(before, |path| fs::write(path, now).unwrap()).unwrap_or_default();
                let told = "c.toml is empty now; if that is meant, restart";
                assert!(refused.starts_with("error: the configuration file /") && refused.ends_with(told));
            }
            assert_eq!(reloaded(before, |path| fs::write(path, "port = 2").unwrap()), None);
        }
        assert_eq!(reloaded("# nothing", |path| fs::write(path, "").unwrap()), None, "as it was");
    }

    /// Once, all later reloads waited for somebody who writes to the pipe.
    #[test]
    fn a_pipe_in_the_place_of_the_file_is_refused() {
        let refused = reloaded("port = 1", |path| {
            fs::remove_file(path).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        });
        let refused = refused.unwrap_or_default();
        assert!(refused.contains("c.toml: it is a pipe or a device"), "{refused}");
        let (is_refused, missing) = (|path: &str| unreadable(Path::new(path)).is_some(), "/nowhere.toml");
        assert!(is_refused("/dev/zero"));
        assert!(["/dev/null", "/dev", missing].iter().all(|path| !is_refused(path)), "said elsewhere");
        let refused = reloaded("port = 1", |path| fs::remove_file(path).unwrap()).unwrap_or_default();
        assert!(refused.contains("No such file"), "{refused}");
    }
}
