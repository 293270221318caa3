//! Certificates from an authority that speaks ACME, such as Let's Encrypt: got when there is none, and renewed in time.
//!
//! `order.rs` gets one, `kept.rs` keeps it and the account.
//!
//! Invariant: what is kept is waited for while it is not valid yet, and between two orders there is a pause, whatever came of the
//! first. So a clock that is wrong is no reason to ask an authority again and again, nor is a disk that is full. When a certificate is
//! renewed is decided once, by the machine's clock; it is kept when that clock is set, or when the machine sleeps.

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

impl AcmeSettings {
    /// Whether an authority can be recognised by what is in this file.
    pub(crate) fn check_ca_file(path: &Path) -> anyhow::Result<()> {
        order::builder_trusting(path).map(drop)
    }
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
        if let Some(path) = &settings.ca_file {
            AcmeSettings::check_ca_file(path)?;
        }
        let kept = Kept::open(&data_dir.join("acme"))?;
        Ok(Self { settings, kept, certificates, proofs })
    }

    /// Shows the certificate that is kept, and gets new ones in time, until it is dropped.
    pub(crate) async fn keep_up(&self) {
        // On one task, so that they take turns with what is kept.
        tokio::select! {
            () = self.keep_fresh() => {}
            () = self.keep_written() => {}
        }
    }

    /// Writes what could not be written, until it is dropped. That costs the authority nothing, so it may be often.
    async fn keep_written(&self) {
        loop {
            tokio::time::sleep(ACME_RETRY_MIN).await;
            if let Err(error) = self.kept.write_again() {
                warn!(%error, "the certificate still cannot be written");
            }
        }
    }

    async fn keep_fresh(&self) {
        let now = SystemTime::now();
        let mut pair = self.kept_pair(now).filter(|pair| pair.validity.begins_in(now).is_none());
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
        let mut pause = ACME_RETRY_MIN;
        let mut due = pair.as_ref().map(renewal_of);
        loop {
            if let (Some(pair), Some(due)) = (&pair, due) {
                tokio::time::sleep(least_pause(pair, pause)).await;
                wait_until(due, SystemTime::now).await;
            }
            let renewed = self.renew(pair.as_ref()).await;
            let next = renewal_of(&renewed);
            pause = pause_behind(next, SystemTime::now(), pause);
            (pair, due) = (Some(renewed), Some(next));
        }
    }

    /// Gets another certificate than the one before, however often it takes. That one is shown meanwhile.
    async fn renew(&self, before: Option<&Pair>) -> Pair {
        let domains = self.settings.domains.join(", ");
        let mut pause = ACME_RETRY_MIN;
        loop {
            // What is kept may have had to wait for its time, or for a clock that is right.
            let kept = self.kept_when_valid().await.filter(|kept| is_other(kept, before));
            let obtained = match kept {
                Some(pair) => Ok(pair),
                None => self.obtain().await.inspect(|_| CertificateOrdered::Issued.count()),
            };
            match obtained {
                Ok(pair) => {
                    self.certificates.show(&pair);
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
        let ordered = order::order(&self.settings, &self.kept, &self.proofs);
        let ordered = tokio::time::timeout(ACME_ORDER_TIMEOUT, ordered).await;
        self.proofs.clear();
        let pem = ordered.context("the authority did not answer in time")??;
        let AcmeSettings { directory, domains, .. } = &self.settings;
        self.kept.keep_certificate(directory, domains, &pem, SystemTime::now())?;
        self.kept_when_valid().await.context("the certificate is not where it was kept")
    }

    /// What is kept of this authority for these names, as soon as it is valid. None if it will not be.
    async fn kept_when_valid(&self) -> Option<Pair> {
        let mut is_said = false;
        loop {
            let now = SystemTime::now();
            let pair = self.kept_pair(now)?;
            let Some(wait) = pair.validity.begins_in(now) else { return Some(pair) };
            if !is_said {
                let wait_s = wait.as_secs();
                error!(
                    wait_s,
                    "the certificate that is kept is not valid yet; is the clock of this machine right?"
                );
                is_said = true;
            }
            // The clock may be set at any time.
            tokio::time::sleep(wait.min(ACME_RETRY_MIN)).await;
        }
    }

    /// What is kept of this authority for these names, if it is valid at `now` or will be.
    fn kept_pair(&self, now: SystemTime) -> Option<Pair> {
        self.kept.pair(&self.settings.directory, &self.settings.domains, now)
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

/// Whether a certificate is not the one before.
fn is_other(pair: &Pair, before: Option<&Pair>) -> bool {
    before.is_none_or(|before| pair.certified.cert != before.certified.cert)
}

/// When a certificate is to be renewed: when two thirds of its life are over, a little earlier on some machines than on others.
fn renewal_of(pair: &Pair) -> SystemTime {
    pair.validity.from + jittered(pair.validity.life() * 2 / 3, 24)
}

/// By a clock that is ahead, each new certificate is to be renewed at once, so there is a pause in any case; only a life of minutes has
/// no room for a whole one.
fn least_pause(pair: &Pair, pause: Duration) -> Duration {
    pause.min(pair.validity.life() / 8)
}

/// How often the clock is looked at while a certificate is not to be renewed yet. Even one that lives for six days has a day left then.
const LOOK_INTERVAL: Duration = Duration::from_hours(1);

/// Waits until it is `due` by the clock that `now` reads. A timer alone does not know that the clock was set, and stands still while the
/// machine sleeps.
async fn wait_until(due: SystemTime, now: impl Fn() -> SystemTime) {
    while let Ok(left) = due.duration_since(now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
    }
}

/// The pause behind an order, after the one before it. One that brought what is to be renewed at once was in vain, as one that failed.
fn pause_behind(due: SystemTime, now: SystemTime, before: Duration) -> Duration {
    if due <= now {
        warn!("the new certificate looks old already; is the clock of this machine right?");
        (before * 2).min(ACME_RETRY_MAX)
    } else {
        ACME_RETRY_MIN
    }
}

fn has_almost_ended(pair: &Pair, now: SystemTime) -> bool {
    let left = pair.validity.until.duration_since(now).unwrap_or_default();
    left < pair.validity.life() / 8
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
        keep_made(made, directory, &Made::new())
    }

    /// The same with the one that was made last in `issued`.
    fn keep_made(made: &Made, directory: &str, issued: &Made) -> Vec<u8> {
        let read = |path| fs::read_to_string(path).unwrap();
        let pem = read(&issued.files.key) + &read(&issued.files.certificate);
        let kept = Kept::open(&made.dir.path().join("acme")).unwrap();
        kept.keep_certificate(directory, &["localhost".to_owned()], &pem, SystemTime::now()).unwrap();
        issued.certificate()
    }

    /// Who looks after a certificate for `localhost` of an authority that does not answer, and what is shown.
    fn acme(made: &Made) -> (Acme, Arc<Certificates>) {
        let settings = AcmeSettings {
            domains: vec!["localhost".to_owned()],
            email: None,
            directory: NOBODY.to_owned(),
            ca_file: None,
            challenge: Challenge::TlsAlpn,
        };
        let certificates = Arc::new(Certificates::new(Arc::default()));
        let acme = Acme::new(settings, made.dir.path(), certificates.clone(), Arc::default()).unwrap();
        (acme, certificates)
    }

    const NOBODY: &str = "https://127.0.0.1:9/dir";

    #[tokio::test]
    async fn a_certificate_that_is_not_valid_yet_is_waited_for_and_not_ordered_again() {
        let (made, issued) = (Made::new(), Made::new());
        let (acme, certificates) = acme(&made);
        issued.renew(2, 3_600);
        let early = keep_made(&made, NOBODY, &issued);
        let shown = async {
            while certificates.shown().is_none() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // An order would fail, and the next look would be most of a minute later.
        tokio::select! {
            () = acme.keep_up() => unreachable!("it goes on until it is dropped"),
            waited = tokio::time::timeout(Duration::from_secs(20), shown) => waited.expect("it is shown"),
        }
        assert_eq!(certificates.shown(), Some(early));
    }

    #[tokio::test]
    async fn what_is_kept_by_now_is_taken_before_anything_is_ordered() {
        let made = Made::new();
        let (acme, certificates) = acme(&made);
        let before = made.files.load(SystemTime::now()).unwrap();
        let kept = keep(&made, NOBODY);
        let renewed = tokio::time::timeout(Duration::from_secs(20), acme.renew(Some(&before))).await.unwrap();
        assert_eq!(renewed.certified.cert[0].to_vec(), kept);
        assert_eq!(certificates.shown(), Some(kept));
        assert!(!is_other(&renewed, Some(&renewed)) && is_other(&renewed, Some(&before)));
    }

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let made = Made::new();
        made.renew(-1_000, 89_000);
        let pair = made.files.load(SystemTime::now()).unwrap();
        for _ in 0..100 {
            let age = renewal_of(&pair).duration_since(pair.validity.from).unwrap().as_secs();
            assert!((57_499..=60_000).contains(&age), "{age}");
        }
        let almost = |seconds| has_almost_ended(&pair, pair.validity.from + Duration::from_secs(seconds));
        assert!(!almost(60_000) && almost(80_000));
        assert!(almost(90_001), "it has ended");
    }

    #[test]
    fn between_two_orders_there_is_a_pause_even_if_a_new_certificate_looks_old() {
        let made = Made::new();
        made.renew(-1_000, 89_000);
        let pair = made.files.load(SystemTime::now()).unwrap();
        let at = |age| pair.validity.from + Duration::from_secs(age);
        let due = renewal_of(&pair);
        // One a minute would be all that an authority gives in a week, within the hour.
        let mut pause = ACME_RETRY_MIN;
        for (age, minutes) in [(60_001, 2), (60_001, 4), (80_000, 8), (1_000_000, 16)] {
            pause = pause_behind(due, at(age), pause);
            assert_eq!(pause, Duration::from_mins(minutes));
            assert_eq!(least_pause(&pair, pause), pause);
        }
        assert_eq!(pause_behind(due, at(60_001), ACME_RETRY_MAX), ACME_RETRY_MAX);
        assert_eq!(pause_behind(due, at(3_600), pause), ACME_RETRY_MIN, "the clock is right again");
        made.renew(-1, 20);
        let short = made.files.load(SystemTime::now()).unwrap();
        let pause = least_pause(&short, ACME_RETRY_MIN);
        assert!(pause < Duration::from_secs(3), "it would end before a whole one is over");
    }

    /// Whoever waited for weeks in one piece missed what was due when the clock had been behind, or the machine had slept.
    #[tokio::test(start_paused = true)]
    async fn a_renewal_is_due_by_the_clock_of_the_machine_whatever_happens_to_it() {
        const HOUR: u64 = 3_600;
        // The clock is set by so many hours, after so many; what is waited for is 1,000 away by then. It is over after so many.
        for (set_after, set_by, ends) in [
            (2_000, 0, 1_000..=1_000),
            (20, 900, 100..=101),
            (20, 5_000, 20..=21),
            (20, -500, 1_500..=1_500),
            (20, -100_000, 101_000..=101_000),
        ] {
            let (started, start) = (tokio::time::Instant::now(), SystemTime::now());
            let now = || {
                let hours = started.elapsed().as_secs() / HOUR;
                let by = if hours >= set_after { set_by } else { 0 };
                let shown = start + started.elapsed();
                let by_hours = Duration::from_hours(i64::unsigned_abs(by));
                if by < 0 { shown - by_hours } else { shown + by_hours }
            };
            wait_until(start + Duration::from_hours(1_000), now).await;
            let waited = started.elapsed().as_secs().div_ceil(HOUR);
            assert!(ends.contains(&waited), "{set_after} {set_by}: {waited}");
        }
    }
}
