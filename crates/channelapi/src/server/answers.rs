//! What is answered where no room has anything to say.

use crate::http::{self, Response};
use crate::metrics::RequestRefused;
use hyper::StatusCode;

/// Refuses a request to the server itself that has a key in its URL. Counts it.
pub(super) fn key_in_url() -> Response {
    RequestRefused::Query.count();
    let body = r#"{"success": false, "message": "A key in a URL ends up in logs and histories: send it as Authorization: Bearer <key>."}"#;
    http::json(StatusCode::BAD_REQUEST, body)
}

/// There is nothing at a path.
pub(super) fn not_found(is_for_clients: bool) -> Response {
    let public = r#"{"success": false, "message": "There is nothing here. See / for what there is."}"#;
    let internal = r#"{"success": false, "message": "There is nothing here: clients and the page are on the public listener."}"#;
    http::json(StatusCode::NOT_FOUND, if is_for_clients { public } else { internal })
}
