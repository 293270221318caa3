//! Where the certificate comes from, and how that changes while the server runs.
//!
//! Invariants:
//! - One source at a time looks after the certificate: `keep_up` gives up the one before, wherever it is, before the next begins.
//! - A change takes the certificate from nobody: the one that is shown stays until the new source has one.

use super::acme::{Acme, AcmeSettings};
use super::certificates::{Certificates, WatchedFiles};
use super::pair::PairFiles;
use super::proofs::Proofs;
use std::convert::Infallible;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Where a certificate should come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// From files that somebody else looks after.
    Files(PairFiles),
    /// From an authority.
    Authority(AcmeSettings),
}

/// A source that can be used.
#[derive(Debug)]
enum Source {
    Files(WatchedFiles),
    Acme(Acme),
}

/// The source that is used, until there is another.
#[derive(Debug)]
pub(crate) struct Sources {
    current: watch::Sender<Arc<Chosen>>,
    /// How often files are looked at.
    interval: watch::Sender<Duration>,
    /// Where is kept what an authority gave.
    data_dir: PathBuf,
    certificates: Arc<Certificates>,
    proofs: Arc<Proofs>,
}

/// A source, and what it was made for.
#[derive(Debug)]
pub(crate) struct Chosen {
    wanted: Wanted,
    source: Source,
}

impl Sources {
    /// Begins with what is wanted, which must be usable. Also says what the operator should hear.
    pub(super) fn new(
        wanted: Wanted,
        interval: Duration,
        data_dir: &Path,
        certificates: Arc<Certificates>,
        proofs: Arc<Proofs>,
    ) -> anyhow::Result<(Self, Vec<String>)> {
        let chosen = Chosen::new(wanted, data_dir, &certificates, &proofs)?;
        let warnings = match &chosen.source {
            Source::Files(files) => {
                files.show();
                files.warnings()
            }
            Source::Acme(_) => Vec::new(),
        };
        let sources = Self {
            current: watch::Sender::new(Arc::new(chosen)),
            interval: watch::Sender::new(interval),
            data_dir: data_dir.to_owned(),
            certificates,
            proofs,
        };
        Ok((sources, warnings))
    }

    /// Gets ready for what is wanted now. None if it is what there is.
    pub(crate) fn prepare(&self, wanted: Wanted) -> anyhow::Result<Option<Chosen>> {
        if self.current.borrow().wanted == wanted {
            return Ok(None);
        }
        Chosen::new(wanted, &self.data_dir, &self.certificates, &self.proofs).map(Some)
    }

    /// Uses what was prepared from now on.
    pub(crate) fn change_to(&self, chosen: Chosen) {
        if let Source::Files(files) = &chosen.source {
            files.take();
        }
        self.current.send_replace(Arc::new(chosen));
    }

    /// Looks at files so often from now on.
    pub(crate) fn look_every(&self, interval: Duration) {
        self.interval.send_if_modified(|current| std::mem::replace(current, interval) != interval);
    }

    /// Looks after the certificate, until it is dropped.
    pub(crate) async fn keep_up(&self) -> Infallible {
        let mut current = self.current.subscribe();
        loop {
            // Of an order that was given up.
            self.proofs.clear();
            let chosen = current.borrow_and_update().clone();
            let looking_after = async {
                match &chosen.source {
                    Source::Files(files) => files.watch(self.interval.subscribe()).await,
                    Source::Acme(acme) => acme.keep_up().await,
                }
                pending::<()>().await;
            };
            tokio::select! {
                () = looking_after => {}
                _ = current.changed() => {}
            }
        }
    }
}

impl Chosen {
    fn new(
        wanted: Wanted,
        data_dir: &Path,
        certificates: &Arc<Certificates>,
        proofs: &Arc<Proofs>,
    ) -> anyhow::Result<Self> {
        let source = match wanted.clone() {
            Wanted::Files(files) => Source::Files(WatchedFiles::read(files, certificates.clone())?),
            Wanted::Authority(settings) => {
                Source::Acme(Acme::new(settings, data_dir, certificates.clone(), proofs.clone())?)
            }
        };
        Ok(Self { wanted, source })
    }
}

