//! `GET /healthz`: whether the process is alive and serves requests.

use crate::http::{self, Response};
use hyper::StatusCode;

/// The answer, for people and load balancers: the status is what counts.
pub(crate) fn answer(connections: usize, channels: usize) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let body = format!(
        r#"{{"status": "ok", "version": "{version}", "connections": {connections}, "channels": {channels}}}"#
    );
    http::json(StatusCode::OK, body)
}
