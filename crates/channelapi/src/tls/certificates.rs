//! The certificate that clients are shown, and how it is replaced while they are connected.
//!
//! Invariants:
//! - A connection keeps what it began with; only new handshakes see another certificate. So replacing one costs no connection.
//! - A pair that cannot be used never replaces one that can.

use super::pair::{Fingerprint, Pair, PairError, PairFiles};
use super::proofs::Proofs;
use crate::metrics::CertificateReloaded;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// The protocol by which a certificate authority asks whether we hold a name.
pub(super) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// What handshakes are answered with.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// None until there is one: then nobody can connect.
    current: ArcSwapOption<Pair>,
    proofs: Arc<Proofs>,
}

impl Certificates {
    pub(super) fn new(proofs: Arc<Proofs>) -> Self {
        Self { current: ArcSwapOption::empty(), proofs }
    }

    /// Shows this pair from now on.
    pub(super) fn show(&self, pair: &Pair) {
        self.current.store(Some(Arc::new(pair.clone())));
    }

    /// When the certificate that is shown ends, in seconds since 1970. None if there is none.
    pub(crate) fn end(&self) -> Option<u64> {
        let until = self.current.load().as_ref()?.validity.until;
        Some(until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asks_for_proof =
            hello.alpn().is_some_and(|mut offered| offered.any(|name| name == ACME_PROTOCOL));
        if asks_for_proof {
            return self.proofs.certificate(&hello.server_name()?.to_ascii_lowercase());
        }
        self.current.load().as_ref().map(|pair| pair.certified.clone())
    }
}

/// A pair of files that is shown, and read again when it changes.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    certificates: Arc<Certificates>,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    files: PairFiles,
    /// What was read last, good or not.
    seen: Option<Fingerprint>,
}

/// A pair in other files, which was found good.
pub(crate) struct OtherFiles {
    files: PairFiles,
    seen: Option<Fingerprint>,
    pair: Pair,
}

impl WatchedFiles {
    /// Shows the pair in `files`, which must be good now.
    pub(super) fn new(files: PairFiles, certificates: Arc<Certificates>) -> Result<(Self, Pair), PairError> {
        let (seen, pair) = files.load_with_fingerprint(SystemTime::now());
        let pair = pair?;
        certificates.show(&pair);
        Ok((Self { certificates, watched: Mutex::new(Watched { files, seen }) }, pair))
    }

    /// Reads the files again, and shows the pair if it is another one. A bad one is said once, and the one before stays.
    pub(crate) fn reload(&self) {
        let mut watched = self.watched.lock();
        let (found, pair) = watched.files.load_with_fingerprint(SystemTime::now());
        if found.is_some() && watched.seen == found {
            return;
        }
        watched.seen = found;
        match pair {
            Ok(pair) => self.take(&watched.files, &pair),
            Err(error) => {
                CertificateReloaded::Failed.count();
                error!(%error, "the new certificate cannot be used, the one before stays");
            }
        }
    }

    /// Reads a pair from other files, which must be good. None if they are the same.
    pub(crate) fn prepare(&self, files: PairFiles) -> Result<Option<OtherFiles>, PairError> {
        if self.watched.lock().files == files {
            return Ok(None);
        }
        let (seen, pair) = files.load_with_fingerprint(SystemTime::now());
        pair.map(|pair| Some(OtherFiles { files, seen, pair }))
    }

    /// Shows what was prepared, and looks at its files from now on.
    pub(crate) fn change_to(&self, other: OtherFiles) {
        let OtherFiles { files, seen, pair } = other;
        let mut watched = self.watched.lock();
        *watched = Watched { files, seen };
        self.take(&watched.files, &pair);
    }

    fn take(&self, files: &PairFiles, pair: &Pair) {
        self.certificates.show(pair);
        CertificateReloaded::Shown.count();
        for warning in &pair.warnings {
            warn!("{warning}");
        }
        info!(certificate = %files.certificate.display(), "new connections get the new certificate");
    }

    /// Looks for a change every now and then, and on SIGHUP, until it is dropped.
    pub(crate) async fn watch(&self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = hangup.recv() => {}
            }
            self.reload();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pair::tests::Made;
    use super::*;
    use std::fs;

    fn shown(certificates: &Certificates) -> Vec<u8> {
        certificates.current.load_full().unwrap().certified.cert[0].to_vec()
    }

    #[test]
    fn a_good_pair_replaces_the_one_before_and_a_bad_one_does_not() {
        let made = Made::new();
        let certificates = Arc::new(Certificates::new(Arc::default()));
        let (watched, _) = WatchedFiles::new(made.files.clone(), certificates.clone()).unwrap();
        let first = shown(&certificates);
        watched.reload();
        assert_eq!(shown(&certificates), first, "nothing has changed");

        let second = made.renew(-60, 7_200);
        watched.reload();
        assert_eq!(shown(&certificates), second);

        let key = fs::read(&made.files.key).unwrap();
        fs::write(&made.files.key, "half of a k").unwrap();
        watched.reload();
        assert_eq!(shown(&certificates), second, "the key is half written");
        made.renew(-60, -30);
        watched.reload();
        assert_eq!(shown(&certificates), second, "it has expired");
        fs::remove_file(&made.files.certificate).unwrap();
        watched.reload();
        assert_eq!(shown(&certificates), second, "it is gone");
        fs::write(&made.files.key, key).unwrap();
        watched.reload();
        assert_eq!(shown(&certificates), second);

        let third = made.renew(-60, 7_200);
        watched.reload();
        assert_eq!(shown(&certificates), third);
    }

    #[test]
    fn other_files_are_watched_when_they_are_good() {
        let (first, second) = (Made::new(), Made::new());
        let certificates = Arc::new(Certificates::new(Arc::default()));
        let (watched, _) = WatchedFiles::new(first.files.clone(), certificates.clone()).unwrap();
        let before = shown(&certificates);
        assert!(watched.prepare(first.files.clone()).unwrap().is_none());

        second.renew(-60, -30);
        assert!(watched.prepare(second.files.clone()).is_err(), "it has expired");
        let good = second.renew(-60, 7_200);
        let other = watched.prepare(second.files.clone()).unwrap().unwrap();
        assert_eq!(shown(&certificates), before, "another part may still refuse");
        watched.change_to(other);
        assert_eq!(shown(&certificates), good);

        first.renew(-60, 7_200);
        watched.reload();
        assert_eq!(shown(&certificates), good, "nobody looks at the first files any more");
        let renewed = second.renew(-60, 7_200);
        watched.reload();
        assert_eq!(shown(&certificates), renewed);
    }

    #[test]
    fn a_bad_pair_is_not_begun_with() {
        let made = Made::new();
        made.renew(-60, -30);
        assert!(WatchedFiles::new(made.files.clone(), Arc::new(Certificates::new(Arc::default()))).is_err());
    }
}
