//! A certificate with its key: read, and found good or not.
//!
//! Invariant: whatever is wrong with a pair is said with the file and what to do about it, never with what the key file holds.

use super::chain::{Chain, ChainError};
use super::validity::{Days, Validity};
use crate::small_file::is_new;
use channelapi_core::limits::CERTIFICATE_FILE_BYTES_MAX;
use rustix::fs::{Mode, OFlags};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error as ThisError;

/// The permissions that let everybody read a file.
const READABLE_BY_ALL: u32 = 0o004;

/// What some editors put in front of a text. A line that begins with it says nothing to who reads PEM.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

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
    Unreadable { path: PathBuf, error: io::Error },
    /// It is a pipe, a device or a directory.
    #[error("{} is no regular file; tls.cert and tls.key are read again while the server runs, so each must name a file", .0.display())]
    NoFile(PathBuf),
    /// The file is too large to be read.
    #[error("{} is larger than {} KiB; is it really a certificate or a key?", .0.display(), CERTIFICATE_FILE_BYTES_MAX / 1024)]
    TooLarge(PathBuf),
    /// The certificates of the file cannot be shown.
    #[error("{} {error}", path.display())]
    Chain { path: PathBuf, error: ChainError },
    /// There is no key in the file.
    #[error("{} holds no private key; it must be PEM, unencrypted, with a line that says BEGIN PRIVATE KEY", .0.display())]
    NoKey(PathBuf),
    /// The certificate is none for TLS.
    #[error("the certificate in {} cannot be used: {error}; get it again from whoever issued it", path.display())]
    BadCertificate { path: PathBuf, error: Error },
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

impl PairError {
    /// Whether time may mend it, or whoever renews the files: nobody needs to change what is configured.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::Mismatch(_) | Self::Expired(..) | Self::NotYetValid(..) => true,
            Self::Chain { path, .. }
            | Self::NoKey(path)
            | Self::BadCertificate { path, .. }
            | Self::BadKey(path) => is_new(path),
            Self::NoFile(_) | Self::TooLarge(_) => false,
        }
    }
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
        let chain = Chain::read(&self.certificate, &without_marks(certificate), now)
            .map_err(|error| PairError::Chain { path: self.certificate.clone(), error })?;
        let key = PrivateKeyDer::from_pem_slice(&without_marks(key))
            .map_err(|_| PairError::NoKey(self.key.clone()))?;
        let (validity, mut warnings) = (chain.validity, self.warnings(chain.validity, now));
        warnings.extend(chain.warnings);
        let certified = CertifiedKey::from_der(chain.certificates, key, &default_provider());
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => PairError::Mismatch(self.clone()),
            Error::InvalidCertificate(_) => {
                PairError::BadCertificate { path: self.certificate.clone(), error }
            }
            _ => PairError::BadKey(self.key.clone()),
        })?;
        match validity.ended(now) {
            Some(ago) => Err(PairError::Expired(self.certificate.clone(), ago)),
            None => Ok(Pair { certified: Arc::new(certified), validity, warnings }),
        }
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

