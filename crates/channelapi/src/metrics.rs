//! Every metric, declared once: its name, what it means, and where its value is from.
//!
//! Counting is one line where something happens, as `JoinRefused::Token.count()`: one relaxed addition, no lock, nothing to hand down.
//!
//! - `counters.rs` is what is counted, `readings.rs` what is read when somebody asks, `process.rs` of the kernel; `declare.rs` is how both
//!   are written down.
//! - `proven.rs` fails when a counter is added that no test looks at.
//! - `page.rs` shows it all. It prints `docs/metrics.md` too, and a test fails when that differs.

#[macro_use]
mod declare;
mod counters;
mod page;
mod process;
mod readings;

pub(crate) use counters::{
    ANSWERS_GIVEN_UP, AckRefused, CertificateOrdered, CertificateReloaded, ConnectionRefused, Disconnected,
    EventReceived, HandshakeRefused, HttpRefused, HttpTimeout, InvariantViolated, JoinRefused, JwksFetched,
    LOG_LINES_DROPPED, OPENED, PUT_OUT, REVOKED, RequestRefused, RestEnded, Resumed, UPGRADED, UpgradeFailed,
    count_gap,
};
pub(crate) use page::{CONTENT_TYPE, page};
pub(crate) use process::{max_files, resident_bytes};
pub(crate) use readings::Readings;

use std::panic::PanicHookInfo;

/// Counts panics from now on, and says them so.
pub(crate) fn count_panics(say: fn(&PanicHookInfo<'_>)) {
    std::panic::set_hook(Box::new(move |panic| {
        counters::PANICS.count();
        say(panic);
    }));
}

/// What one counter of this process says, by its name and label.
#[cfg(test)]
pub(crate) fn counted(series: &str) -> u64 {
    let page = page(&Readings::default());
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("there is no {series}"))
}

#[cfg(test)]
mod proven;

#[cfg(test)]
mod tests {
    use super::counters::{PANICS, families, totals};
    use super::readings::gauges;
    use super::*;
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Whether it stands for itself as a name and between quotes.
    fn is_plain(text: &str) -> bool {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    }

    #[test]
    fn names_are_unique_and_say_their_unit() {
        let mut names = HashSet::new();
        let all = families().into_iter().map(|family| (family.name, family.help, true));
        let all = all.chain(totals().into_iter().map(|total| (total.name, total.help, true)));
        let gauges = gauges().into_iter().map(|gauge| (gauge.name, gauge.help, gauge.kind == "counter"));
        for (name, help, is_counter) in all.chain(gauges) {
            assert!(names.insert(name), "{name} is there twice");
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(help.trim().ends_with('.') && help.len() > 10, "{name}: {help}");
            assert!(is_plain(name) && !help.contains(['\n', '\\']), "{name} would have to be escaped");
        }
        for family in families() {
            assert!(family.values.iter().all(|(value, _)| is_plain(value)) && is_plain(family.label));
            let values: HashSet<_> = family.values.iter().map(|(value, _)| value).collect();
            assert_eq!(values.len(), family.values.len(), "{}", family.name);
        }
    }

    #[test]
    fn a_panic_counts_and_is_still_said() {
        static SAID: AtomicBool = AtomicBool::new(false);
        let before = PANICS.value();
        count_panics(|panic| {
            SAID.fetch_or(panic.payload_as_str() == Some("on purpose"), Ordering::Relaxed);
            // Those of other tests must be seen, too.
            eprintln!("{panic}");
        });
        _ = std::thread::spawn(|| panic!("on purpose")).join();
        assert!(PANICS.value() > before && SAID.load(Ordering::Relaxed));
    }
}
