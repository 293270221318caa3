//! `GET /healthz`, whether the process is alive, and `GET /readyz`, whether it should get work.

use crate::http::{self, Response};
use channelapi_core::hub::Readiness;
use hyper::StatusCode;

/// Alive: for people and supervisors. The status is what counts.
pub(crate) fn alive(connections: usize, channels: usize) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let body = format!(
        r#"{{"status": "ok", "version": "{version}", "connections": {connections}, "channels": {channels}}}"#
    );
    http::json(StatusCode::OK, body)
}

/// Ready: for load balancers. A server that cannot store should not get publications.
pub(crate) fn ready(readiness: Readiness) -> Response {
    match readiness {
        Readiness::Ready => http::json(StatusCode::OK, r#"{"status": "ready"}"#),
        Readiness::CannotStore => http::json(
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"status": "not ready", "reason": "the disk takes no publications; the log says why"}"#,
        ),
    }
}
