//! What a server says of itself that no server may say: that it panicked, or that something was which cannot be.

use anyhow::{Result, ensure};

use crate::server::Server;

/// Counters that stay at zero. Some of them have a value for each of their labels.
const NEVER: [&str; 3] = [
    "channelapi_panics_total",
    "channelapi_invariant_violations_total",
    "channelapi_publications_out_of_order_total",
];

/// Where panics come from that a test has asked for.
const ASKED_FOR: &str = "failpoint.rs";

/// The symptoms of a server that runs, with those that its lives before left in the log.
pub(crate) async fn of(server: &Server) -> Result<Vec<String>> {
    let mut symptoms = panics(&server.whole_log());
    symptoms.extend(counted(&server.metrics().await?)?);
    Ok(symptoms)
}

fn panics(log: &str) -> Vec<String> {
    let panics = log.lines().filter(|line| line.contains("panicked at") && !line.contains(ASKED_FOR));
    panics.map(str::to_owned).collect()
}

/// The counters that are not at zero, as the metrics show them.
fn counted(metrics: &str) -> Result<Vec<String>> {
    let mut counted = Vec::new();
    for name in NEVER {
        let is_named = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let values: Vec<_> = metrics.lines().filter(is_named).collect();
        ensure!(!values.is_empty(), "nobody counts {name}");
        counted.extend(values.into_iter().filter(|line| !line.ends_with(" 0")).map(str::to_owned));
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_found_unless_a_test_asked_for_them() {
        let asked =
            "thread 'log-writer' panicked at crates/channelapi-core/src/failpoint.rs:40:26:\nfailpoint x";
        let other = "thread 'main' panicked at crates/channelapi/src/main.rs:1:2:";
        assert_eq!(panics(&format!("ready\n{asked}\nready")), [""; 0]);
        assert_eq!(panics(&format!("ready\n{asked}\n{other}\nwhy")), [other]);
    }

    #[test]
    fn counters_of_what_cannot_be_are_found() {
        let page = |panics: u32, sockets: u32, order: u32| {
            format!(
                "# HELP channelapi_panics_total Panics.\nchannelapi_panics_total {panics}\n\
                 channelapi_publications_total 7\n\
                 channelapi_invariant_violations_total{{invariant=\"upgraded_socket\"}} {sockets}\n\
                 channelapi_publications_out_of_order_total {order}\n"
            )
        };
        let check = |page: &str, expected: &[&str]| assert_eq!(counted(page).unwrap(), expected, "{page}");
        check(&page(0, 0, 0), &[]);
        check(&page(10, 0, 0), &["channelapi_panics_total 10"]);
        check(
            &page(0, 1, 2),
            &[
                "channelapi_invariant_violations_total{invariant=\"upgraded_socket\"} 1",
                "channelapi_publications_out_of_order_total 2",
            ],
        );
        assert!(counted("channelapi_panics_total 0\n").is_err(), "the others are not there");
    }
}
