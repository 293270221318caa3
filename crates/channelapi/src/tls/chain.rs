//! The certificates of one file: that of the server, and those between it and its root.
//!
//! Invariant: each of them is one, and they are no more than clients take. A handshake shows all, and one that is damaged ends it as
//! surely as if it were the first.

use super::validity::{Days, Validity};
use channelapi_core::limits::{CERTIFICATE_CHAIN_BYTES_MAX, CERTIFICATE_CHAIN_MAX};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;
use std::time::SystemTime;
use thiserror::Error as ThisError;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

/// A chain that can be shown.
pub(super) struct Chain {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// When the first begins and ends to be valid.
    pub(super) validity: Validity,
    /// What may keep clients from believing it.
    pub(super) warnings: Vec<String>,
}

/// What is wrong with the certificates of a file, said behind its name.
#[derive(Debug, ThisError)]
pub(crate) enum ChainError {
    /// There is none.
    #[error("holds no certificate; it must be PEM, with a line that says BEGIN CERTIFICATE")]
    Empty,
    /// One is none, by its number.
    #[error("holds a certificate that is damaged, number {0}; get it again from whoever issued it")]
    Damaged(usize),
    /// The first is too old.
    #[error(
        "holds a certificate of X.509 version {0}, and TLS wants version 3; make it with an extension such as subjectAltName"
    )]
    OldVersion(u32),
    /// There are too many.
    #[error(
        "holds more than {CERTIFICATE_CHAIN_MAX} certificates, and no client takes so many; it must hold that of the server, and behind it those between it and its root, not all that a machine trusts"
    )]
    TooMany,
    /// They are too large.
    #[error(
        "holds certificates of more than {} KiB, and no client takes so much; it must hold that of the server, and behind it those between it and its root",
        CERTIFICATE_CHAIN_BYTES_MAX / 1024
    )]
    TooLarge,
}

impl Chain {
    /// Reads the chain in `pem`, which is in the file `path`, and looks at it as clients do at `now`. Whether its first certificate is valid
    /// then is not judged.
    pub(super) fn read(path: &Path, pem: &[u8], now: SystemTime) -> Result<Self, ChainError> {
        let mut certificates = Vec::new();
        let mut bytes = 0;
        for found in CertificateDer::pem_slice_iter(pem) {
            if certificates.len() == CERTIFICATE_CHAIN_MAX {
                return Err(ChainError::TooMany);
            }
            let certificate = found.map_err(|_| ChainError::Damaged(certificates.len() + 1))?;
            bytes += certificate.len();
            if bytes > CERTIFICATE_CHAIN_BYTES_MAX {
                return Err(ChainError::TooLarge);
            }
            certificates.push(certificate);
        }
        let parsed = (1..).zip(&certificates).map(|(number, certificate)| {
            match X509Certificate::from_der(certificate) {
                Ok(([], parsed)) => Ok(parsed),
                _ => Err(ChainError::Damaged(number)),
            }
        });
        let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        let first = parsed.first().ok_or(ChainError::Empty)?;
        if first.version() != X509Version::V3 {
            return Err(ChainError::OldVersion(first.version().0 + 1));
        }
        let (validity, warnings) = (Validity::of(first), warnings(path, &parsed, now));
        Ok(Self { certificates, validity, warnings })
    }
}

