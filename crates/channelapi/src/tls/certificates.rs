//! The certificate that clients are shown, and how it is replaced while they are connected.
//!
//! Invariants:
//! - A connection keeps what it began with; only new handshakes see another certificate. So replacing one costs no connection.
//! - A pair that cannot be used never replaces one that can.
//! - Files are read beside the event loop, once at a time: where a disk does not answer, connections go on.

use super::pair::{Fingerprint, Pair, PairError, PairFiles};
use super::proofs::Proofs;
use crate::aside::aside;
use crate::metrics::CertificateReloaded;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The protocol by which a certificate authority asks whether we hold a name.
pub(super) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// How long reading a pair may take before it is told: a disk that sleeps is awake by then.
const READ_PATIENCE: Duration = Duration::from_secs(10);

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

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.current.load().is_none()
    }

    /// Whether there is one that has not ended at `now`.
    pub(crate) fn has_one_at(&self, now: SystemTime) -> bool {
        self.current.load().as_ref().is_some_and(|pair| now < pair.validity.until)
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
pub(super) struct WatchedFiles {
    certificates: Arc<Certificates>,
    files: PairFiles,
    read: Mutex<Read>,
}

/// What the files held: what to recognise it by, and the pair, or why it is none.
type Found = (Option<Fingerprint>, Result<Pair, PairError>);

#[derive(Debug)]
struct Read {
    /// What was read last, good or not.
    seen: Option<Fingerprint>,
    /// Whether that was good.
    is_good: bool,
    /// The last that was good.
    good: Pair,
}

impl WatchedFiles {
    /// Reads the pair in `files`, which must be good now. Nobody is shown it yet.
    pub(super) fn read(files: PairFiles, certificates: Arc<Certificates>) -> Result<Self, PairError> {
        let (seen, pair) = files.load_with_fingerprint(SystemTime::now());
        Ok(Self { certificates, files, read: Mutex::new(Read { seen, is_good: true, good: pair? }) })
    }

    /// What the operator should hear of the pair.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.read.lock().good.warnings.clone()
    }

    /// Shows the pair.
    pub(super) fn show(&self) {
        self.certificates.show(&self.read.lock().good);
    }

    /// Shows the pair in place of another, and says so.
    pub(super) fn take(&self) {
        self.show();
        CertificateReloaded::Shown.count();
        for warning in self.warnings() {
            warn!("{warning}");
        }
        info!(certificate = %self.files.certificate.display(), "new connections get the new certificate");
    }

    /// Shows what was read of the files at some time, if it is another pair that was good then. A bad one is said once, and the one before
    /// stays.
    fn consider(&self, (found, pair): Found) {
        {
            let mut read = self.read.lock();
            let is_known = found.is_some() && read.seen == found;
            // One that was read too early becomes good without a change of the files.
            if is_known && (read.is_good || pair.is_err()) {
                return;
            }
            (read.seen, read.is_good) = (found, pair.is_ok());
            match pair {
                Ok(pair) => read.good = pair,
                Err(error) => {
                    CertificateReloaded::Failed.count();
                    return error!(%error, "the new certificate cannot be used, the one before stays");
                }
            }
        }
        self.take();
    }

    /// Reads the files again, with whatever `read` does on a thread of its own, and waits as long as that takes. What keeps it from it is told
    /// once.
    async fn look(&self, read: impl FnOnce(PairFiles) -> Found + Send + 'static, obstacle: &mut Obstacle) {
        let files = self.files.clone();
        let mut reading = match aside("certificate", move || read(files)) {
            Ok(reading) => reading,
            Err(error) => return obstacle.tell(&format!("there is no thread to read it: {error}")),
        };
        let in_time = tokio::time::timeout(READ_PATIENCE, &mut reading).await;
        let found = if let Ok(found) = in_time {
            found
        } else {
            obstacle.tell("reading the files takes long; does the disk answer that they are on?");
            reading.await
        };
        match found {
            Ok(found) => {
                obstacle.is_told = false;
                self.consider(found);
            }
            Err(_) => obstacle.tell("a bug ended the reading"),
        }
    }

    /// Looks for a change every `interval`, and on SIGHUP, until it is dropped.
    pub(super) async fn watch(&self, mut interval: watch::Receiver<Duration>) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        // Once more: what was shown before these files may just have shown something itself.
        self.show();
        let mut obstacle = Obstacle::default();
        loop {
            let read = |files: PairFiles| files.load_with_fingerprint(SystemTime::now());
            self.look(read, &mut obstacle).await;
            let pause = *interval.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = interval.changed() => {}
                _ = hangup.recv() => {}
            }
        }
    }
}

/// What keeps a pair from being read.
#[derive(Debug, Default)]
struct Obstacle {
    is_told: bool,
}

