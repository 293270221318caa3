//! What is kept of an authority: the account with its key, and the certificate with its key, each in one file that only its
//! owner can read.
//!
//! Invariants:
//! - A certificate that cannot be used never takes the place of the one that is kept.
//! - One that can be used is never lost for want of room: an authority gives only so many. What cannot be written is kept in memory
//!   until it can.

use super::super::pair::{Pair, PairFiles};
use anyhow::{Context as _, ensure};
use instant_acme::AccountCredentials;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tracing::{error, info, warn};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What the first line of the certificate's file says before the directory of the authority; PEM allows text there.
const ISSUED_AT: &str = "Issued at ";

/// A directory of its own.
#[derive(Debug)]
pub(super) struct Kept {
    directory: PathBuf,
    /// The certificate as its file should be, while that could not be written.
    unwritten: Mutex<Option<String>>,
}

/// The account as it is written.
#[derive(Serialize, Deserialize)]
struct KeptAccount {
    /// The authority that it is with.
    directory: String,
    /// Where that may write to, as far as it was told.
    #[serde(default)]
    email: Option<String>,
    credentials: AccountCredentials,
}

impl Kept {
    /// Creates the directory, unless it is there.
    pub(super) fn open(directory: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), unwritten: Mutex::default() })
    }

    /// The account with the authority at `directory`, if there is one.
    pub(super) fn account(&self, directory: &str) -> Option<AccountCredentials> {
        self.kept_account(directory).map(|kept| kept.credentials)
    }

    /// Whether there is an account with this authority that it would write about to another address.
    pub(super) fn has_other_email(&self, directory: &str, email: Option<&str>) -> bool {
        self.kept_account(directory).is_some_and(|kept| kept.email.as_deref() != email)
    }

    fn kept_account(&self, directory: &str) -> Option<KeptAccount> {
        let text = fs::read(self.account_path()).ok()?;
        let kept: KeptAccount = serde_json::from_slice(&text)
            .inspect_err(|_| {
                let path = self.account_path();
                warn!(path = %path.display(), "the account with the authority cannot be read; making another");
            })
            .ok()?;
        (kept.directory == directory).then_some(kept)
    }

    pub(super) fn keep_account(
        &self,
        directory: &str,
        email: Option<&str>,
        credentials: AccountCredentials,
    ) -> anyhow::Result<()> {
        let (directory, email) = (directory.to_owned(), email.map(str::to_owned));
        let kept = KeptAccount { directory, email, credentials };
        self.write(&self.account_path(), serde_json::to_string(&kept)?.as_bytes())?;
        Ok(())
    }

    /// The certificate, if it is good at `now` or will be, from the authority at `directory`, and has exactly these names.
    pub(super) fn pair(&self, directory: &str, domains: &[String], now: SystemTime) -> Option<Pair> {
        let unwritten = self.unwritten.lock().clone();
        let pem = unwritten.or_else(|| fs::read_to_string(self.certificate_path()).ok())?;
        if pem.lines().next()?.strip_prefix(ISSUED_AT) != Some(directory) {
            return None;
        }
        let files = both_in(self.certificate_path());
        let pair = files.judge_for_later(pem.as_bytes(), pem.as_bytes(), now).ok()?;
        is_for(&pair, domains).then_some(pair)
    }

    /// The certificate, if it is good, whatever it is for.
    pub(super) fn any_pair(&self) -> Option<Pair> {
        both_in(self.certificate_path()).load(SystemTime::now()).ok()
    }

    /// Keeps a certificate with its key, from the authority at `directory` for these names, if it is good at `now` or will be. What cannot
    /// be written waits for [`Kept::write_again`], and counts meanwhile.
    pub(super) fn keep_certificate(
        &self,
        directory: &str,
        domains: &[String],
        pem: &str,
        now: SystemTime,
    ) -> anyhow::Result<()> {
        // It is in no file yet. This is what the reason calls it.
        let answer = both_in(PathBuf::from("the answer of the authority"));
        let pair = answer
            .judge_for_later(pem.as_bytes(), pem.as_bytes(), now)
            .context("the authority gave a certificate that cannot be used")?;
        ensure!(is_for(&pair, domains), "the authority gave a certificate for other names");
        let content = format!("{ISSUED_AT}{directory}\n{pem}");
        let written = self.write(&self.certificate_path(), content.as_bytes());
        if let Err(error) = &written {
            let path = self.certificate_path();
            error!(path = %path.display(), %error, "the certificate is used, but cannot be written: a start now would order another");
        }
        *self.unwritten.lock() = written.is_err().then_some(content);
        Ok(())
    }

    /// Writes the certificate that could not be written, if there is one.
    pub(super) fn write_again(&self) -> io::Result<()> {
        let Some(content) = self.unwritten.lock().clone() else { return Ok(()) };
        self.write(&self.certificate_path(), content.as_bytes())?;
        info!("the certificate is written now");
        // Nobody else keeps one: whoever orders and whoever writes take turns.
        *self.unwritten.lock() = None;
        Ok(())
    }

    fn account_path(&self) -> PathBuf {
        self.directory.join("account.json")
    }

    fn certificate_path(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    /// Replaces a file as a whole, or not at all.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let draft = path.with_extension("new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(&self.directory)?.sync_all()
    }
}