/// What may keep clients from believing a chain. Some find certificates that are missing, and pass over what they do not need: so it is not
/// refused.
fn warnings(path: &Path, chain: &[X509Certificate<'_>], now: SystemTime) -> Vec<String> {
    let path = path.display();
    let mut warnings = Vec::new();
    if let [alone] = chain
        && alone.issuer().as_raw() != alone.subject().as_raw()
    {
        warnings.push(format!(
            "{path} holds one certificate, issued by {}; unless that is a root that clients trust, they refuse it: put the certificates between it and its root behind it",
            alone.issuer()
        ));
    }
    for (number, pair) in (1..).zip(chain.windows(2)) {
        let [one, next] = pair else { continue };
        if one.issuer().as_raw() != next.subject().as_raw() {
            warnings.push(format!(
                "certificate {number} in {path} is issued by {}, and behind it is that of {}; clients may refuse it: each must be followed by that of its issuer",
                one.issuer(),
                next.subject()
            ));
        }
    }
    for (number, certificate) in (1..).zip(chain).skip(1) {
        let validity = Validity::of(certificate);
        let when = match (validity.ended(now), validity.begins_in(now)) {
            (Some(ago), _) => format!("expired {} ago", Days(ago)),
            (None, Some(after)) => format!("becomes valid in {}", Days(after)),
            (None, None) => continue,
        };
        warnings.push(format!(
            "certificate {number} in {path}, that of {}, {when}; clients may refuse what it vouches for: get the whole chain again from whoever issued it",
            certificate.subject()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::pair::tests::Made;
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use std::fs;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_hours(1);

    /// The parameters of a certificate by its name, valid for an hour before and behind now, and then later by so much.
    fn params(name: &str, later: i32) -> CertificateParams {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let now = SystemTime::now();
        let shift = |time: SystemTime| {
            let by = HOUR * later.unsigned_abs();
            if later < 0 { time - by } else { time + by }
        };
        (params.not_before, params.not_after) = (shift(now - HOUR).into(), shift(now + HOUR).into());
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    /// A chain: root, intermediate and leaf, and the leaf's key, which is in the files of `made` then.
    struct Signed {
        made: Made,
        root: String,
        middle: String,
        leaf: String,
    }

    impl Signed {
        fn new(later: i32) -> Self {
            let made = Made::new();
            let authority = |name: &str, later| {
                let mut params = params(name, later);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                (params, KeyPair::generate().unwrap())
            };
            let (root, root_key) = authority("root", 0);
            let root_pem = root.self_signed(&root_key).unwrap().pem();
            let (middle, middle_key) = authority("middle", later);
            let root = Issuer::new(root, root_key);
            let middle_pem = middle.signed_by(&middle_key, &root).unwrap().pem();
            let (middle, key) = (Issuer::new(middle, middle_key), KeyPair::generate().unwrap());
            let leaf = params("leaf", 0).signed_by(&key, &middle).unwrap().pem();
            fs::write(&made.files.key, key.serialize_pem()).unwrap();
            Self { made, root: root_pem, middle: middle_pem, leaf }
        }

        fn with(&self, parts: &[&str]) -> Result<Vec<String>, String> {
            fs::write(&self.made.files.certificate, parts.concat()).unwrap();
            let loaded = self.made.files.load(SystemTime::now());
            loaded.map(|pair| pair.warnings).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn what_may_keep_clients_from_believing_a_chain_is_told() {
        let signed = Signed::new(0);
        let (root, middle, leaf) = (&*signed.root, &*signed.middle, &*signed.leaf);
        assert_eq!(signed.with(&[leaf, middle]), Ok(vec![]));
        assert_eq!(signed.with(&[leaf, middle, root]), Ok(vec![]));
        let told = |parts: &[&str]| {
            let warnings = signed.with(parts).unwrap();
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].contains(signed.made.dir.path().to_str().unwrap()), "{warnings:?}");
            warnings[0].clone()
        };
        let alone = told(&[leaf]);
        assert!(alone.contains("holds one certificate, issued by CN=middle"), "{alone}");
        let unlinked = told(&[leaf, root]);
        assert!(unlinked.contains("certificate 1 in ") && unlinked.contains("that of CN=root"), "{unlinked}");
        let unlinked = told(&[leaf, middle, leaf]);
        assert!(unlinked.contains("certificate 2 in ") && unlinked.contains("that of CN=leaf"), "{unlinked}");

        for (later, part) in
            [(-2, "that of CN=middle, expired 60 minutes ago"), (2, "that of CN=middle, becomes valid in ")]
        {
            let signed = Signed::new(later);
            let warnings = signed.with(&[&signed.leaf, &signed.middle]).unwrap();
            assert!(warnings.len() == 1 && warnings[0].contains(part), "{warnings:?}");
            assert!(warnings[0].starts_with("certificate 2 in "), "{warnings:?}");
        }
    }

    /// Once, only the first was looked at: whatever was behind it replaced a good chain, and no client could connect any more.
    #[test]
    fn each_certificate_of_a_chain_is_read_and_they_are_not_too_many() {
        let signed = Signed::new(0);
        let (middle, leaf) = (&*signed.middle, &*signed.leaf);
        let refused = |parts: &[&str], why: &str| {
            let refusal = signed.with(parts).unwrap_err();
            assert!(refusal.contains(why), "{refusal}");
            assert!(refusal.contains(signed.made.files.certificate.to_str().unwrap()), "{refusal}");
        };
        let none = "-----BEGIN CERTIFICATE-----\naGVsbG8gd29ybGQ=\n-----END CERTIFICATE-----\n";
        let cut = middle.strip_suffix("-----END CERTIFICATE-----\n").unwrap_or(&middle[..middle.len() - 30]);
        refused(&[leaf, none], "damaged, number 2");
        refused(&[leaf, middle, none], "damaged, number 3");
        refused(&[leaf, cut], "damaged, number 2");
        let all = [&[leaf][..], &[middle; CERTIFICATE_CHAIN_MAX - 1]].concat();
        assert!(signed.with(&all).is_ok());
        refused(&[all, vec![middle]].concat(), "more than 10 certificates");

        let (mut large, key) = (params("large", 0), KeyPair::generate().unwrap());
        large.subject_alt_names = (0..1_000)
            .map(|n| rcgen::SanType::DnsName(format!("{n:010}.example").try_into().unwrap()))
            .collect();
        let large = large.self_signed(&key).unwrap().pem();
        assert!(signed.with(&[leaf, &large, &large]).is_ok());
        refused(&[leaf, &large, &large, &large, &large], "more than 63 KiB");
    }
}