impl Obstacle {
    /// Says why, unless something was said since it was read last.
    fn tell(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            CertificateReloaded::Failed.count();
            error!(why, "the certificate cannot be looked at, the one before stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pair::tests::Made;
    use super::*;
    use std::fs;

    impl Certificates {
        /// The certificate that is shown.
        pub(in crate::tls) fn shown(&self) -> Option<Vec<u8>> {
            Some(self.current.load_full()?.certified.cert[0].to_vec())
        }
    }

    impl WatchedFiles {
        fn reload(&self, now: SystemTime) {
            self.consider(self.files.load_with_fingerprint(now));
        }
    }

    #[test]
    fn a_good_pair_replaces_the_one_before_and_a_bad_one_does_not() {
        let made = Made::new();
        let certificates = Arc::new(Certificates::new(Arc::default()));
        let shown = |certificates: &Certificates| certificates.shown().unwrap();
        let watched = WatchedFiles::read(made.files.clone(), certificates.clone()).unwrap();
        let reload = || watched.reload(SystemTime::now());
        assert!(certificates.is_empty(), "another part may still refuse");
        watched.show();
        let first = shown(&certificates);
        reload();
        assert_eq!(shown(&certificates), first, "nothing has changed");

        let second = made.renew(-60, 7_200);
        reload();
        assert_eq!(shown(&certificates), second);

        let key = fs::read(&made.files.key).unwrap();
        fs::write(&made.files.key, "half of a k").unwrap();
        reload();
        assert_eq!(shown(&certificates), second, "the key is half written");
        made.renew(-60, -30);
        reload();
        assert_eq!(shown(&certificates), second, "it has expired");
        fs::remove_file(&made.files.certificate).unwrap();
        reload();
        assert_eq!(shown(&certificates), second, "it is gone");
        fs::write(&made.files.key, key).unwrap();
        reload();
        assert_eq!(shown(&certificates), second);

        let third = made.renew(-60, 7_200);
        reload();
        assert_eq!(shown(&certificates), third);
    }

    #[test]
    fn a_pair_that_was_read_too_early_is_shown_when_its_time_has_come() {
        let made = Made::new();
        let certificates = Arc::new(Certificates::new(Arc::default()));
        let watched = WatchedFiles::read(made.files.clone(), certificates.clone()).unwrap();
        watched.show();
        let (first, now) = (made.certificate(), SystemTime::now());
        let next = made.renew(2, 3_600);
        for _ in 0..2 {
            watched.reload(now);
            assert_eq!(certificates.shown().unwrap(), first, "it is not valid yet");
        }
        watched.reload(now + Duration::from_mins(10));
        assert_eq!(certificates.shown().unwrap(), next);
        watched.reload(now);
        assert_eq!(certificates.shown().unwrap(), next, "it was taken, and has not changed");
    }

    /// Once, the core that looked waited for the disk, and with it all of its connections.
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_is_waited_for_aside_and_told_once() {
        let made = Made::new();
        let certificates = Arc::new(Certificates::new(Arc::default()));
        let watched = WatchedFiles::read(made.files.clone(), certificates.clone()).unwrap();
        watched.show();
        let (first, next) = (made.certificate(), made.renew(-60, 3_600));
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let read = move |files: PairFiles| {
            _ = answered.recv();
            files.load_with_fingerprint(SystemTime::now())
        };
        let mut obstacle = Obstacle::default();
        {
            let mut looking = std::pin::pin!(watched.look(read, &mut obstacle));
            tokio::select! {
                () = &mut looking => panic!("it has not answered"),
                () = tokio::time::sleep(READ_PATIENCE * 10) => {}
            }
            assert_eq!(certificates.shown().unwrap(), first);
            drop(answer);
            tokio::time::resume();
            looking.await;
        }
        assert!(!obstacle.is_told, "it was read at last");
        assert_eq!(certificates.shown().unwrap(), next);
        for _ in 0..2 {
            watched.look(|_| panic!("on purpose"), &mut obstacle).await;
            assert!(obstacle.is_told);
        }
        assert_eq!(certificates.shown().unwrap(), next);
    }

    #[test]
    fn a_certificate_counts_until_it_ends() {
        let made = Made::new();
        let certificates = Arc::new(Certificates::new(Arc::default()));
        let now = SystemTime::now();
        assert!(!certificates.has_one_at(now), "there is none");
        WatchedFiles::read(made.files.clone(), certificates.clone()).unwrap().show();
        assert!(certificates.has_one_at(now));
        assert!(!certificates.has_one_at(now + Duration::from_hours(2)), "it has ended");
    }

    #[test]
    fn a_bad_pair_is_not_begun_with() {
        let made = Made::new();
        made.renew(-60, -30);
        assert!(WatchedFiles::read(made.files.clone(), Arc::new(Certificates::new(Arc::default()))).is_err());
    }
}
