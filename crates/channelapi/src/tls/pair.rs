//! A certificate with its key: read, and found good or not.
//!
//! Invariant: whatever is wrong with a pair is said with the file and what to do about it, never with what the key file holds.

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error as ThisError;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The permissions that let everybody read a file.
const READABLE_BY_ALL: u32 = 0o004;

/// How long before its end a certificate is worth a warning.
const LAST_DAYS: Duration = Duration::from_hours(14 * 24);

/// A certificate that can be shown, and what there is to say about it.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// What rustls needs.
    pub(super) certified: Arc<CertifiedKey>,
    /// When it begins and ends to be valid.
    pub(super) validity: Validity,
    /// What the operator should hear.
    pub(crate) warnings: Vec<String>,
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

/// Where a pair is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairFiles {
    /// The certificate and those between it and its root, as PEM.
    pub(crate) certificate: PathBuf,
    /// The key, as PEM.
    pub(crate) key: PathBuf,
}

/// What both files hold, to see whether something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

/// A pair that cannot be used.
#[derive(Debug, ThisError)]
pub(crate) enum PairError {
    /// It cannot be read.
    #[error("cannot read {}: {error}; check the paths in tls.cert and tls.key, and who may read them", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    /// There is no certificate in the file.
    #[error("{} holds no certificate; it must be PEM, with a line that says BEGIN CERTIFICATE", .0.display())]
    NoCertificate(PathBuf),
    /// There is no key in the file.
    #[error("{} holds no private key; it must be PEM, unencrypted, with a line that says BEGIN PRIVATE KEY", .0.display())]
    NoKey(PathBuf),
    /// The certificate is not one.
    #[error("the certificate in {} is damaged; get it again from whoever issued it", .0.display())]
    BadCertificate(PathBuf),
    /// The key is of no use.
    #[error("the key in {} cannot be used; it must be ECDSA (P-256, P-384, P-521), Ed25519, or RSA of 2048 bits or more", .0.display())]
    BadKey(PathBuf),
    /// They do not belong together.
    #[error("the key in {} does not belong to the first certificate in {}; set both to files of the same pair", .0.key.display(), .0.certificate.display())]
    Mismatch(PairFiles),
    /// It is too late.
    #[error("the certificate in {path} expired {ago} ago; renew it", path = .0.display(), ago = Days(*.1))]
    Expired(PathBuf, Duration),
    /// It is too early.
    #[error("the certificate in {path} becomes valid in {after}; is the clock of this machine right?", path = .0.display(), after = Days(*.1))]
    NotYetValid(PathBuf, Duration),
}

impl PairFiles {
    /// Reads the pair, and judges it at `now`.
    pub(crate) fn load(&self, now: SystemTime) -> Result<Pair, PairError> {
        let (certificate, key) = self.read()?;
        self.judge(&certificate, &key, now)
    }

    /// The same, and what to recognise the files by.
    pub(super) fn load_with_fingerprint(
        &self,
        now: SystemTime,
    ) -> (Option<Fingerprint>, Result<Pair, PairError>) {
        match self.read() {
            Ok((certificate, key)) => {
                let fingerprint = Fingerprint::of(&certificate, &key);
                (Some(fingerprint), self.judge(&certificate, &key, now))
            }
            Err(error) => (None, Err(error)),
        }
    }

