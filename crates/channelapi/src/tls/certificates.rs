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
    files: PairFiles,
    certificates: Arc<Certificates>,
    /// What was read last, good or not.
    seen: Mutex<Option<Fingerprint>>,
}

impl WatchedFiles {
    /// Shows the pair in `files`, which must be good now.
    pub(super) fn new(files: PairFiles, certificates: Arc<Certificates>) -> Result<(Self, Pair), PairError> {
        let (seen, pair) = files.load_with_fingerprint(SystemTime::now());
        let pair = pair?;
        certificates.show(&pair);
        Ok((Self { files, certificates, seen: Mutex::new(seen) }, pair))
    }

    /// Reads the files again, and shows the pair if it is another one. A bad one is said once, and the one before stays.
    pub(crate) fn reload(&self) {
        let (found, pair) = self.files.load_with_fingerprint(SystemTime::now());
        let mut seen = self.seen.lock();
        if found.is_some() && *seen == found {
            return;
        }
        *seen = found;
        let certificate = self.files.certificate.display();
        match pair {
            Ok(pair) => {
                self.certificates.show(&pair);
                CertificateReloaded::Shown.count();
                for warning in &pair.warnings {
                    warn!("{warning}");
                }
                info!(%certificate, "new connections get the new certificate");
            }
            Err(error) => {
                CertificateReloaded::Failed.count();
                error!(%error, "the new certificate cannot be used, the one before stays");
            }
        }
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
    fn a_bad_pair_is_not_begun_with() {
        let made = Made::new();
        made.renew(-60, -30);
        assert!(WatchedFiles::new(made.files.clone(), Arc::new(Certificates::new(Arc::default()))).is_err());
    }
}