/// Reads a regular file. It is opened without waiting: a pipe may have nobody who writes to it.
fn read(path: &Path) -> Result<Vec<u8>, PairError> {
    let unreadable = |error| PairError::Unreadable { path: path.to_owned(), error };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
    let file = File::from(opened);
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(PairError::NoFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(CERTIFICATE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CERTIFICATE_FILE_BYTES_MAX {
        return Err(PairError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// A text without the marks that editors put in front of it, which may be anywhere in one that was put together from several.
fn without_marks(text: &[u8]) -> Cow<'_, [u8]> {
    let mark = BYTE_ORDER_MARK;
    if !text.windows(mark.len()).any(|window| window == mark) {
        return Cow::Borrowed(text);
    }
    let mut rest = text;
    let mut kept = Vec::with_capacity(text.len());
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind_mark) = rest.strip_prefix(mark) {
            rest = behind_mark;
        } else {
            kept.push(*first);
            rest = behind;
        }
    }
    Cow::Owned(kept)
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::CertificateDer;
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
        check("damaged, number 1", &|made| {
            let text = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
            fs::write(&made.files.certificate, text).unwrap();
        });
        check("cannot be used", &|made| {
            let text = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
            fs::write(&made.files.key, text).unwrap();
        });
        check("check the paths in tls.cert and tls.key", &|made| fs::remove_file(&made.files.key).unwrap());
    }

    /// Once, the first certificate was passed over behind a mark, and the next was told to be of another key.
    #[test]
    fn marks_that_editors_put_in_front_of_a_text_mean_nothing() {
        let made = Made::new();
        for path in [&made.files.certificate, &made.files.key] {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, format!("\u{feff}{text}")).unwrap();
        }
        assert!(made.files.load(SystemTime::now()).is_ok());
        assert_eq!(&*without_marks("\u{feff}a\n\u{feff}b".as_bytes()), b"a\nb");
        assert_eq!(&*without_marks(b"\xef\xbb"), b"\xef\xbb", "half of one is none");
    }

    /// Once, it was called damaged.
    #[test]
    fn a_certificate_of_version_1_is_called_so() {
        let made = Made::new();
        fs::write(&made.files.certificate, OF_VERSION_1).unwrap();
        let refusal = made.refusal();
        assert!(refusal.contains("of X.509 version 1, and TLS wants version 3"), "{refusal}");
    }

    /// What `openssl x509 -req -signkey` makes of a request without extensions.
    const OF_VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIHYMIGLAhQ/5DvCtyzFgErY9ZqMBKdU0v1u0TAFBgMrZXAwDjEMMAoGA1UEAwwD
b2xkMCAXDTI2MTEyODIyMTk1NloYDzIxMjYxMTA0MjIxOTU2WjAOMQwwCgYDVQQD
DANvbGQwKjAFBgMrZXADIQAQHIOsaS1sfFvhUgj4Q9y9l+IcYyv619+tbmOS/gJg
NzAFBgMrZXADQQCD1DqirR5mDySQoUnKZG/wCsrotfgxDu2jWZK24qhzG0rrsaWe
BA4GyTWP1QBkkyIRWFVXgI4Te2aKyvPNAEUM
-----END CERTIFICATE-----\n";

    /// Once, a pipe in the place of a file was waited for for ever, by a thread that connections wait for, too.
    #[test]
    fn what_is_no_regular_file_or_has_no_end_is_not_read() {
        let made = Made::new();
        fs::remove_file(&made.files.key).unwrap();
        let owners = Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &made.files.key, owners).unwrap();
        assert!(made.refusal().contains("key.pem is no regular file"));
        fs::remove_file(&made.files.key).unwrap();
        fs::create_dir(&made.files.key).unwrap();
        assert!(made.refusal().contains("key.pem is no regular file"));
        let most = usize::try_from(CERTIFICATE_FILE_BYTES_MAX).unwrap();
        fs::write(&made.files.certificate, vec![b'x'; most + 1]).unwrap();
        assert!(made.refusal().contains("cert.pem is larger than 1024 KiB"));
    }

    #[test]
    fn what_a_renewal_or_the_clock_mends_may_pass() {
        let may_pass = |spoil: &dyn Fn(&Made)| {
            let made = Made::new();
            spoil(&made);
            made.files.load(SystemTime::now()).unwrap_err().may_pass()
        };
        assert!(may_pass(&|made| fs::remove_file(&made.files.certificate).unwrap()));
        assert!(may_pass(&|made| {
            fs::write(&made.files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        }));
        assert!(may_pass(&|made| drop(made.renew(3_600, 7_200))));
        assert!(may_pass(&|made| drop(made.renew(-7_200, -3_600))));
        for (is_certificate, text) in [(true, "no PEM"), (false, "no PEM"), (false, ""), (true, OF_VERSION_1)]
        {
            for (age, expected) in [(0, true), (50, true), (70, false)] {
                let passed = may_pass(&|made| {
                    let path = if is_certificate { &made.files.certificate } else { &made.files.key };
                    fs::write(path, text).unwrap();
                    let file = File::options().write(true).open(path).unwrap();
                    file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
                });
                assert_eq!(passed, expected, "{text}, written {age} seconds ago");
            }
        }
    }
}