    fn read(&self) -> Result<(Vec<u8>, Vec<u8>), PairError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| PairError::Unreadable { path: path.to_owned(), error })
        };
        Ok((read(&self.certificate)?, read(&self.key)?))
    }

    fn judge(&self, certificate: &[u8], key: &[u8], now: SystemTime) -> Result<Pair, PairError> {
        let pair = self.judge_for_later(certificate, key, now)?;
        match pair.validity.begins_in(now) {
            Some(after) => Err(PairError::NotYetValid(self.certificate.clone(), after)),
            None => Ok(pair),
        }
    }

    /// Judges all of a pair at `now` but whether it is valid already.
    pub(super) fn judge_for_later(
        &self,
        certificate: &[u8],
        key: &[u8],
        now: SystemTime,
    ) -> Result<Pair, PairError> {
        let no_certificate = || PairError::NoCertificate(self.certificate.clone());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| no_certificate())?;
        let first = chain.first().ok_or_else(no_certificate)?;
        let bad_certificate = || PairError::BadCertificate(self.certificate.clone());
        let (_, parsed) = X509Certificate::from_der(first).map_err(|_| bad_certificate())?;
        let validity = Validity::of(&parsed);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| PairError::NoKey(self.key.clone()))?;
        let certified =
            CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => PairError::Mismatch(self.clone()),
                Error::InvalidCertificate(_) => bad_certificate(),
                _ => PairError::BadKey(self.key.clone()),
            })?;
        if let Ok(ago) = now.duration_since(validity.until) {
            return Err(PairError::Expired(self.certificate.clone(), ago));
        }
        Ok(Pair { certified: Arc::new(certified), validity, warnings: self.warnings(validity, now) })
    }

    fn warnings(&self, validity: Validity, now: SystemTime) -> Vec<String> {
        let mode = fs::metadata(&self.key).map_or(0, |found| found.permissions().mode());
        let exposed = (mode & READABLE_BY_ALL != 0).then(|| {
            let path = self.key.display();
            format!("every user of this machine may read the key in {path}; run `chmod 640 {path}`")
        });
        let ends = validity.ends_soon(now).map(|left| {
            let path = self.certificate.display();
            format!("the certificate in {path} ends in {}; put another in its place, which is noticed without a restart", Days(left))
        });
        exposed.into_iter().chain(ends).collect()
    }
}

impl Validity {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let validity = certificate.validity();
        Self { from: time(validity.not_before.timestamp()), until: time(validity.not_after.timestamp()) }
    }

    /// How long it is until the certificate is valid; none if that time has come.
    pub(super) fn begins_in(self, now: SystemTime) -> Option<Duration> {
        self.from.duration_since(now).ok().filter(|wait| !wait.is_zero())
    }

    /// How long it is until the end of a certificate that somebody should have renewed: two weeks before, or for one with a short life,
    /// when a quarter of that is left.
    fn ends_soon(self, now: SystemTime) -> Option<Duration> {
        let left = self.until.duration_since(now).unwrap_or_default();
        (left < (self.life() / 4).min(LAST_DAYS)).then_some(left)
    }

    /// How long the certificate is valid at all.
    pub(super) fn life(self) -> Duration {
        self.until.duration_since(self.from).unwrap_or_default()
    }
}

impl Fingerprint {
    fn of(certificate: &[u8], key: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(certificate.len().to_be_bytes());
        hash.update(certificate);
        hash.update(key);
        Self(hash.finalize().into())
    }
}

