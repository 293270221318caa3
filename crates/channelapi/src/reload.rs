//! Reloading on SIGHUP: the configuration is read again, and what can change while the server runs changes.
//!
//! Invariants: nothing changes unless all of the new configuration is right; what changed, and what waits for a restart, is said.

use crate::config::Config;
use crate::config::jwt::{Issuer, KeySource};
use crate::config::policy::Policy;
use crate::config::secret::KeyHash;
use crate::config::source::{Setting, Source};
use crate::live::Live;
use std::collections::BTreeSet;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

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
}

impl Reloader {
    /// A reloader for a server that runs with `config`.
    pub(crate) fn new(config: &Config, reread: Reread, parts: Vec<Box<dyn Part>>) -> Self {
        let (policies, issuers) = (settings_of_policies(config), settings_of_issuers(config));
        Self { reread, parts, effective: config.settings.clone(), policies, issuers }
    }

    /// Reloads at each SIGHUP.
    pub(crate) async fn run(mut self, mut hangups: Hangups) {
        while hangups.0.recv().await.is_some() {
            // Files are read, perhaps from a slow disk.
            let working = tokio::task::spawn_blocking(move || {
                self.reload();
                self
            });
            self = match working.await {
                Ok(reloader) => reloader,
                Err(error) => return error!(%error, "reloading failed, and does not work any more"),
            };
        }
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
        let config = (self.reread)()?;
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
    use parking_lot::Mutex;
    use std::sync::Arc;

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
            std::fs::write(&path, text).unwrap();
            settings_of_issuers(&config(&[("CHANNELAPI_CONFIG", path.to_str().unwrap())]).unwrap())
        };
        let first = issuers("[[jwt]]\nsecret = 'one of 32 bytes or more, as it must be'");
        assert_eq!(issuers("port = 1\n[[jwt]]\nsecret = 'one of 32 bytes or more, as it must be'"), first);
        assert_ne!(issuers("[[jwt]]\nsecret = 'another of 32 bytes or more, of course'"), first);
        assert_ne!(issuers("[[jwt]]\nsecret_file = 'secret'"), first);
        assert_ne!(issuers(""), first);
    }
}