#[cfg(test)]
mod tests {
    use super::super::acme::Challenge;
    use super::super::pair::tests::Made;
    use super::*;
    use crate::tls::acme::tests::keep;

    const LONG: Duration = Duration::from_hours(24);

    fn sources(wanted: Wanted, interval: Duration, made: &Made) -> Arc<Sources> {
        let proofs = Arc::new(Proofs::default());
        let certificates = Arc::new(Certificates::new(proofs.clone()));
        Arc::new(Sources::new(wanted, interval, made.dir.path(), certificates, proofs).unwrap().0)
    }

    fn authority(domain: &str) -> AcmeSettings {
        AcmeSettings {
            domains: vec![domain.to_owned()],
            email: None,
            // Nobody listens there, so that what is shown is what was there before.
            directory: "https://127.0.0.1:9/dir".to_owned(),
            ca_file: None,
            challenge: Challenge::TlsAlpn,
        }
    }

    async fn shows(sources: &Sources, certificate: &[u8]) {
        let is_shown = || sources.certificates.shown().is_some_and(|shown| shown == certificate);
        let shown = async {
            while !is_shown() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), shown).await.expect("it is shown");
    }

    fn change(sources: &Sources, wanted: Wanted) {
        sources.change_to(sources.prepare(wanted).unwrap().expect("it is another"));
    }

    #[tokio::test]
    async fn files_are_looked_at_as_often_as_was_said_last() {
        let made = Made::new();
        let wanted = Wanted::Files(made.files.clone());
        let sources = sources(wanted.clone(), LONG, &made);
        let keeping = tokio::spawn({
            let sources = sources.clone();
            async move { sources.keep_up().await }
        });
        shows(&sources, &made.certificate()).await;
        sources.look_every(Duration::from_millis(1));
        // The first look was for the change itself; those after it are by the new interval.
        for _ in 0..3 {
            let renewed = made.renew(-60, 3_600);
            shows(&sources, &renewed).await;
        }
        assert!(sources.prepare(wanted).unwrap().is_none(), "it is what there is");
        keeping.abort();
    }

    #[tokio::test]
    async fn what_is_shown_follows_the_source_and_is_never_missing() {
        let (made, other) = (Made::new(), Made::new());
        let sources = sources(Wanted::Files(made.files.clone()), LONG, &made);
        let keeping = tokio::spawn({
            let sources = sources.clone();
            async move { sources.keep_up().await }
        });
        change(&sources, Wanted::Files(other.files.clone()));
        assert_eq!(sources.certificates.shown().unwrap(), other.certificate(), "at once");

        // One that is kept for the name is shown; until there is one, it is the one before.
        let kept = keep(&made, &authority("localhost").directory);
        change(&sources, Wanted::Authority(authority("elsewhere.example")));
        sources.proofs.add_text("token", "of an order");
        change(&sources, Wanted::Authority(authority("localhost")));
        shows(&sources, &kept).await;
        assert!(sources.proofs.text("token").is_none(), "that order was given up");
        change(&sources, Wanted::Authority(authority("elsewhere.example")));
        tokio::task::yield_now().await;
        assert_eq!(sources.certificates.shown().unwrap(), kept);

        change(&sources, Wanted::Files(other.files.clone()));
        shows(&sources, &other.certificate()).await;
        let renewed = other.renew(-60, 3_600);
        sources.look_every(Duration::from_millis(1));
        shows(&sources, &renewed).await;
        keeping.abort();
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_refused_before_anything_changes() {
        let (made, bad) = (Made::new(), Made::new());
        bad.renew(-60, -30);
        let sources = sources(Wanted::Files(made.files.clone()), LONG, &made);
        assert!(sources.prepare(Wanted::Files(bad.files.clone())).is_err(), "it has expired");
        let ca_file = Some(made.dir.path().join("none.pem"));
        let unreadable = AcmeSettings { ca_file, ..authority("localhost") };
        let error = sources.prepare(Wanted::Authority(unreadable)).unwrap_err();
        assert!(error.to_string().contains("none.pem"), "{error}");
        assert_eq!(sources.certificates.shown().unwrap(), made.certificate());
    }
}
