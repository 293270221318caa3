//! The metrics as text: the page that is scraped, in the text format of Prometheus, and the page that is read by people.
//!
//! Invariant: nothing on it needs escaping, because no text of it is from outside. `docs/adr/0008-metrics-text-by-hand.md` has the reasons.

use super::counters::{families, totals};
use super::declare::{Family, Total};
use super::readings::{Gauge, Readings, gauges};
use std::fmt::Write as _;

/// The `Content-Type` of [`page`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The name and help text of the metric that tells which program this is; its value is always 1.
const BUILD_INFO: (&str, &str) = ("channelapi_build_info", "Which version this is; the value says nothing.");

/// All metrics at this moment.
pub(crate) fn page(now: &Readings) -> String {
    let mut page = String::with_capacity(16 * 1024);
    let (name, help) = BUILD_INFO;
    head(&mut page, name, help, "gauge");
    _ = writeln!(page, "{name}{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    for Gauge { name, help, kind, read } in gauges() {
        if let Some(value) = read(now) {
            head(&mut page, name, help, kind);
            _ = writeln!(page, "{name} {value}");
        }
    }
    for Total { name, help, counter, .. } in totals() {
        head(&mut page, name, help, "counter");
        _ = writeln!(page, "{name} {}", counter.value());
    }
    for Family { name, help, label, values, counters } in families() {
        head(&mut page, name, help, "counter");
        for ((value, _), counter) in values.iter().zip(counters) {
            _ = writeln!(page, "{name}{{{label}=\"{value}\"}} {}", counter.value());
        }
    }
    page
}

fn head(page: &mut String, name: &str, help: &str, kind: &str) {
    _ = writeln!(page, "# HELP {name} {}\n# TYPE {name} {kind}", help.trim());
}

/// The reference page, in Markdown.
#[cfg(test)]
fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    _ = writeln!(page, "\n## Values\n\n| Metric | Type | Meaning |\n| --- | --- | --- |");
    let (name, help) = BUILD_INFO;
    _ = writeln!(page, "| `{name}` | gauge | {help} |");
    for Gauge { name, help, kind, .. } in gauges() {
        _ = writeln!(page, "| `{name}` | {kind} | {} |", help.trim());
    }
    for Total { name, help, .. } in totals() {
        _ = writeln!(page, "| `{name}` | counter | {} |", help.trim());
    }
    for Family { name, help, label, values, .. } in families() {
        _ = writeln!(page, "\n## `{name}`\n\n{}\n\n| `{label}` | Meaning |\n| --- | --- |", help.trim());
        for (value, about) in values {
            _ = writeln!(page, "| `{value}` | {} |", about.trim());
        }
    }
    page
}

#[cfg(test)]
const INTRODUCTION: &str = "\
# Metrics

This page is printed from the declarations in `crates/channelapi/src/metrics/`.

`GET /metrics` answers in the text format of Prometheus. It needs an API key with the scope `read`, or `admin`, for
all channels: strangers learn nothing. `channelapi key create prometheus --scopes read` makes one (see [Keys](cli.md#keys)).
In Prometheus:

```yaml
scrape_configs:
  - job_name: channelapi
    scheme: https
    authorization:
      credentials_file: /etc/prometheus/channelapi-key
    static_configs:
      - targets: [\"push.example.com:443\"]
```

Without `scheme: https` the key travels unencrypted. With `[internal]` the page is on the internal listener alone, which speaks plain
HTTP: have a Prometheus or an agent on the same machine scrape that, with `127.0.0.1:8889` as the target and `scheme: http`.

Counters count from the start of the process. Every label has a fixed set of values, all of which are always there:
neither users nor channels make the page grow. Whatever is refused, closed or dropped is counted with its reason.
";

#[cfg(test)]
mod tests {
    use super::super::counters::JoinRefused;
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        const SHOWN: &str = "channelapi_joins_refused_total{reason=\"channels\"} ";
        let shown = || -> u64 {
            let page = page(&Readings::default());
            page.lines().find_map(|line| line.strip_prefix(SHOWN)).unwrap().parse().unwrap()
        };
        let before = shown();
        JoinRefused::Channels.count();
        assert!(shown() > before);
        assert_eq!(JoinRefused::Channels.as_str(), "channels");
    }

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let page = page(&Readings { connections: 3, is_ready: true, ..Readings::default() });
        let mut typed = None;
        for line in page.lines() {
            if let Some(about) = line.strip_prefix("# TYPE ") {
                typed = about.split_once(' ');
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert_eq!(typed.map(|(name, _)| name), Some(name), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(page.contains("\nchannelapi_connections 3\n"));
        assert!(page.contains("\nchannelapi_ready 1\n"));
        assert!(page.contains("\nprocess_resident_memory_bytes "));
        assert!(!page.contains("channelapi_certificate_end"), "there is no certificate");
    }

    #[test]
    fn the_reference_page_in_the_repository_is_the_one_we_print() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("PRINT_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == reference(),
            "docs/metrics.md differs; run `PRINT_DOCS=1 cargo test -p channelapi the_reference_page`"
        );
    }
}
