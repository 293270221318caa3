//! What is kept of an authority: the account with its key, and the certificate with its key, each in one file that only its
//! owner can read.

use super::super::pair::{Pair, PairFiles};
use anyhow::Context as _;
use instant_acme::AccountCredentials;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tracing::warn;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What the first line of the certificate's file says before the directory of the authority; PEM allows text there.
const ISSUED_AT: &str = "Issued at ";

/// A directory of its own.
#[derive(Debug)]
pub(super) struct Kept(PathBuf);

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
        Ok(Self(directory.to_owned()))
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

    /// The certificate, if it is good, from the authority at `directory`, and has exactly these names.
    pub(super) fn pair(&self, directory: &str, domains: &[String]) -> Option<Pair> {
        let first_line = fs::read_to_string(self.certificate_path()).ok()?.lines().next()?.to_owned();
        let is_from_there = first_line.strip_prefix(ISSUED_AT) == Some(directory);
        let pair = self.any_pair().filter(|_| is_from_there)?;
        (names(&pair.certified.cert[0])? == domains.iter().cloned().collect()).then_some(pair)
    }

    /// The certificate, if it is good, whatever it is for.
    pub(super) fn any_pair(&self) -> Option<Pair> {
        let path = self.certificate_path();
        PairFiles { certificate: path.clone(), key: path }.load(SystemTime::now()).ok()
    }

    /// Keeps a certificate with its key, from the authority at `directory`.
    pub(super) fn keep_certificate(&self, directory: &str, pem: &str) -> io::Result<()> {
        self.write(&self.certificate_path(), format!("{ISSUED_AT}{directory}\n{pem}").as_bytes())
    }

    fn account_path(&self) -> PathBuf {
        self.0.join("account.json")
    }

    fn certificate_path(&self) -> PathBuf {
        self.0.join("certificate.pem")
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
        File::open(&self.0)?.sync_all()
    }
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

    #[test]
    fn a_certificate_is_kept_for_its_names_and_authority_only() {
        let made = Made::new();
        let kept = Kept::open(&made.dir.path().join("acme")).unwrap();
        let pair = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            kept.pair("https://ca.example/dir", &names)
        };
        assert!(pair(&["localhost"]).is_none());
        let read = |path| fs::read_to_string(path).unwrap();
        let pem = read(&made.files.key) + &read(&made.files.certificate);
        kept.keep_certificate("https://ca.example/dir", &pem).unwrap();
        kept.keep_certificate("https://ca.example/dir", &pem).unwrap();
        assert!(pair(&["localhost"]).is_some());
        assert!(pair(&["localhost", "other.example"]).is_none());
        assert!(pair(&[]).is_none());
        // Whoever has tried out an authority for tests gets a real one when its directory is set.
        kept.keep_certificate("https://staging.ca.example/dir", &pem).unwrap();
        assert!(pair(&["localhost"]).is_none());
        assert!(kept.any_pair().is_some(), "better than nothing, meanwhile");
        let permissions = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(permissions(&kept.certificate_path()), 0o600);
        assert_eq!(permissions(&kept.0), 0o700);
    }
}