/// A time in words.
struct Days(Duration);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (count, unit) = match seconds {
            0..120 => (seconds, "seconds"),
            120..7_200 => (seconds / 60, "minutes"),
            7_200..172_800 => (seconds / 3_600, "hours"),
            _ => (seconds / 86_400, "days"),
        };
        write!(f, "{count} {unit}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    /// A pair made here, in a directory of its own.
    pub(in crate::tls) struct Made {
        pub(in crate::tls) dir: TempDir,
        pub(in crate::tls) files: PairFiles,
    }

    impl Made {
        pub(in crate::tls) fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let files =
                PairFiles { certificate: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
            let made = Self { dir, files };
            made.renew(-60, 3_600);
            made
        }

        /// The certificate that was written last.
        pub(in crate::tls) fn certificate(&self) -> Vec<u8> {
            CertificateDer::from_pem_file(&self.files.certificate).unwrap().to_vec()
        }

        /// Writes another pair, valid from and until so many seconds from now. Returns the certificate.
        pub(in crate::tls) fn renew(&self, from: i64, until: i64) -> Vec<u8> {
            let key = KeyPair::generate().unwrap();
            let certificate = certificate(&key, from, until);
            fs::write(&self.files.certificate, &certificate).unwrap();
            fs::write(&self.files.key, key.serialize_pem()).unwrap();
            fs::set_permissions(&self.files.key, fs::Permissions::from_mode(0o600)).unwrap();
            CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap().to_vec()
        }

        fn refusal(&self) -> String {
            let error = self.files.load(SystemTime::now()).unwrap_err();
            let refusal = error.to_string();
            assert_eq!(format!("{:#}", anyhow::Error::from(error)), refusal, "the reason is told once");
            refusal
        }
    }

    fn certificate(key: &KeyPair, from: i64, until: i64) -> String {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let now = SystemTime::now();
        let at = |seconds: i64| {
            let distance = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { now - distance } else { now + distance }
        };
        params.not_before = at(from).into();
        params.not_after = at(until).into();
        params.self_signed(key).unwrap().pem()
    }

    #[test]
    fn a_good_pair_is_good() {
        let made = Made::new();
        let pair = made.files.load(SystemTime::now()).unwrap();
        assert_eq!(pair.warnings, Vec::<String>::new());
        assert_eq!(pair.validity.life(), Duration::from_mins(61));
        for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o400, false)] {
            fs::set_permissions(&made.files.key, fs::Permissions::from_mode(mode)).unwrap();
            let pair = made.files.load(SystemTime::now()).unwrap();
            assert_eq!(!pair.warnings.is_empty(), warned, "{mode:o}");
        }
    }

    #[test]
    fn a_certificate_that_somebody_should_have_renewed_is_told() {
        const DAY: i64 = 24 * 3_600;
        let made = Made::new();
        for (from, until, ends) in [
            (-60, 90 * DAY, None),
            (-76 * DAY, 14 * DAY + 60, None),
            (-78 * DAY, 12 * DAY + 60, Some("ends in 12 days; put another in its place")),
            (-DAY, DAY / 2, None),
            (-DAY, DAY / 4, Some("ends in 5 hours; put another")),
        ] {
            made.renew(from, until);
            let warnings = made.files.load(SystemTime::now()).unwrap().warnings;
            let told = warnings.iter().find(|warning| warning.contains("ends in"));
            assert_eq!(told.is_some(), ends.is_some(), "{from} to {until}: {warnings:?}");
            assert!(ends.is_none_or(|ends| warnings[0].contains(ends)), "{warnings:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_said_with_the_file_and_the_fix() {
        let check = |part: &str, spoil: &dyn Fn(&Made)| {
            let made = Made::new();
            spoil(&made);
            let refusal = made.refusal();
            assert!(refusal.contains(part), "{part}: {refusal}");
            let path = made.dir.path().to_str().unwrap();
            assert!(refusal.contains(path), "the file is named: {refusal}");
        };
        check("expired 10 minutes ago; renew it", &|made| drop(made.renew(-3_600, -600)));
        check("becomes valid in ", &|made| drop(made.renew(3_600, 7_200)));
        check("does not belong to the first certificate", &|made| {
            fs::write(&made.files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        });
        check("holds no certificate", &|made| fs::write(&made.files.certificate, "").unwrap());
        check("holds no certificate", &|made| {
            fs::copy(&made.files.key, &made.files.certificate).unwrap();
        });
        check("holds no private key", &|made| {
            fs::copy(&made.files.certificate, &made.files.key).unwrap();
        });
        check("is damaged", &|made| {
            let text = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
            fs::write(&made.files.certificate, text).unwrap();
        });
        check("cannot be used", &|made| {
            let text = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
            fs::write(&made.files.key, text).unwrap();
        });
        check("check the paths in tls.cert and tls.key", &|made| fs::remove_file(&made.files.key).unwrap());
    }
}
