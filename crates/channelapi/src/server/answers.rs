//! What is answered where no room has anything to say.

use crate::auth::Denied;
use crate::http::{self, Response};
use crate::metrics::RequestRefused;
use hyper::StatusCode;

/// Refuses a request to the server itself that has a key in its URL. Counts it.
pub(super) fn key_in_url() -> Response {
    RequestRefused::Query.count();
    let body = r#"{"success": false, "message": "A key in a URL ends up in logs and histories: send it as Authorization: Bearer <key>."}"#;
    http::json(StatusCode::BAD_REQUEST, body)
}

/// Refuses a request for the metrics. Counts it.
pub(super) fn no_metrics(denied: Denied) -> Response {
    let (status, body) = match denied {
        Denied::Query => return key_in_url(),
        Denied::Several => (
            StatusCode::BAD_REQUEST,
            r#"{"success": false, "message": "The request has several headers Authorization, or several X-API-Key: send one."}"#,
        ),
        Denied::WeakKey => (
            StatusCode::FORBIDDEN,
            r#"{"success": false, "message": "The API key is weak: it counts only where the server is called by its address or as localhost."}"#,
        ),
        _ => (
            StatusCode::FORBIDDEN,
            r#"{"success": false, "message": "The metrics need an API key that may read everywhere: send it as Authorization: Bearer <key>."}"#,
        ),
    };
    denied.reason().count();
    http::json(status, body)
}

/// There is nothing at a path.
pub(super) fn not_found(is_for_clients: bool) -> Response {
    let public = r#"{"success": false, "message": "There is nothing here. See / for what there is."}"#;
    let internal = r#"{"success": false, "message": "There is nothing here: clients and the page are on the public listener."}"#;
    http::json(StatusCode::NOT_FOUND, if is_for_clients { public } else { internal })
}