/// A pair in one file.
fn both_in(path: PathBuf) -> PairFiles {
    PairFiles { certificate: path.clone(), key: path }
}

/// Whether a certificate has exactly these names.
fn is_for(pair: &Pair, domains: &[String]) -> bool {
    let wanted: BTreeSet<String> = domains.iter().cloned().collect();
    names(&pair.certified.cert[0]).is_some_and(|names| names == wanted)
}

/// The names in a certificate.
fn names(certificate: &CertificateDer<'_>) -> Option<BTreeSet<String>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Some(dns.collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::pair::tests::Made;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const CA: &str = "https://ca.example/dir";

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The pair that was made last, as an authority gives it.
    fn pem(made: &Made) -> String {
        let read = |path| fs::read_to_string(path).unwrap();
        read(&made.files.key) + &read(&made.files.certificate)
    }

    #[test]
    fn a_certificate_is_kept_for_its_names_and_authority_only() {
        let made = Made::new();
        let kept = Kept::open(&made.dir.path().join("acme")).unwrap();
        let now = SystemTime::now();
        let keep = |directory: &str| {
            kept.keep_certificate(directory, &owned(&["localhost"]), &pem(&made), now).unwrap();
        };
        let pair = |names: &[&str]| kept.pair(CA, &owned(names), now);
        assert!(pair(&["localhost"]).is_none());
        keep(CA);
        keep(CA);
        assert!(pair(&["localhost"]).is_some());
        assert!(pair(&["localhost", "other.example"]).is_none());
        assert!(pair(&[]).is_none());
        // Whoever has tried out an authority for tests gets a real one when its directory is set.
        keep("https://staging.ca.example/dir");
        assert!(pair(&["localhost"]).is_none());
        assert!(kept.any_pair().is_some(), "better than nothing, meanwhile");
        let permissions = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(permissions(&kept.certificate_path()), 0o600);
        assert_eq!(permissions(&kept.directory), 0o700);
    }

    /// By a clock that is wrong, each new certificate once took the place of a good one, was then found to be of no use, and was
    /// ordered again.
    #[test]
    fn a_certificate_that_cannot_be_used_leaves_the_one_that_is_kept() {
        let made = Made::new();
        let kept = Kept::open(&made.dir.path().join("acme")).unwrap();
        let (now, localhost) = (SystemTime::now(), owned(&["localhost"]));
        let keep = |domains: &[&str]| kept.keep_certificate(CA, &owned(domains), &pem(&made), now);
        let shown = || kept.pair(CA, &localhost, now).map(|pair| pair.certified.cert[0].to_vec());
        let good = made.certificate();
        keep(&["localhost"]).unwrap();
        made.renew(-7_200, -3_600);
        let refusal = format!("{:#}", keep(&["localhost"]).unwrap_err());
        assert!(refusal.contains("the certificate in the answer of the authority expired"), "{refusal}");
        assert_eq!(shown(), Some(good.clone()));
        made.renew(-60, 3_600);
        let refusal = format!("{:#}", keep(&["push.example.com"]).unwrap_err());
        assert!(refusal.contains("for other names"), "{refusal}");
        assert_eq!(shown(), Some(good));

        // One that only has to be waited for is not lost.
        let early = made.renew(3_600, 7_200);
        keep(&["localhost"]).unwrap();
        assert_eq!(shown(), Some(early));
        assert!(kept.any_pair().is_none(), "its time has not come");
    }
    /// On a full disk an authority was asked for one certificate after the other, and each was thrown away.
    #[test]
    fn a_certificate_that_cannot_be_written_is_used_and_written_later() {
        let made = Made::new();
        let kept = Kept::open(&made.dir.path().join("acme")).unwrap();
        let (now, localhost) = (SystemTime::now(), owned(&["localhost"]));
        let shown = |kept: &Kept| kept.pair(CA, &localhost, now).map(|pair| pair.certified.cert[0].to_vec());
        let old = made.certificate();
        kept.keep_certificate(CA, &localhost, &pem(&made), now).unwrap();
        let new = made.renew(-60, 3_600);
        // In the place of its draft, so that there is no room for it.
        let obstacle = kept.certificate_path().with_extension("new");
        fs::create_dir(&obstacle).unwrap();
        kept.keep_certificate(CA, &localhost, &pem(&made), now).unwrap();
        assert_eq!(shown(&kept), Some(new.clone()));
        assert!(kept.write_again().is_err());
        assert_eq!(shown(&Kept::open(&kept.directory).unwrap()), Some(old), "on the disk it is not yet");
        fs::remove_dir(&obstacle).unwrap();
        kept.write_again().unwrap();
        for kept in [&kept, &Kept::open(&kept.directory).unwrap()] {
            assert_eq!(shown(kept), Some(new.clone()));
        }
        assert!(kept.unwritten.lock().is_none());
    }
}
