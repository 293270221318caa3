//! `GET /healthz`, whether the process is alive, and `GET /readyz`, whether it should get work.

use crate::http::{self, Response};
use hyper::StatusCode;

/// What there is to say about a process besides that it lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Details {
    /// Connections of clients.
    pub(crate) connections: usize,
    /// Channels that somebody is in.
    pub(crate) channels: usize,
}

/// Alive: for people and supervisors. The status is what counts. `details`, and the version, are not for strangers: a version tells
/// them what to try, and numbers of clients are nobody else's business.
pub(crate) fn alive(details: Option<Details>) -> Response {
    let Some(Details { connections, channels }) = details else {
        return http::json(StatusCode::OK, r#"{"status": "ok"}"#);
    };
    let version = env!("CARGO_PKG_VERSION");
    let body = format!(
        r#"{{"status": "ok", "version": "{version}", "connections": {connections}, "channels": {channels}}}"#
    );
    http::json(StatusCode::OK, body)
}

/// Whether a node should get work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// It should.
    Yes,
    /// Its disk is full, cannot be written, or has failed.
    CannotStore,
    /// It takes nothing new.
    ShortOfMemory,
    /// It speaks TLS, and nobody would shake hands with it.
    NoCertificate,
    /// It will stop.
    Stopping,
}

/// Ready: for load balancers. A server that cannot store should not get publications.
pub(crate) fn ready(ready: Ready) -> Response {
    let reason = match ready {
        Ready::Yes => return http::json(StatusCode::OK, r#"{"status": "ready"}"#),
        Ready::CannotStore => "the disk takes no publications; the log says why",
        Ready::ShortOfMemory => "memory is short; the log says how much there is",
        Ready::NoCertificate => "there is no certificate to show, or it has ended",
        Ready::Stopping => "the server is stopping",
    };
    let body = format!(r#"{{"status": "not ready", "reason": "{reason}"}}"#);
    http::json(StatusCode::SERVICE_UNAVAILABLE, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_cannot_work_is_not_ready() {
        assert_eq!(ready(Ready::Yes).status(), StatusCode::OK);
        for reason in [Ready::CannotStore, Ready::ShortOfMemory, Ready::NoCertificate, Ready::Stopping] {
            assert_eq!(ready(reason).status(), StatusCode::SERVICE_UNAVAILABLE, "{reason:?}");
        }
    }
}
