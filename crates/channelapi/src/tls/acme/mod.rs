//! Certificates from an authority that speaks ACME, such as Let's Encrypt: got when there is none, and renewed in time.
//!
//! `order.rs` gets one, `kept.rs` keeps it and the account.

mod kept;
mod order;

use super::certificates::Certificates;
use super::pair::Pair;
use super::proofs::Proofs;
use crate::metrics::CertificateOrdered;
use anyhow::Context as _;
use channelapi_core::limits::{ACME_ORDER_TIMEOUT, ACME_POLL_TIMEOUT, ACME_RETRY_MAX, ACME_RETRY_MIN};
use kept::Kept;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{error, info, warn};

/// What the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcmeSettings {
    /// The names of the certificate.
    pub(crate) domains: Vec<String>,
    /// Where the authority may write to.
    pub(crate) email: Option<String>,
    /// Where it is.
    pub(crate) directory: String,
    /// By what it is recognised, if not by what this machine trusts.
    pub(crate) ca_file: Option<PathBuf>,
    /// How a name is proven.
    pub(crate) challenge: Challenge,
}

/// How an authority is shown that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// By a certificate in a handshake on port 443.
    TlsAlpn,
    /// By a text on port 80.
    Http,
}

/// Looks after the certificate.
#[derive(Debug)]
pub(crate) struct Acme {
    settings: AcmeSettings,
    kept: Kept,
    certificates: Arc<Certificates>,
    proofs: Arc<Proofs>,
}

impl Acme {
    /// Keeps everything below `data_dir`. What the authority is recognised by must be readable.
    pub(super) fn new(
        settings: AcmeSettings,
        data_dir: &Path,
        certificates: Arc<Certificates>,
        proofs: Arc<Proofs>,
    ) -> anyhow::Result<Self> {
        if settings.ca_file.is_some() {
            order::builder(&settings)?;
        }
        let kept = Kept::open(&data_dir.join("acme"))?;
        Ok(Self { settings, kept, certificates, proofs })
    }

    /// Shows the certificate that is kept, and gets new ones in time, until it is dropped.
    pub(crate) async fn keep_up(&self) {
        let mut pair = self.kept_pair();
        match &pair {
            Some(pair) => {
                self.certificates.show(pair);
                self.tell_other_email().await;
            }
            // Some of the names may be in the one that is kept.
            None if self.certificates.is_empty() => {
                self.kept.any_pair().iter().for_each(|pair| self.certificates.show(pair));
            }
            None => {}
        }
        loop {
            if let Some(pair) = &pair {
                tokio::time::sleep(until_renewal(pair, SystemTime::now())).await;
            }
            pair = Some(self.renew(pair.as_ref()).await);
        }
    }

    /// Gets a certificate, however often it takes. The one before is shown meanwhile.
    async fn renew(&self, before: Option<&Pair>) -> Pair {
        let domains = self.settings.domains.join(", ");
        let mut pause = ACME_RETRY_MIN;
        loop {
            match self.obtain().await {
                Ok(pair) => {
                    self.certificates.show(&pair);
                    CertificateOrdered::Issued.count();
                    info!(domains, "new connections get the new certificate");
                    return pair;
                }
                Err(error) => {
                    CertificateOrdered::Failed.count();
                    let retry_in = jittered(pause, 4);
                    let retry_s = retry_in.as_secs();
                    let error = format!("{error:#}");
                    // Whoever is turned away soon should be heard.
                    if before.is_none_or(|before| has_almost_ended(before, SystemTime::now())) {
                        error!(domains, error, retry_s, "cannot get a certificate");
                    } else {
                        warn!(domains, error, retry_s, "cannot renew the certificate yet");
                    }
                    tokio::time::sleep(retry_in).await;
                    pause = (pause * 2).min(ACME_RETRY_MAX);
                }
            }
        }
    }

    async fn obtain(&self) -> anyhow::Result<Pair> {
        let account = order::account(&self.settings, &self.kept);
        let ordered = async { order::order(&account.await?, &self.settings, &self.proofs).await };
        let ordered = tokio::time::timeout(ACME_ORDER_TIMEOUT, ordered).await;
        self.proofs.clear();
        let pem = ordered.context("the authority did not answer in time")??;
        let directory = &self.settings.directory;
        self.kept.keep_certificate(directory, &pem).context("cannot keep the certificate")?;
        self.kept_pair().context("the authority gave a certificate that cannot be used")
    }

    /// What is kept of this authority for these names.
    fn kept_pair(&self) -> Option<Pair> {
        self.kept.pair(&self.settings.directory, &self.settings.domains)
    }

    /// Tells the authority another address to write to, without waiting for the next order.
    async fn tell_other_email(&self) {
        let AcmeSettings { directory, email, .. } = &self.settings;
        if !self.kept.has_other_email(directory, email.as_deref()) {
            return;
        }
        let told = tokio::time::timeout(ACME_POLL_TIMEOUT, order::account(&self.settings, &self.kept)).await;
        let told = told.map_err(anyhow::Error::from).flatten();
        if let Err(error) = told {
            let error = format!("{error:#}");
            warn!(error, "the authority is told acme.email with the next order");
        }
    }
}

/// A certificate is renewed when two thirds of its life are over, a little earlier on some machines than on others.
fn until_renewal(pair: &Pair, now: SystemTime) -> Duration {
    let life = pair.validity.life();
    let age = jittered(life * 2 / 3, 24);
    (pair.validity.from + age).duration_since(now).unwrap_or_default()
}

fn has_almost_ended(pair: &Pair, now: SystemTime) -> bool {
    pair.validity.until.duration_since(now).is_ok_and(|left| left < pair.validity.life() / 8)
}

/// `time`, less a random part of one in `fraction` of it.
fn jittered(time: Duration, fraction: u32) -> Duration {
    // Without random numbers nobody could shake hands, either.
    let part = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
    time.saturating_sub(time.div_f64(fraction.into()).mul_f64(part))
}

#[cfg(test)]
pub(in crate::tls) mod tests {
    use super::super::pair::tests::Made;
    use super::*;
    use std::fs;

    /// Keeps a certificate for `localhost` in this directory, as if the authority had given it. Returns it.
    pub(in crate::tls) fn keep(made: &Made, directory: &str) -> Vec<u8> {
        let issued = Made::new();
        let read = |path| fs::read_to_string(path).unwrap();
        let pem = read(&issued.files.key) + &read(&issued.files.certificate);
        let kept = Kept::open(&made.dir.path().join("acme")).unwrap();
        kept.keep_certificate(directory, &pem).unwrap();
        issued.certificate()
    }

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let made = Made::new();
        made.renew(-1_000, 89_000);
        let pair = made.files.load(SystemTime::now()).unwrap();
        for _ in 0..100 {
            let wait = until_renewal(&pair, pair.validity.from).as_secs();
            assert!((57_499..=60_000).contains(&wait), "{wait}");
        }
        assert_eq!(until_renewal(&pair, pair.validity.from + Duration::from_secs(60_001)), Duration::ZERO);
        let almost = |seconds| has_almost_ended(&pair, pair.validity.from + Duration::from_secs(seconds));
        assert!(!almost(60_000) && almost(80_000));
    }
}
