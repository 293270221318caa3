//! From when to when a certificate is valid, and a time in words.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::X509Certificate;

/// How long before its end a certificate is worth a warning.
const LAST_DAYS: Duration = Duration::from_hours(14 * 24);

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

impl Validity {
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let validity = certificate.validity();
        Self { from: time(validity.not_before.timestamp()), until: time(validity.not_after.timestamp()) }
    }

    /// How long it is until the certificate is valid; none if that time has come.
    pub(super) fn begins_in(self, now: SystemTime) -> Option<Duration> {
        self.from.duration_since(now).ok().filter(|wait| !wait.is_zero())
    }

    /// How long ago the certificate ended; none if it has not.
    pub(super) fn ended(self, now: SystemTime) -> Option<Duration> {
        now.duration_since(self.until).ok()
    }

    /// How long it is until the end of a certificate that somebody should have renewed: two weeks before, or for one with a short life,
    /// when a quarter of that is left.
    pub(super) fn ends_soon(self, now: SystemTime) -> Option<Duration> {
        let left = self.until.duration_since(now).unwrap_or_default();
        (left < (self.life() / 4).min(LAST_DAYS)).then_some(left)
    }

    /// How long the certificate is valid at all.
    pub(super) fn life(self) -> Duration {
        self.until.duration_since(self.from).unwrap_or_default()
    }
}

/// A time in words.
pub(super) struct Days(pub(super) Duration);

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
